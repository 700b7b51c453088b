package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skep-dev/skep/internal/git/protocol"
)

func TestMuxerCarriesAPackInAnyPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pack := make([]byte, 1_000_000)
	for i := range pack {
		pack[i] = byte(rng.Uint32())
	}
	for _, most := range []int{protocol.SideBand64k, protocol.SideBandData, protocol.NoSideBand} {
		for _, piece := range []int{1 << 10, 65515, 65516, 300_000, 1_000_000} {
			t.Run(fmt.Sprintf("%d by %d", most, piece), func(t *testing.T) {
				var out, progress bytes.Buffer
				m := protocol.NewMuxer(&out, most)
				for at := 0; at < len(pack); at += piece {
					if _, err := m.Write(pack[at:min(at+piece, len(pack))]); err != nil {
						t.Fatal(err)
					}
				}
				m.Progress("half")
				m.Progress(" and whole\n")
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				if most == protocol.NoSideBand {
					if !bytes.Equal(out.Bytes(), pack) {
						t.Error("without side-band the pack does not come as it is")
					}
					return
				}
				checkPacketSizes(t, out.Bytes(), most)
				got, err := io.ReadAll(protocol.NewSideBandReader(&out, &progress))
				if err != nil || !bytes.Equal(got, pack) {
					t.Errorf("read %d bytes, %v; want the pack's %d", len(got), err, len(pack))
				}
				if progress.String() != "half and whole\n" {
					t.Errorf("progress is %q", progress.String())
				}
			})
		}
	}
}

func checkPacketSizes(t *testing.T, out []byte, most int) {
	t.Helper()
	pr := protocol.NewPktReader(bytes.NewReader(out), 1<<30)
	defer pr.Close()
	for {
		k, b, err := pr.Next()
		if err != nil {
			t.Fatal(err)
		}
		if k == protocol.PktFlush {
			return
		}
		if len(b) > most+1 {
			t.Fatalf("a packet carries %d bytes, more than %d", len(b)-1, most)
		}
	}
}

func TestMuxerFailsInTheWordsOfItsMoment(t *testing.T) {
	t.Run("before the answer", func(t *testing.T) {
		var out bytes.Buffer
		m := protocol.NewMuxer(&out, protocol.SideBand64k)
		m.Fail("no")
		if out.String() != "000bERR no\n" {
			t.Errorf("wrote %q", out.String())
		}
	})
	t.Run("in the answer", func(t *testing.T) {
		var out bytes.Buffer
		m := protocol.NewMuxer(&out, protocol.SideBand64k)
		m.Write([]byte("PA"))
		m.Fail("no")
		m.Progress("late")
		if _, err := m.Write([]byte("CK")); err == nil {
			t.Error("a write after the end is taken")
		}
		if out.String() != "0007\x01PA0008\x03no\n" {
			t.Errorf("wrote %q", out.String())
		}
	})
	t.Run("without side-band", func(t *testing.T) {
		var out bytes.Buffer
		m := protocol.NewMuxer(&out, protocol.NoSideBand)
		m.Write([]byte("PACK"))
		m.Fail("no")
		if out.String() != "PACK" {
			t.Errorf("wrote %q", out.String())
		}
	})
}

func TestMuxerBreaksSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &flushBuffer{}
		m := protocol.NewMuxer(out, protocol.SideBand64k)
		time.Sleep(4 * time.Second)
		m.Write([]byte("PACK")) // stays in the buffer
		synctest.Wait()
		if out.String() != "" {
			t.Fatalf("wrote %q within the first seconds", out.String())
		}
		time.Sleep(1*time.Second + time.Millisecond)
		synctest.Wait()
		if out.String() != "0009\x01PACK" {
			t.Fatalf("wrote %q after five seconds, want what there was", out.String())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if out.String() != "0009\x01PACK0005\x010005\x01" {
			t.Fatalf("wrote %q after fifteen seconds, want an empty packet every five", out.String())
		}
		if out.flushes != 3 {
			t.Errorf("flushed %d times, want 3", out.flushes)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if !strings.HasSuffix(out.String(), "0005\x010000") {
			t.Errorf("wrote %q, want nothing after the flush packet", out.String())
		}
	})
}

func TestMuxerIsSilentAsLongAsItMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for every, want := range map[time.Duration]int{-1: 0, time.Minute: 1, 20 * time.Second: 4} {
			out := &flushBuffer{}
			m := protocol.NewMuxerEvery(out, protocol.SideBand64k, every)
			time.Sleep(90 * time.Second)
			synctest.Wait()
			if got := strings.Count(out.String(), "0005\x01"); got != want {
				t.Errorf("every %v: %d packets in 90 s, want %d", every, got, want)
			}
			m.Abort()
		}
	})
}

func TestMuxerTakesProgressFromOtherGoroutines(t *testing.T) {
	var out bytes.Buffer
	m := protocol.NewMuxer(&out, protocol.SideBandData)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				m.Progress("tick\n")
			}
		})
	}
	for range 1000 {
		m.Write(bytes.Repeat([]byte("p"), 777))
	}
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	got, err := io.ReadAll(protocol.NewSideBandReader(&out, &progress))
	if err != nil || len(got) != 777_000 || progress.Len() != 4*200*5 {
		t.Errorf("read %d bytes and %d of progress, %v", len(got), progress.Len(), err)
	}
}

func TestSideBandReaderRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"band 3", "0008\x03no\n", "remote error: no"},
		{"an ERR line", pkts("ERR gone"), "remote error: gone"},
		{"a band there is not", "0006\x07x", "band 7"},
		{"no flush packet", "0006\x01x", "hung up"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := io.ReadAll(protocol.NewSideBandReader(strings.NewReader(tt.in), nil))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadAll() = %v, want %q in it", err, tt.want)
			}
		})
	}
	if _, err := io.ReadAll(protocol.NewSideBandReader(strings.NewReader("0006\x02x0000"), failing{})); !errors.Is(err, errFailing) {
		t.Errorf("progress that cannot be written: %v", err)
	}
}

var errFailing = errors.New("fail on purpose")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFailing }

// flushBuffer may be looked at while it is written.
type flushBuffer struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	flushes int
}

func (f *flushBuffer) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.Write(p)
}

func (f *flushBuffer) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushes++
}

func (f *flushBuffer) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.String()
}

func BenchmarkMuxer(b *testing.B) {
	piece := make([]byte, 128<<10)
	b.SetBytes(int64(len(piece)))
	m := protocol.NewMuxer(io.Discard, protocol.SideBand64k)
	for b.Loop() {
		m.Write(piece)
	}
	m.Abort()
}
