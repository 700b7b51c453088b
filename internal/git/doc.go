// Package git has the words of Git: object IDs, kinds, reference names, and the text of commits, trees and tags.
//
// Everything here is a value or a parser over bytes in memory; nothing reads a file or a network. Parsers take what came
// from outside: they never panic, never allocate more than their input's size, and wrap errkind.Invalid.
package git
