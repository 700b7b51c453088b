package e2e

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// limitFiles makes the server's writes beyond so many bytes of any file fail, as on a disk that is full.
func (w *world) limitFiles(size uint64) {
	w.t.Helper()
	limit := unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(w.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		w.t.Fatal(err)
	}
}

// What cannot be written to the audit log is not done: neither a change of the control plane, nor a push, whose repository has room.
func TestFullDiskRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const full = 1 << 20
	w.git(".", "init", "-q", "demo")
	w.git("demo", "commit", "-q", "--allow-empty", "-m", "first")
	w.git("demo", "push", "-q", w.remote("demo"), "main")
	for w.size("data/control.db-wal") < full+full/2 { // the control plane's file gets large, the repository's stays small
		if out, err := w.skep("principal", "create", fmt.Sprintf("p%d", w.size("data/control.db-wal"))); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	before := w.auditEntries()

	w.limitFiles(full)
	w.git("demo", "commit", "-q", "--allow-empty", "-m", "second")
	out, err := w.try("demo", nil, "push", w.remote("demo"), "main")
	if err == nil {
		t.Errorf("a push was accepted without an entry in the audit log:\n%s", out)
	}
	t.Logf("git says:\n%s", out)
	for _, args := range [][]string{{"tenant", "create", "acme"}, {"token", "create"}, {"repo", "settings", "default/demo", "--deny-deletes"}} {
		out, err := w.skep(args...)
		if err == nil {
			t.Errorf("%v was done without an entry in the audit log:\n%s", args, out)
		}
		t.Logf("skep says: %s", out)
	}
	if got, want := w.git("demo", "ls-remote", w.remote("demo"), "main"), w.git("demo", "rev-parse", "main~"); !strings.HasPrefix(got, want) {
		t.Errorf("main is at %s, want %s as before", got, want)
	}
	if after := w.auditEntries(); after != before {
		t.Errorf("the log says %q, before %q", after, before)
	}

	// There is room again: everything goes on, and the log is whole.
	w.limitFiles(unix.RLIM_INFINITY)
	w.git("demo", "push", "-q", w.remote("demo"), "main")
	if out, err := w.skep("tenant", "create", "acme"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if after := w.auditEntries(); after == before {
		t.Errorf("the log still says %q", after)
	}
}

// auditEntries verifies the log, and returns what the command says of it.
func (w *world) auditEntries() string {
	w.t.Helper()
	out, err := w.skep("audit", "verify")
	if err != nil {
		w.t.Fatalf("audit verify: %v: %s", err, out)
	}
	return out
}
