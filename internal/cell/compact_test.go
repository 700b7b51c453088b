package cell_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/cell"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

func compact(t *testing.T, c *cell.Cell) {
	t.Helper()
	if err := c.Compact(context.Background()); err != nil {
		t.Fatalf("Compact: %v", err)
	}
}

// noise is content that no compression makes smaller.
func noise(n int, seed uint64) string {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = rng.Read(b)
	return string(b)
}

// variant is a text that differs from other variants in a few lines, so that deltas of it are made: some on objects that
// the cell has, in thin packs.
func variant(rng *rand.Rand) string {
	lines := make([]string, 200)
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d of a text of some length", i*i)
	}
	for range 3 {
		lines[rng.IntN(len(lines))] = fmt.Sprintf("another line: %x", rng.Uint64())
	}
	return strings.Join(lines, "\n")
}

func TestCompactionKeepsPacksFew(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	tip := r.commit("0")
	r.push(c, create(main, tip))
	most := 0
	for i := range 60 {
		next := r.commit(fmt.Sprint(i, noise(2000, uint64(i))), tip)
		r.push(c, move(main, tip, next))
		tip = next
		if c.NeedsCompaction() {
			before := c.Stats().Packs
			compact(t, c)
			if after := c.Stats().Packs; after >= before {
				t.Fatalf("Compact made %d packs of %d", after, before)
			}
			if c.NeedsCompaction() {
				t.Fatal("a compaction is needed right after one")
			}
		}
		most = max(most, c.Stats().Packs)
	}
	if most > 14 {
		t.Errorf("up to %d packs", most)
	}
	r.git("update-ref", string(main), tip.String())
	same(t, c, r)
	verify(t, c)
	c = h.reopen(t, c)
	same(t, c, r)
	verify(t, c)
}

func TestCompactionOfLargePacksLeavesNoFiles(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	var tip git.OID
	for i := range 4 {
		var next git.OID
		if i == 0 {
			next = r.commit(noise(2<<20, 1))
		} else {
			next = r.commit(noise(2<<20, uint64(i+1)), tip)
		}
		r.push(c, move(main, tip, next))
		tip = next
	}
	// A reader that came before keeps its view through the compaction.
	release := c.Hold()
	view := c.View()
	compact(t, c)
	if _, err := view.Objects.Read(tip); err != nil {
		t.Errorf("a view from before the compaction: %v", err)
	}
	release()
	n := 0
	for _, err := range h.files.List("") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if got := c.Stats().Packs; got != 1 || n != 3 {
		t.Errorf("%d packs, %d files", got, n)
	}
	r.git("update-ref", string(main), tip.String())
	c = h.reopen(t, c)
	same(t, c, r)
	verify(t, c)
}

func TestUnreachableObjectsAreSetAsideAndDropped(t *testing.T) {
	for _, size := range []int{100, 2 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h, r := newHome(t), newRepo(t)
			h.opts.SettleAfter = -1
			h.opts.Grace = time.Hour
			c := h.open(t)
			base := r.commit("base")
			lost := r.commit(noise(size, 1), base)
			kept := r.commit(noise(size, 2), base)
			r.push(c, create(main, lost))
			r.push(c, move(main, lost, kept)) // forced
			if !c.NeedsCompaction() {
				t.Error("a forced push asks for no compaction")
			}
			compact(t, c)
			if c.View().Objects.Has(lost) || c.Aside() != 1 || c.NeedsCompaction() {
				t.Errorf("lost commit is there: %v, %d packs aside, needs %v", c.View().Objects.Has(lost), c.Aside(), c.NeedsCompaction())
			}
			if roots := c.View().Objects.Roots(); len(roots) != 1 || roots[0] != kept {
				t.Errorf("roots: %v, want %s", roots, kept)
			}
			r.git("update-ref", string(main), kept.String())
			same(t, c, r)
			verify(t, c)

			// Within the time of grace it can be had back by its name.
			c = h.reopen(t, c)
			errs, err := c.Update(t.Context(), nil, []git.RefUpdate{create(topic, lost)}, protocol.UpdateOptions{})
			if err != nil || errs[0] != nil {
				t.Fatalf("restore: %v, %v", errs, err)
			}
			r.git("update-ref", string(topic), lost.String())
			same(t, c, r)
			verify(t, c)

			// After it, it is gone.
			r.push(c, move(topic, lost, git.ZeroOID))
			r.git("update-ref", "-d", string(topic))
			h.opts.Grace = -1
			c = h.reopen(t, c)
			compact(t, c)
			compact(t, c)
			if c.Aside() != 0 {
				t.Errorf("%d packs aside after the time of grace", c.Aside())
			}
			errs, err = c.Update(t.Context(), nil, []git.RefUpdate{create(topic, lost)}, protocol.UpdateOptions{})
			if err != nil || !errors.Is(errs[0], errkind.NotFound) {
				t.Errorf("restore of what is gone: %v, %v", errs, err)
			}
			same(t, c, r)
			verify(t, c)
		})
	}
}

func TestNothingIsSetAsideBeforeItSettles(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one := r.commit("one")
	two := r.commit("two", one)
	r.push(c, create(main, two))
	r.push(c, move(main, two, one))
	compact(t, c)
	if !c.View().Objects.Has(two) || c.NeedsCompaction() {
		t.Error("set aside at once")
	}
	c = h.reopen(t, c)
	h.opts.SettleAfter = -1
	c = h.reopen(t, c)
	if !c.NeedsCompaction() {
		t.Error("the cell forgot that something is to be set aside")
	}
	r.push(c, move(main, one, two)) // and back
	compact(t, c)
	if !c.View().Objects.Has(two) {
		t.Error("what a reference names again was set aside")
	}
	r.push(c, move(main, two, one), create(topic, two))
	r.push(c, move(topic, two, git.ZeroOID))
	compact(t, c)
	if c.View().Objects.Has(two) {
		t.Error("not set aside")
	}
	verify(t, c)
}

func TestEverythingUnreachable(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	h.opts.SettleAfter, h.opts.Grace = -1, -1
	c := h.open(t)
	one := r.commit("one")
	r.push(c, create(topic, one), create("refs/tags/t", one))
	if err := c.SetHead(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	r.push(c, move("refs/tags/t", one, git.ZeroOID))
	other := r.commit("other")
	r.push(c, move(topic, one, other), create(main, other))
	if err := c.SetHead(t.Context(), main); err != nil {
		t.Fatal(err)
	}
	r.push(c, move(topic, other, git.ZeroOID), create("refs/tags/t", one))
	r.push(c, move("refs/tags/t", one, git.ZeroOID))
	compact(t, c)
	if c.View().Objects.Has(one) || !c.View().Objects.Has(other) {
		t.Error("the wrong one was dropped")
	}
	verify(t, c)
	verify(t, h.reopen(t, c))
}

// A push that needs objects while they are being set aside wins over the compaction.
func TestPushesWhileObjectsAreSetAside(t *testing.T) {
	tests := []struct {
		name string
		push func(r *repo, c *cell.Cell, lost git.OID)
		wins bool
	}{
		{"goes back", func(r *repo, c *cell.Cell, lost git.OID) { r.push(c, create(topic, lost)) }, true},
		{"builds on it", func(r *repo, c *cell.Cell, lost git.OID) {
			r.t.Helper()
			next := r.commit("next", lost)
			q, err := c.Quarantine(r.t.Context(), bytes.NewReader(r.pack([]git.OID{next}, []git.OID{lost})), nil)
			if err != nil {
				r.t.Fatal(err)
			}
			defer q.Close()
			errs, err := c.Update(r.t.Context(), q, []git.RefUpdate{create(topic, next)}, protocol.UpdateOptions{})
			if err != nil || errs[0] != nil {
				r.t.Fatal(errs, err)
			}
		}, true},
		{"is about something else", func(r *repo, c *cell.Cell, _ git.OID) { r.push(c, create(topic, r.commit("else"))) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, r := newHome(t), newRepo(t)
			h.opts.SettleAfter = -1
			var c *cell.Cell
			var lost git.OID
			pushed := false
			h.opts = h.opts.WithFault(func(point string) error {
				if point == "rewritten" && !pushed {
					pushed = true
					tt.push(r, c, lost)
				}
				return nil
			})
			c = h.open(t)
			base := r.commit("base")
			lost = r.commit("lost", base)
			r.push(c, create(main, lost))
			r.push(c, move(main, lost, base))
			err := c.Compact(t.Context())
			if tt.wins && !errors.Is(err, errkind.Conflict) || !tt.wins && err != nil {
				t.Errorf("Compact: %v", err)
			}
			if got := c.View().Objects.Has(lost); got != tt.wins {
				t.Errorf("the lost commit is there: %v", got)
			}
			verify(t, c)
			verify(t, h.reopen(t, c))
		})
	}
}

// A pack that was checked before objects were set aside, and comes after, is checked again.
func TestQuarantineFromBeforeACompaction(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	h.opts.SettleAfter = -1
	c := h.open(t)
	defer c.Hold()()
	base := r.commit("base")
	lost := r.commit("lost", base)
	r.push(c, create(main, lost))
	good, bad := r.commit("good", base), r.commit("bad", lost)
	try := func(o, old git.OID) func() ([]error, error) {
		q, err := c.Quarantine(t.Context(), bytes.NewReader(r.pack([]git.OID{o}, []git.OID{old})), nil)
		if err != nil {
			t.Fatal(err)
		}
		return func() ([]error, error) {
			defer q.Close()
			return c.Update(t.Context(), q, []git.RefUpdate{create(git.Branch(o.String()), o)}, protocol.UpdateOptions{})
		}
	}
	pushGood, pushBad := try(good, base), try(bad, lost)
	r.push(c, move(main, lost, base))
	compact(t, c)
	if errs, err := pushGood(); err != nil || errs[0] != nil {
		t.Errorf("push that needs what is there: %v, %v", errs, err)
	}
	if _, err := pushBad(); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("push that needs what was set aside: %v", err)
	}
	verify(t, c)
}

// Any sequence of pushes, forced pushes, deletions, compactions and restarts leaves what git would have.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			randomHistory(t, seed)
		})
	}
}

func randomHistory(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	h, r := newHome(t), newRepo(t)
	h.opts.SettleAfter = -1
	c := h.open(t)
	root := r.commit("root")
	r.push(c, create(main, root))
	r.git("update-ref", string(main), root.String())
	all := []git.OID{root}
	names := []git.RefName{main, topic, "refs/heads/a", "refs/heads/b", "refs/tags/t", "refs/notes/n"}
	for step := range 70 {
		name := names[rng.IntN(len(names))]
		cur, exists := c.View().Refs.Get(name)
		switch op := rng.IntN(10); {
		case op < 4: // new commits on top, sometimes a merge, sometimes large
			parents := []git.OID{}
			if exists && cur.Peeled.IsZero() {
				parents = append(parents, cur.OID)
			}
			if other, ok := c.View().Refs.Get(names[rng.IntN(4)]); ok && rng.IntN(3) == 0 {
				parents = append(parents, other.OID)
			}
			content := variant(rng)
			if rng.IntN(8) == 0 {
				content = noise(1<<20, rng.Uint64())
			}
			next := r.commit(fmt.Sprint(step)+content, parents...)
			all = append(all, next)
			r.push(c, move(name, cur.OID, next))
			r.git("update-ref", string(name), next.String())
		case op < 6: // anywhere: forced
			to := all[rng.IntN(len(all))]
			if !name.IsBranch() && rng.IntN(2) == 0 {
				to = r.tag(fmt.Sprint("t", step), to)
			}
			r.push(c, move(name, cur.OID, to))
			r.git("update-ref", string(name), to.String())
		case op < 7:
			if exists && name != main {
				r.push(c, move(name, cur.OID, git.ZeroOID))
				r.git("update-ref", "-d", string(name))
			}
		case op < 9:
			compact(t, c)
		default:
			c = h.reopen(t, c)
		}
		if step%10 == 9 {
			same(t, c, r)
			verify(t, c)
		}
		if t.Failed() {
			t.Fatalf("at step %d", step)
		}
	}
}

// Readers, writers and compactions at the same time.
func TestReadsDuringWritesAndCompactions(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	h.opts.SettleAfter = -1
	c := h.open(t)
	tip := r.commit("0")
	r.push(c, create(main, tip))
	work := make(chan struct{}, 8) // what others do for each push
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range work {
				readAll(t, c)
			}
		})
	}
	wg.Go(func() {
		for range work {
			if err := c.Compact(t.Context()); err != nil && !errors.Is(err, errkind.Conflict) {
				t.Error(err)
			}
		}
	})
	for i := range 25 {
		next := r.commit(fmt.Sprint(i)+noise(100_000, uint64(i)), tip)
		side := git.Branch(fmt.Sprint("side", i))
		for range cap(work) {
			work <- struct{}{}
		}
		r.push(c, move(main, tip, next), create(side, r.commit(fmt.Sprint("side", i), tip)))
		if i > 0 {
			old := git.Branch(fmt.Sprint("side", i-1))
			ref, _ := c.View().Refs.Get(old)
			r.push(c, move(old, ref.OID, git.ZeroOID))
		}
		tip = next
	}
	close(work)
	wg.Wait()
	verify(t, c)
	verify(t, h.reopen(t, c))
}

// readAll reads what a view's references name.
func readAll(t *testing.T, c *cell.Cell) {
	t.Helper()
	defer c.Hold()()
	v := c.View()
	g, err := v.Graph()
	if err != nil {
		t.Error(err)
		return
	}
	for _, ref := range v.Refs.List() {
		if _, err := v.Objects.Read(ref.OID); err != nil {
			t.Errorf("%s: %v", ref.Name, err)
		}
		if !g.Has(ref.OID) {
			t.Errorf("%s: %s is not in its view's graph", ref.Name, ref.OID)
		}
	}
}
