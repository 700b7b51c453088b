package bare

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
)

// Who pushes and who runs the server hear of a hook that could not be started; of one that fails afterwards, only what it says itself.
func TestHooksThatCannotRun(t *testing.T) {
	for _, tt := range []struct{ script, want string }{
		{"#!/does/not/exist\n", "error: cannot run hook post-receive"},
		{"#!/bin/sh\nexit 3\n", ""},
	} {
		r, id := withCommit(t)
		hook := filepath.Join(r.dir, "hooks", "post-receive")
		if err := os.MkdirAll(filepath.Dir(hook), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(hook, []byte(tt.script), 0o700); err != nil { //nolint:gosec // a hook is run
			t.Fatal(err)
		}
		runGit(t, r.dir, "config", "receive.autogc", "false")
		r, err := Open(r.dir, true)
		if err != nil {
			t.Fatal(err)
		}
		var pusher, log bytes.Buffer
		rc := &receiver{repo: r, log: &log, done: []git.RefUpdate{{Name: "refs/heads/main", New: id}}}
		rc.after(context.Background(), &pusher)
		for who, text := range map[string]string{"who pushes": pusher.String(), "who runs the server": log.String()} {
			if tt.want == "" && text != "" || !strings.Contains(text, tt.want) {
				t.Errorf("after the hook %q, %s reads %q, want %q", tt.script, who, text, tt.want)
			}
		}
	}
}
