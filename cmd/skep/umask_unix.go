//go:build unix

package main

import "syscall"

// keepPrivate makes what this process writes its owner's alone, even in a data folder that others may enter.
func keepPrivate() { syscall.Umask(0o077) }
