//go:build unix

package format

import (
	"os/exec"
	"syscall"
)

// withItsChildren makes the end of a program the end of those that it started.
func withItsChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
