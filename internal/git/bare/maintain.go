package bare

import (
	"context"
	"io"
	"os/exec"
)

// maintain has git look after the repository when it is time, as git's receive-pack does (receive.autoGC). Where git is not installed,
// nobody does: then whoever has removed it sees to that.
func (r *Repo) maintain(ctx context.Context, messages io.Writer) {
	if !r.config.Bool("receive.autogc", true) || r.config.Int("gc.auto", 1) <= 0 {
		return
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return
	}
	cmd := r.hooks().command(ctx, git, messages, "maintenance", "run", "--auto", "--quiet")
	_ = cmd.Run() // it says itself what went wrong; the push is done all the same
}
