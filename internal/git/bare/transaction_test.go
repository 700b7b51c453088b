package bare

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// git packs references after the state is read and before they are locked.
func TestReferencesPackedMeanwhile(t *testing.T) {
	r, id := withCommit(t)
	state, err := r.readRefs()
	if err != nil {
		t.Fatal(err)
	}
	runGit(t, r.dir, "pack-refs", "--all", "--prune")
	h, err := r.hold(state, change{name: "refs/heads/other", old: id, new: id})
	if err != nil {
		t.Fatal(err)
	}
	defer h.lock.drop()
	if err := state.readPacked(r.common); err != nil {
		t.Fatal(err)
	}
	if err := r.compare(state, h); err != nil || h.now != id {
		t.Errorf("the reference is at %s (%v), want %s", h.now, err, id)
	}
}

// A reference that is deleted does not come up again out of packed-refs, when git packs it while the push is being prepared.
func TestDeletedWhileGitPacks(t *testing.T) {
	r, id := withCommit(t)
	hook := filepath.Join(r.dir, "hooks", "reference-transaction")
	if err := os.MkdirAll(filepath.Dir(hook), 0o700); err != nil {
		t.Fatal(err)
	}
	// The first phase packs without removing the file, which is locked.
	script := "#!/bin/sh\n[ \"$1\" = prepared ] && mv \"$0\" \"$0.off\" && exec git pack-refs --all --no-prune\nexit 0\n"
	if err := os.WriteFile(hook, []byte(script), 0o700); err != nil { //nolint:gosec // a hook is run
		t.Fatal(err)
	}
	if err := r.transaction(context.Background(), r.hooks(), []change{{name: "refs/heads/other", old: id}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(hook + ".off"); err != nil {
		t.Fatalf("the hook did not run: %v", err)
	}
	if got := runGit(t, r.dir, "for-each-ref", "--format=%(refname)"); got != "refs/heads/main" {
		t.Errorf("the references are %q, want only main", got)
	}
	for _, name := range []string{"packed-refs.lock", "packed-refs.new", "refs/heads/other.lock"} {
		if exists(filepath.Join(r.dir, name)) {
			t.Errorf("%s is left", name)
		}
	}
}
