package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
)

const (
	crashFile   = "SKEP_TEST_CRASH_ENGINE" // the log of a child that is going to be killed
	crashRounds = 40
)

// TestKill: processes that write from 16 goroutines are killed at any moment, two at a time in every other round. What they were told is done
// is there afterwards, batches are whole, and the state is what the log comes to, with or without the snapshots that they kept.
func TestKill(t *testing.T) {
	if file := os.Getenv(crashFile); file != "" {
		submitUntilKilled(t, file)
		return
	}
	dir, all := t.TempDir(), 0
	var file string
	var acknowledged map[string]int // batches, and how many operations each has
	for round := range crashRounds {
		if round%10 == 0 { // a new log from time to time: a long one takes its time to be looked through
			file, acknowledged = filepath.Join(dir, fmt.Sprintf("%d.db", round)), map[string]int{}
		}
		before := len(acknowledged)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 1 + round%2 {
			wg.Go(func() {
				lines, err := runAndKill(t, file, round)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, line := range lines {
					var id string
					var n int
					if got, _ := fmt.Sscanf(line, "done %s %d", &id, &n); got == 2 {
						acknowledged[id] = n
					}
					if strings.HasPrefix(line, "error") {
						t.Errorf("a child said: %s", line)
					}
				}
			})
		}
		wg.Wait()
		if checkKilled(t, file, acknowledged); t.Failed() {
			t.Fatalf("in round %d", round)
		}
		all += len(acknowledged) - before
	}
	t.Logf("%d batches acknowledged in %d rounds", all, crashRounds)
	if all < crashRounds {
		t.Error("the children did not get far enough to test anything")
	}
}

func runAndKill(t *testing.T, file string, round int) (said []string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$", "-test.count=1") //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), crashFile+"="+file, fmt.Sprintf("%s_ROUND=%d", crashFile, round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	first := 1 + round%4*5 // sometimes before anything was acknowledged, sometimes while all write
	for lines.Scan() {
		if said = append(said, lines.Text()); len(said) == first {
			timer := time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
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

// openFile opens the document of a file, and gives it its schema if it has none.
func openFile(t *testing.T, file string) (*engine.Document, func()) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	log, err := oplog.OpenFile(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := engine.Open(ctx, "bench", log, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Head().Seq == 0 {
		submit(t, d, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	}
	return d, func() { _ = log.Close() }
}

// submitUntilKilled is the child. It says "done BATCH NUMBER" after each batch that was acknowledged.
func submitUntilKilled(t *testing.T, file string) {
	t.Helper()
	d, _ := openFile(t, file)
	fmt.Println("here")
	for g := range 16 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d-%d", os.Getenv(crashFile+"_ROUND"), os.Getpid(), g, n)
				requests := make([]config.Request, 1)
				if n%3 == 0 {
					requests = make([]config.Request, 1+rand.IntN(20))
				}
				for i := range requests {
					requests[i] = set(fmt.Sprintf("service.s%d", rand.IntN(50)), "tags", nil)
					requests[i].Add, requests[i].Intent = []any{fmt.Sprintf("%s/%d", id, i)}, fmt.Sprintf("%s %d", id, len(requests))
				}
				if _, err := d.Submit(context.Background(), engine.Batch{Requests: requests}); err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println("done", id, len(requests))
				}
			}
		}()
	}
	for {
		if err := d.Snapshot(context.Background(), 200); err != nil {
			fmt.Println("error", err)
		}
	}
}

// checkKilled compares the log with what was acknowledged.
func checkKilled(t *testing.T, file string, acknowledged map[string]int) {
	t.Helper()
	d, done := openFile(t, file)
	defer done()
	fold, there := config.NewState(), map[string]int{}
	head, err := d.Verify(t.Context(), func(op *config.Op, _ uint64) error {
		fold.Apply(op)
		there[op.Intent]++
		return nil
	})
	if err != nil || head != d.Head() {
		t.Fatalf("the log has %v, %v, the document %v", head, err, d.Head())
	}
	fold.Settle()
	if text, err := fold.Snapshot(); err != nil || string(text) != snapshot(t, d) {
		t.Errorf("the state is not what the log comes to, %v", err)
	}
	for batch, n := range there {
		var id string
		var want int
		if _, err := fmt.Sscan(batch, &id, &want); err == nil && n != want {
			t.Errorf("of batch %s there are %d operations of %d", id, n, want)
		}
	}
	for id, n := range acknowledged {
		if there[fmt.Sprintf("%s %d", id, n)] != n {
			t.Errorf("batch %s was acknowledged and is not there", id)
		}
	}
}
