package cell_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/cell"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// The environment of a child that is going to be killed.
const (
	crashDir   = "SKEP_TEST_CRASH_DIR"   // where its cell is
	crashPoint = "SKEP_TEST_CRASH_POINT" // a point of the pipeline at which it kills itself; empty: the parent does
	crashHit   = "SKEP_TEST_CRASH_HIT"   // which time it comes there
)

// A process that writes is killed, at any moment and at each point of the pipeline: every acknowledged update is there
// afterwards, and nothing half-done is.
func TestKill(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	h := newHome(t)
	points := []string{"", "put", "commit", "", "committed", "rewritten", "", "commit", ""}
	refs := map[git.RefName]git.OID{}
	acked := 0
	for round, point := range points {
		said := runAndKill(t, h.dir, point, 1+round*3)
		c := h.open(t)
		verify(t, c)
		acked += checkAcknowledged(t, c, refs, said)
		compact(t, c)
		verify(t, c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(h.opts.TempDir); err != nil { // as the router does
			t.Fatal(err)
		}
		if err := os.Mkdir(h.opts.TempDir, 0o700); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("in round %d, point %q", round, point)
		}
	}
	t.Logf("%d updates acknowledged in %d rounds", acked, len(points))
	if acked < len(points) {
		t.Error("the children did not get far enough to test anything")
	}
}

// runAndKill runs a child until it is dead, and returns what it said.
func runAndKill(t *testing.T, dir, point string, hit int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKill$", "-test.count=1") //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashPoint+"="+point, crashHit+"="+strconv.Itoa(hit))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said = append(said, lines.Text()); len(said) == 1 {
			patience := 20 * time.Second // a child that does not come to its point is a failure of the test
			if point == "" {
				patience = time.Duration(rand.IntN(400)) * time.Millisecond
			}
			timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("the child was not killed: %v\n%s", err, strings.Join(said, "\n"))
	}
	return said
}

// checkAcknowledged compares the cell's references with what a child said: "try REF OID" before each update, "done REF
// OID" after. refs are the values from before, and become those of now.
func checkAcknowledged(t *testing.T, c *cell.Cell, refs map[git.RefName]git.OID, said []string) (acked int) {
	t.Helper()
	tried := map[git.RefName]git.OID{}
	for _, line := range said {
		f := strings.Fields(line)
		if len(f) != 3 || (f[0] != "try" && f[0] != "done") {
			continue
		}
		name, o := git.RefName(f[1]), git.MustParseOID(f[2])
		if f[0] == "try" {
			tried[name] = o
			continue
		}
		refs[name] = o
		delete(tried, name)
		acked++
	}
	for name := range maps.Keys(refs) {
		got, _ := c.View().Refs.Get(name)
		if maybe, unsure := tried[name]; got.OID != refs[name] && (!unsure || got.OID != maybe) {
			t.Errorf("%s is %s; acknowledged was %s, tried %s", name, got.OID, refs[name], maybe)
		}
	}
	clear(refs)
	for _, r := range c.View().Refs.Prefix("refs/heads/w") {
		refs[r.Name] = r.OID
	}
	return acked
}

// writeUntilKilled is the child.
func writeUntilKilled(t *testing.T, dir string) {
	t.Helper()
	h := homeIn(t, dir)
	h.opts.SettleAfter = -1
	point, hits := os.Getenv(crashPoint), 0
	last, err := strconv.Atoi(os.Getenv(crashHit))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	h.opts = h.opts.WithFault(func(at string) error {
		mu.Lock()
		defer mu.Unlock()
		if at == point {
			if hits++; hits == last {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		return nil
	})
	c := h.open(t)
	written := make(chan struct{}, 1) // since the last compaction
	say := func(verb string, name git.RefName, o git.OID) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(os.Stdout, "%s %s %s\n", verb, name, o)
		select {
		case written <- struct{}{}:
		default:
		}
	}
	for w := range 3 {
		go writeBranches(t, c, w, say)
	}
	for range written {
		if err := c.Compact(context.Background()); err != nil && !errors.Is(err, errkind.Conflict) {
			t.Errorf("Compact: %v", err)
		}
	}
}

// writeBranches commits to branches of its own, large and small, and deletes them now and then, for ever.
func writeBranches(t *testing.T, c *cell.Cell, worker int, say func(verb string, name git.RefName, o git.OID)) {
	t.Helper()
	ctx := context.Background()
	for i := 0; ; i++ {
		name := git.Branch(fmt.Sprintf("w%d-%d", worker, rand.IntN(3)))
		ref, exists := c.View().Refs.Get(name)
		if exists && rand.IntN(5) == 0 {
			say("try", name, git.ZeroOID)
			errs, err := c.Update(ctx, nil, []git.RefUpdate{{Name: name, Old: ref.OID}}, protocol.UpdateOptions{})
			if err = errors.Join(append(errs, err)...); err != nil {
				t.Errorf("delete: %v", err)
			}
			say("done", name, git.ZeroOID)
			continue
		}
		size := 10
		if rand.IntN(10) == 0 {
			size = 1200 << 10
		}
		// The commit's ID is known only when it was made: what is made in vain is announced too late to be believed, so
		// it is made first on a branch that nobody checks.
		o, err := c.Commit(ctx, request(git.Branch(fmt.Sprintf("scratch%d", worker)), "file", fmt.Sprint(i)+noise(size, rand.Uint64())))
		if err != nil {
			t.Errorf("commit: %v", err)
		}
		say("try", name, o)
		errs, err := c.Update(ctx, nil, []git.RefUpdate{{Name: name, Old: ref.OID, New: o}}, protocol.UpdateOptions{})
		if err = errors.Join(append(errs, err)...); err != nil {
			t.Errorf("move: %v", err)
		}
		say("done", name, o)
	}
}

// An error at any step is one of that push alone, and the next one finds all as it was.
func TestFailuresInThePipeline(t *testing.T) {
	boom := errors.New("boom")
	for _, point := range []string{"put", "commit", "committed"} {
		t.Run(point, func(t *testing.T) {
			h, r := newHome(t), newRepo(t)
			fail := false
			h.opts = h.opts.WithFault(func(at string) error {
				if at == point && fail {
					return boom
				}
				return nil
			})
			c := h.open(t)
			one := r.commit(noise(1500<<10, 1))
			two := r.commit(noise(1500<<10, 2), one)
			r.push(c, create(main, one))
			fail = true
			if _, err := r.tryPush(c, move(main, one, two)); !errors.Is(err, boom) {
				t.Errorf("push that fails at %q: %v", point, err)
			}
			fail = false
			// When the transaction may be on disk, the next write finds out.
			ref, _ := c.View().Refs.Get(main)
			if ref.OID != one {
				t.Errorf("main is %s after a failure", ref.OID)
			}
			r.push(c, create(topic, one))
			ref, _ = c.View().Refs.Get(main)
			if done := ref.OID == two; done != (point == "committed") {
				t.Errorf("main is %s after a failure at %q", ref.OID, point)
			}
			verify(t, c)
			c = h.reopen(t, c)
			verify(t, c)
			want := 3
			if point == "committed" {
				want = 6
			}
			files := 0
			for _, err := range h.files.List("") {
				if err != nil {
					t.Fatal(err)
				}
				files++
			}
			if files != want {
				t.Errorf("%d files after a reopen, want %d", files, want)
			}
		})
	}
}

func TestQueueOfUpdates(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one := r.commit("one")
	r.push(c, create(main, one))
	release := c.Turn()
	var wg sync.WaitGroup
	leaving, cancel := context.WithCancel(t.Context())
	callers := append([]context.Context{leaving}, slices.Repeat([]context.Context{t.Context()}, 19)...)
	for i, ctx := range callers {
		name := git.Branch(fmt.Sprint("b", i))
		wg.Go(func() {
			errs, err := c.Update(ctx, nil, []git.RefUpdate{create(name, one)}, protocol.UpdateOptions{})
			switch {
			case i == 0 && !errors.Is(err, context.Canceled):
				t.Errorf("Update whose caller left: %v", err)
			case i > 0 && (err != nil || errs[0] != nil):
				t.Errorf("Update: %v, %v", errs, err)
			}
		})
	}
	for c.Pending() < 20 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	for c.Pending() > 19 {
		time.Sleep(time.Millisecond)
	}
	release()
	wg.Wait()
	if got := c.View().Refs.Len(); got != 20 {
		t.Errorf("%d references, want 20", got)
	}
	if got := c.Version(); got != 2 {
		t.Errorf("%d transactions, want one for the first push and one for all others", got)
	}
}
