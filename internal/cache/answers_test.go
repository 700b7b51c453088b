package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/skep-dev/skep/internal/cache"
)

const (
	memory = 8 << 10 // so an answer stays in memory up to 1 KiB
	disk   = 4 << 20 // and on disk up to 1 MiB
)

func newAnswers(t *testing.T) (*cache.Answers, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "answers")
	a, err := cache.OpenAnswers(dir, memory, disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, dir
}

func key(n int) cache.Key { return cache.Key{Owner: "anybody", Hash: [32]byte{byte(n), byte(n >> 8)}} }

// content is what the answer of a size must be.
func content(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 31 >> 3)
	}
	return b
}

// writer makes an answer in pieces of at most 1000 bytes.
func writer(size int) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		data := content(size)
		for len(data) > 0 {
			n := min(1000, len(data))
			if _, err := w.Write(data[:n]); err != nil {
				return err
			}
			data = data[n:]
		}
		return nil
	}
}

var sizes = []struct {
	name string
	size int
	kept bool
}{
	{"empty", 0, true},
	{"memory", 1000, true},
	{"file", 100_000, true},
	{"direct", 3 << 20, false},
}

func TestAnswersAreKept(t *testing.T) {
	for _, tt := range sizes {
		t.Run(tt.name, func(t *testing.T) {
			a, dir := newAnswers(t)
			var runs int
			for range 3 {
				var got bytes.Buffer
				err := a.Share(t.Context(), key(1), &got, nil, func(ctx context.Context, w io.Writer) error {
					runs++
					return writer(tt.size)(ctx, w)
				})
				if err != nil || !bytes.Equal(got.Bytes(), content(tt.size)) {
					t.Errorf("Share: %d bytes, %v", got.Len(), err)
				}
				a.WaitMakers()
			}
			if want := 1; tt.kept && runs != want {
				t.Errorf("made %d times, want %d", runs, want)
			}
			if files, _ := os.ReadDir(dir); !tt.kept && len(files) > 0 {
				t.Errorf("%d files of an answer that is not kept", len(files))
			}
		})
	}
}

func TestConcurrentCallersShareOneRun(t *testing.T) {
	for _, tt := range sizes {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := newAnswers(t)
			var runs atomic.Int32
			start := make(chan struct{})
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					var got bytes.Buffer
					err := a.Share(t.Context(), key(1), &got, nil, func(ctx context.Context, w io.Writer) error {
						runs.Add(1)
						<-start
						return writer(tt.size)(ctx, w)
					})
					if err != nil || !bytes.Equal(got.Bytes(), content(tt.size)) {
						t.Errorf("Share: %d bytes, %v", got.Len(), err)
					}
				})
			}
			for a.Followers(key(1)) < 20 {
				runtime.Gosched()
			}
			close(start)
			wg.Wait()
			if runs.Load() != 1 {
				t.Errorf("made %d times", runs.Load())
			}
		})
	}
}

// gate is a client that takes nothing until it is opened, and fails then if it is told to.
type gate struct {
	bytes.Buffer
	open chan struct{}
	err  error
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	if g.err != nil {
		return 0, g.err
	}
	return g.Buffer.Write(p)
}

func TestSlowOrDeadFirstCallerHoldsUpNobody(t *testing.T) {
	dead := errors.New("connection reset")
	for _, tt := range sizes[1:3] {
		for _, first := range []error{nil, dead} {
			synctest.Test(t, func(t *testing.T) {
				a, _ := newAnswers(t)
				client := &gate{open: make(chan struct{}), err: first}
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := a.Share(t.Context(), key(1), client, nil, writer(tt.size)); !errors.Is(err, first) {
						t.Errorf("first Share: %v, want %v", err, first)
					}
				})
				synctest.Wait() // the first one is stuck in its Write
				var got bytes.Buffer
				if err := a.Share(t.Context(), key(1), &got, nil, writer(1)); err != nil || got.Len() != tt.size {
					t.Errorf("second Share: %d bytes, %v", got.Len(), err)
				}
				close(client.open)
				wg.Wait()
				if first == nil && client.Len() != tt.size {
					t.Errorf("the slow one got %d bytes", client.Len())
				}
			})
		}
	}
}

func TestMakingEndsWithItsLastFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAnswers(t)
		held := 0
		hold := func() func() { held++; return func() { held-- } }
		var wg sync.WaitGroup
		caller := func() context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				err := a.Share(ctx, key(1), io.Discard, hold, func(ctx context.Context, w io.Writer) error {
					err := writer(5000)(ctx, w)
					<-ctx.Done()
					return errors.Join(err, ctx.Err())
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Share: %v", err)
				}
			})
			return cancel
		}
		first := caller()
		synctest.Wait()
		second := caller()
		synctest.Wait()
		first()
		synctest.Wait()
		if held != 1 {
			t.Errorf("held %d times while somebody follows", held)
		}
		second()
		wg.Wait()
		a.WaitMakers()
		if held != 0 {
			t.Error("not released when nobody follows")
		}
		if files, _ := os.ReadDir(dir); len(files) != 0 {
			t.Errorf("%d files are left", len(files))
		}
		// The next one starts anew.
		var got bytes.Buffer
		if err := a.Share(t.Context(), key(1), &got, hold, writer(10)); err != nil || got.Len() != 10 {
			t.Errorf("next Share: %d bytes, %v", got.Len(), err)
		}
	})
}

func TestFailedAnswersAreNotKept(t *testing.T) {
	a, dir := newAnswers(t)
	boom := errors.New("boom")
	for _, size := range []int{0, 10, 100_000} {
		err := a.Share(t.Context(), key(1), io.Discard, nil, func(ctx context.Context, w io.Writer) error {
			return errors.Join(writer(size)(ctx, w), boom)
		})
		if !errors.Is(err, boom) {
			t.Errorf("Share of a failure: %v", err)
		}
		err = a.Share(t.Context(), key(1), io.Discard, nil, func(context.Context, io.Writer) error { panic("bang") })
		if err == nil || !strings.Contains(err.Error(), "bang") {
			t.Errorf("Share of a panic: %v", err)
		}
	}
	a.WaitMakers()
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
	var got bytes.Buffer
	if err := a.Share(t.Context(), key(1), &got, nil, writer(10)); err != nil || got.Len() != 10 {
		t.Errorf("Share afterwards: %d bytes, %v", got.Len(), err)
	}
}

func TestDiskLimitHolds(t *testing.T) {
	a, dir := newAnswers(t)
	for n := range 20 {
		if err := a.Share(t.Context(), key(n), io.Discard, nil, writer(1_000_000)); err != nil {
			t.Fatal(err)
		}
		a.WaitMakers()
		var sum int64
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			fi, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			sum += fi.Size()
		}
		if sum > disk {
			t.Fatalf("%d bytes on disk after %d answers, limit %d", sum, n+1, disk)
		}
	}
}

// Given two owners who have answers in memory, on disk, and in the making. What one of them has goes, at once or as soon as
// it is made; who follows an answer gets all of it; the other's answers stay.
func TestDisown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAnswers(t)
		of := func(owner string, size int) cache.Key {
			return cache.Key{Owner: owner, Hash: [32]byte{byte(size >> 8)}}
		}
		share := func(owner string, size int, w io.Writer, produce func(context.Context, io.Writer) error) {
			t.Helper()
			if err := a.Share(t.Context(), of(owner, size), w, nil, produce); err != nil {
				t.Errorf("Share: %v", err)
			}
		}
		const small, large, making = 1000, 100_000, 200_000
		for _, owner := range []string{"mine", "yours"} {
			share(owner, small, io.Discard, writer(small))
			share(owner, large, io.Discard, writer(large))
		}
		release := make(chan struct{})
		var got bytes.Buffer
		var wg sync.WaitGroup
		wg.Go(func() {
			share("mine", making, &got, func(ctx context.Context, w io.Writer) error {
				err := writer(making)(ctx, w)
				<-release
				return err
			})
		})
		synctest.Wait()
		a.Disown("mine")
		a.Disown("nobody")
		if files, _ := os.ReadDir(dir); len(files) != 2 { // yours, and the one in the making
			t.Errorf("%d files", len(files))
		}
		close(release)
		wg.Wait()
		a.WaitMakers()
		if !bytes.Equal(got.Bytes(), content(making)) {
			t.Errorf("whoever followed got %d bytes", got.Len())
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("%d files afterwards", len(files))
		}
		for _, size := range []int{small, large, making} {
			made := false
			share("mine", size, io.Discard, func(context.Context, io.Writer) error { made = true; return nil })
			if !made {
				t.Errorf("the answer of %d bytes is still there", size)
			}
		}
		for _, size := range []int{small, large} {
			share("yours", size, io.Discard, func(context.Context, io.Writer) error {
				t.Errorf("the other's answer of %d bytes is not", size)
				return nil
			})
		}
	})
}

func TestManyCallersManyAnswers(t *testing.T) {
	a, _ := newAnswers(t)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(n)))
			for range 30 {
				k := rng.IntN(8)
				size := []int{0, 10, 1024, 1025, 50_000, 900_000, 1_100_000, 2_000_000}[k]
				ctx, cancel := context.WithCancel(t.Context())
				quit := rng.IntN(4) == 0
				out := &quitter{cancel: cancel, after: size}
				if quit {
					out.after = rng.IntN(size + 1)
				}
				err := a.Share(ctx, key(k), out, nil, writer(size))
				if err != nil && (!quit || !errors.Is(err, context.Canceled)) {
					t.Errorf("Share(%d): %v", size, err)
				}
				if err == nil && !bytes.Equal(out.Bytes(), content(size)) {
					t.Errorf("Share(%d): %d other bytes", size, out.Len())
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// quitter is a client that goes away after some bytes.
type quitter struct {
	bytes.Buffer
	cancel func()
	after  int
}

func (q *quitter) Write(p []byte) (int, error) {
	if q.Len() > q.after {
		q.cancel()
	}
	return q.Buffer.Write(p)
}

func TestCloseEndsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "answers")
	a, err := cache.OpenAnswers(dir, memory, disk)
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	result := make(chan error)
	go func() {
		result <- a.Share(t.Context(), key(1), io.Discard, nil, func(ctx context.Context, w io.Writer) error {
			err := writer(100_000)(ctx, w)
			close(started)
			<-ctx.Done()
			return errors.Join(err, ctx.Err())
		})
	}()
	<-started
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err == nil {
		t.Error("Share succeeded though its maker was ended")
	}
	if err := a.Share(t.Context(), key(1), io.Discard, nil, writer(1)); err == nil {
		t.Error("Share after Close succeeded")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("files are left")
	}
}
