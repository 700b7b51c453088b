package odb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// For any history, cut into any packs, and any selection of objects of which the receiver may have any others, real git
// reads from the pack exactly the selection.
func TestPackHasExactlyTheSet(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rngOf(seed)
			repo := newGitRepo(t)
			repo.history(rng, 20+rng.IntN(60))
			s := repo.split(rng, 1+rng.IntN(6))
			if seed%4 == 3 { // without a cache
				s = odb.NewStore(s.Packs(), s.Roots(), nil)
			}
			all := repo.All()
			for range 5 {
				opts := odb.WriteOptions{OfsDelta: rng.IntN(3) > 0}
				share := []int{2, 50, 95, 100}[rng.IntN(4)]
				var send, given []git.OID
				for _, o := range all {
					switch r := rng.IntN(100); {
					case r < share:
						send = append(send, o)
					case rng.IntN(2) == 0:
						given = append(given, o)
					}
				}
				if rng.IntN(2) == 0 {
					opts.Given = setOf(t, s, given)
				} else {
					given = nil
				}
				if rng.IntN(2) == 0 { // as if there were millions
					opts = opts.WithLimits(1+rng.IntN(20), 1+rng.IntN(20))
				}
				checkPack(t, repo, s, send, given, opts)
			}
		})
	}
}

// checkPack writes a pack of some objects and lets real git, which has others, read it.
func checkPack(t *testing.T, repo gitRepo, s *odb.Store, send, given []git.OID, opts odb.WriteOptions) {
	t.Helper()
	var out bytes.Buffer
	sum, err := s.WritePack(t.Context(), &out, setOf(t, s, send), opts)
	if err != nil {
		t.Fatalf("WritePack of %d objects: %v", len(send), err)
	}
	data := out.Bytes()
	if n := binary.BigEndian.Uint32(data[8:]); int(n) != len(send) {
		t.Fatalf("the header says %d objects, want %d", n, len(send))
	}
	if trailer := git.OID(data[len(data)-git.OIDSize:]); trailer != sum {
		t.Fatalf("the trailer is %s, WritePack says %s", trailer, sum)
	}

	receiver := newGitRepo(t)
	if len(given) > 0 {
		receiver.GitIn(string(repo.PackOnly(lines(given))), "unpack-objects", "-q")
	}
	args := []string{"index-pack", "--stdin"}
	if opts.Given != nil {
		args = append(args, "--fix-thin")
	}
	receiver.GitIn(string(data), args...)
	want := slices.Concat(send, given)
	slices.SortFunc(want, git.OID.Compare)
	if got := receiver.All(); !slices.Equal(got, want) {
		t.Fatalf("the receiver has %d objects, want %d sent and %d given", len(got), len(send), len(given))
	}
	if !opts.OfsDelta && hasOfsDelta(t, receiver, data) {
		t.Error("an ofs-delta was sent to a receiver that knows none")
	}
}

// hasOfsDelta reports whether a pack that git could index has entries of type 6.
func hasOfsDelta(t *testing.T, repo gitRepo, data []byte) bool {
	t.Helper()
	name := strings.TrimSpace(repo.GitIn(string(data), "index-pack", "--stdin", "--fix-thin", "--keep"))
	_, name, _ = strings.Cut(name, "\t")
	listing := repo.Git("verify-pack", "-v", "objects/pack/pack-"+name+".idx")
	for line := range strings.Lines(listing) {
		f := strings.Fields(line)
		if len(f) != 7 { // a delta: ID, kind, size, size in pack, offset, depth, base
			continue
		}
		var at int
		fmt.Sscan(f[4], &at)
		if at < len(data) && data[at]>>4&7 == 6 {
			return true
		}
	}
	return false
}

func lines(list []git.OID) string {
	var b strings.Builder
	for _, o := range list {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// What a fetch sends is closed over links with what the receiver has: git then checks it strictly.
func TestFetchedPackPassesStrictChecks(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rngOf(100 + seed)
			repo := newGitRepo(t)
			repo.history(rng, 60)
			s := repo.split(rng, 1+int(seed))
			given := repo.reachable("main~9")
			send := slices.DeleteFunc(repo.reachable("main"), func(o git.OID) bool { return slices.Contains(given, o) })

			var out bytes.Buffer
			opts := odb.WriteOptions{OfsDelta: true, Given: setOf(t, s, given)}
			if _, err := s.WritePack(t.Context(), &out, setOf(t, s, send), opts); err != nil {
				t.Fatal(err)
			}
			receiver := newGitRepo(t)
			receiver.GitIn(string(repo.PackObjects("main~9")), "unpack-objects", "-q")
			receiver.GitIn(out.String(), "index-pack", "--stdin", "--fix-thin", "--strict")
			receiver.Git("update-ref", "refs/heads/main", repo.OID("main").String())
			receiver.Git("fsck", "--strict", "--no-dangling")
		})
	}
}

// A set that is one whole pack goes out as the stored pack, byte for byte.
func TestWholePackIsSentVerbatim(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(11), 40)
	data := repo.PackObjects("", "--all", "--delta-base-offset")
	s := receive(t, emptyStore(), data)
	all := odb.NewSet(s)
	all.AddAll(s)
	var out bytes.Buffer
	var reports [][2]int
	_, err := s.WritePack(t.Context(), &out, all, odb.WriteOptions{
		OfsDelta: true, Progress: func(done, total int) { reports = append(reports, [2]int{done, total}) },
	})
	if err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes, %v; want the %d of the stored pack", out.Len(), err, len(data))
	}
	if want := [2]int{all.Len(), all.Len()}; len(reports) == 0 || reports[len(reports)-1] != want {
		t.Errorf("progress ends with %v, want %v", reports, want)
	}
}

// A ref-delta may come before its base. Such packs are legal, and sent as well as others.
func TestBasesThatComeLater(t *testing.T) {
	repo := newGitRepo(t)
	rng := rngOf(15)
	repo.history(rng, 60)
	p := receive(t, emptyStore(), repo.PackObjects("", "--all", "--delta-base-offset")).Packs()[0]
	var backwards bytes.Buffer
	w, err := pack.NewWriter(&backwards, uint32(p.Len()))
	if err != nil {
		t.Fatal(err)
	}
	deltas := 0
	for at := pack.Pos(p.Len()); at > 0; at-- {
		var as pack.Base
		if base, ok := p.Base(at - 1); ok {
			as.OID = p.OID(base)
			deltas++
		}
		if err := w.Copy(p, at-1, as); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil || deltas == 0 {
		t.Fatalf("%d deltas, %v", deltas, err)
	}
	s := receive(t, emptyStore(), backwards.Bytes())
	for _, share := range []int{100, 99, 50, 10} {
		for _, ofs := range []bool{true, false} {
			send := slices.DeleteFunc(repo.All(), func(git.OID) bool { return rng.IntN(100) >= share })
			checkPack(t, repo, s, send, nil, odb.WriteOptions{OfsDelta: ofs})
		}
	}
}

func TestPackOfNothing(t *testing.T) {
	s := emptyStore()
	var out bytes.Buffer
	if _, err := s.WritePack(t.Context(), &out, odb.NewSet(s), odb.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	newGitRepo(t).GitIn(out.String(), "index-pack", "--stdin")
}

// Objects that are too big to be held in memory stream, also when their delta base is not sent.
func TestBigObjectsAreStreamed(t *testing.T) {
	repo := newGitRepo(t)
	rng := rngOf(12)
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = "0123456789abcdef"[rng.IntN(16)]
	}
	first := repo.GitIn(string(big), "hash-object", "-w", "--stdin")
	copy(big[1<<20:], "changed")
	second := repo.GitIn(string(big), "hash-object", "-w", "--stdin")
	s := receive(t, emptyStore(), repo.PackOnly(first+second, "--window=10"))
	for _, o := range []string{first, second} {
		checkPack(t, repo, s, []git.OID{git.MustParseOID(strings.TrimSpace(o))}, nil, odb.WriteOptions{OfsDelta: true})
	}
}

func TestWritePackStopsWithItsContext(t *testing.T) {
	repo := newGitRepo(t)
	rng := rngOf(13)
	repo.history(rng, 80)
	s := repo.split(rng, 3)
	all := repo.All()
	for _, share := range []int{2, 1} {
		var send []git.OID
		for _, o := range all {
			if rng.IntN(share) == 0 {
				send = append(send, o)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		w := &cutWriter{left: 2000, cut: cancel}
		if _, err := s.WritePack(ctx, w, setOf(t, s, send), odb.WriteOptions{OfsDelta: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("WritePack: %v, want context.Canceled", err)
		}
		cancel()
	}
}

// cutWriter calls cut when some bytes have been written.
type cutWriter struct {
	left int
	cut  func()
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		w.cut()
	}
	return len(b), nil
}

func TestWritePackReportsAFailedWrite(t *testing.T) {
	repo := newGitRepo(t)
	rng := rngOf(14)
	repo.history(rng, 60)
	s := repo.split(rng, 3)
	var send []git.OID
	for _, o := range repo.All() {
		if rng.IntN(2) == 0 {
			send = append(send, o)
		}
	}
	broken := errors.New("the client has gone")
	for _, after := range []int{0, 100, 5000} {
		r, w := io.Pipe()
		go func() {
			io.CopyN(io.Discard, r, int64(after))
			r.CloseWithError(broken)
		}()
		if _, err := s.WritePack(t.Context(), w, setOf(t, s, send), odb.WriteOptions{OfsDelta: true}); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v, want the writer's error", after, err)
		}
	}
}
