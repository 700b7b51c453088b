//go:build !unix

package format

import "os/exec"

// withItsChildren does nothing here: only the program itself is ended.
func withItsChildren(*exec.Cmd) {}
