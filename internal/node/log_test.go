package node_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skep-dev/skep/internal/node"
)

// sink collects what reaches the end of a log.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// take returns what has come since the last take.
func (s *sink) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

func TestLogWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sink
		w := node.NewLogWriter(&out)
		say := func(s string) {
			if _, err := w.Write([]byte(s)); err != nil {
				t.Error(err)
			}
		}
		say("one\n")
		say("two\n")
		if got := out.take(); got != "" {
			t.Errorf("written at once: %q", got)
		}
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		if got := out.take(); got != "one\ntwo\n" {
			t.Errorf("a moment later = %q", got)
		}
		say(strings.Repeat("x", 100<<10))
		if got := out.take(); len(got) != 100<<10 {
			t.Errorf("a large line waits: %d bytes came", len(got))
		}
		say("last\n")
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if got := out.take(); got != "last\n" {
			t.Errorf("at the end = %q", got)
		}
	})
}
