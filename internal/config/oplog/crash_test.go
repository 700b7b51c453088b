package oplog_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
	"github.com/skep-dev/skep/internal/errkind"
)

const (
	crashDir    = "SKEP_TEST_CRASH_DIR" // where a child that is going to be killed has its store
	crashRounds = 32
)

// TestKill: processes that write are killed at any moment, two at a time in every other round. What they were told is done is there
// afterwards, and nothing half-done is.
func TestKill(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	acked := 0
	for round := range crashRounds {
		said := runAndKill(t, dir, 1+round%2)
		acked += checkAcknowledged(t, dir, said)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d appends acknowledged in %d rounds", acked, crashRounds)
	if acked < crashRounds {
		t.Error("the children did not get far enough to test anything")
	}
}

// runAndKill runs children until they are dead, and returns what they said.
func runAndKill(t *testing.T, dir string, children int) (said []string) {
	t.Helper()
	var mu sync.Mutex // guards said
	var wg sync.WaitGroup
	for range children {
		wg.Go(func() {
			lines, err := runOneAndKill(t, dir)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			said = append(said, lines...)
		})
	}
	wg.Wait()
	return said
}

func runOneAndKill(t *testing.T, dir string) (said []string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$", "-test.count=1") //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said = append(said, lines.Text()); len(said) == 1 {
			timer := time.AfterFunc(time.Duration(rand.IntN(120_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		return nil, fmt.Errorf("the child was not killed: %w\n%s", err, strings.Join(said, "\n"))
	}
	return said, nil
}

// writeUntilKilled is the child. It says "append NUMBER" and "snapshot NUMBER" after each that was acknowledged.
func writeUntilKilled(t *testing.T, dir string) {
	t.Helper()
	ctx := t.Context()
	fmt.Println("here")
	s, err := oplog.OpenDir(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error, allowed ...errkind.Kind) bool {
		for _, kind := range allowed {
			if errors.Is(err, kind) {
				return false
			}
		}
		if err != nil {
			fmt.Println("error", err)
			t.Fatal(err)
		}
		return true
	}
	must(s.Create(ctx, "shop"), errkind.Exists)
	log, err := s.Open(ctx, "shop")
	must(err)
	for i := 1; ; i++ {
		head, err := log.Head(ctx)
		must(err)
		records := batchOf(head, 1+rand.IntN(40))
		if must(log.Append(ctx, head, records), errkind.Conflict) {
			head = oplogtest.After(records)
			fmt.Println("append", head.Seq)
		}
		if i%5 == 0 && must(log.SaveSnapshot(ctx, head.Seq, stateOf(head.Seq))) {
			fmt.Println("snapshot", head.Seq)
		}
		if i%7 == 0 { // another document comes and goes
			must(s.Create(ctx, "fair"), errkind.Exists)
			must(s.Delete(ctx, "fair"), errkind.NotFound)
		}
	}
}

// batchOf is n records that follow prev. Each says which of how many it is.
func batchOf(prev oplog.Head, n int) []oplog.Record {
	records := make([]oplog.Record, n)
	for i := range records {
		data := fmt.Appendf(nil, "%d of %d %s", i+1, n, strings.Repeat("x", rand.IntN(600)))
		prev = oplog.Head{Seq: prev.Seq + 1, Hash: chained(prev, data)}
		records[i] = oplog.Record{Seq: prev.Seq, Hash: prev.Hash, Data: data}
	}
	return records
}

func chained(prev oplog.Head, data []byte) [32]byte {
	return sha256.Sum256(append(prev.Hash[:], data...))
}

// stateOf is a snapshot of some parts.
func stateOf(seq uint64) []byte { return bytes.Repeat(fmt.Appendf(nil, "%016d", seq), 150_000) }

// checkAcknowledged compares the store with what the children said.
func checkAcknowledged(t *testing.T, dir string, said []string) (appends int) {
	t.Helper()
	last := map[string]uint64{}
	for _, line := range said {
		var what string
		var seq uint64
		if n, _ := fmt.Sscan(line, &what, &seq); n == 2 {
			last[what] = max(last[what], seq)
		}
		if what == "append" {
			appends++
		}
		if what == "error" {
			t.Errorf("a child said: %s", line)
		}
	}
	ctx := context.WithoutCancel(t.Context())
	s, err := oplog.OpenDir(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { checkNoError(t, s.Close()) }()
	if err := s.Create(ctx, "fair"); err != nil && !errors.Is(err, errkind.Exists) {
		t.Errorf("make the document that comes and goes: %v", err)
	}
	log, err := s.Open(ctx, "shop")
	if errors.Is(err, errkind.NotFound) && len(last) == 0 {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { checkNoError(t, log.Close()) }()
	var head oplog.Head
	left := 0 // of a batch
	err = log.Read(ctx, 1, 0, func(r oplog.Record) error {
		var i, n int
		if _, err := fmt.Sscanf(string(r.Data), "%d of %d", &i, &n); err != nil {
			return err
		}
		if left == 0 {
			left = n
		}
		if i != n-left+1 || r.Hash != chained(head, r.Data) {
			return fmt.Errorf("record %d is %d of %d, %d are still to come", r.Seq, i, n, left)
		}
		left--
		head = oplog.Head{Seq: r.Seq, Hash: r.Hash}
		return nil
	})
	checkNoError(t, err)
	if got, err := log.Head(ctx); err != nil || got != head || left != 0 || head.Seq < last["append"] {
		t.Errorf("head is %v, %v; the last record is %d, %d are missing from the last batch, acknowledged was %d", got, err, head.Seq, left, last["append"])
	}
	seq, data, err := log.Snapshot(ctx)
	if (err != nil && last["snapshot"] > 0) || seq < last["snapshot"] || (seq > 0 && !bytes.Equal(data, stateOf(seq))) {
		t.Errorf("the snapshot is of %d with %d bytes, %v; acknowledged was %d", seq, len(data), err, last["snapshot"])
	}
	return appends
}

func checkNoError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
