//go:build !unix

package main

// keepPrivate is for systems with a umask.
func keepPrivate() {}
