package cell_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/cell"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

func sorted(lines []string) []string { slices.Sort(lines); return lines }

func TestPushAndReopen(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	verify(t, c)
	one := r.commit("one")
	two := r.commit("two", one)
	note := r.tag("v1", two)
	r.push(c, create(main, one))
	r.push(c, move(main, one, two), create("refs/tags/v1", note), create("refs/tags/light", one))
	r.git("update-ref", string(main), two.String())
	r.git("update-ref", "refs/tags/v1", note.String())
	r.git("update-ref", "refs/tags/light", one.String())
	for range 2 {
		same(t, c, r)
		verify(t, c)
		if ref, _ := c.View().Refs.Get("refs/tags/v1"); ref.Peeled != two {
			t.Errorf("tag leads to %s, want %s", ref.Peeled, two)
		}
		c = h.reopen(t, c)
	}
	if got := c.Stats(); got.Packs != 2 || got.Refs != 3 || got.Objects < 7 {
		t.Errorf("Stats() = %+v", got)
	}
	log, err := c.RefLog(t.Context(), main, 10)
	if err != nil || len(log) != 2 || log[0].Old != one || log[0].New != two || log[1].New != one || log[0].Actor != "usr_x" {
		t.Errorf("RefLog(main) = %v, %v", log, err)
	}
	if log, err := c.RefLog(t.Context(), "", 3); err != nil || len(log) != 3 {
		t.Errorf("RefLog() = %v, %v", log, err)
	}
}

func TestLargePacksAreFiles(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	noise := make([]byte, 3<<20)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	big := r.commit(string(noise))
	r.push(c, create(main, big))
	r.push(c, move(main, big, r.commit("small", big)))
	r.git("update-ref", string(main), c.View().Refs.List()[0].OID.String())
	files := func() (keys []string) {
		for e, err := range h.files.List(folder) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, e.Key)
		}
		return keys
	}
	if got := files(); len(got) != 3 {
		t.Errorf("files after one large and one small push: %v", got)
	}
	// What a crash between files and row leaves is removed when the cell is opened; what rows name is not.
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	stray := h.dir + "/files/" + folder + "/" + strings.Repeat("ab", 20) + ".pack"
	if err := os.WriteFile(stray, []byte("PACK"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = h.open(t)
	if got := files(); len(got) != 3 {
		t.Errorf("files after a reopen: %v", got)
	}
	same(t, c, r)
	verify(t, c)
	// A file that a row names and that is not there is no repository that can be served.
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.files.Delete(files()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := cell.Open(t.Context(), h.path(), h.files, folder, h.opts); err == nil || errors.Is(err, errkind.NotFound) {
		t.Errorf("Open without a pack's file: %v", err)
	}
}

func TestRefusedUpdates(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one := r.commit("one")
	two := r.commit("two", one)
	other := r.commit("other")
	missing := git.MustParseOID(strings.Repeat("1", 40))
	blob := r.blob("just a blob")
	r.push(c, create(main, one), create("refs/heads/a/b", one), create(topic, two), create("refs/tags/blob", blob))

	tests := []struct {
		name   string
		update git.RefUpdate
		want   errkind.Kind
		text   string
	}{
		{"old value moved on", move(topic, one, two), errkind.Conflict, "fetch first"},
		{"exists", create(topic, one), errkind.Exists, "reference already exists"},
		{"does not exist", move("refs/heads/none", one, two), errkind.Conflict, "reference does not exist"},
		{"delete of another value", move(topic, one, git.ZeroOID), errkind.Conflict, "fetch first"},
		{"below a file", create("refs/heads/main/x", one), errkind.Conflict, "'refs/heads/main' exists; cannot create 'refs/heads/main/x'"},
		{"where a folder is", create("refs/heads/a", one), errkind.Conflict, "'refs/heads/a/b' exists"},
		{"missing object", create("refs/heads/x", missing), errkind.NotFound, missing.String()},
		{"branch of a blob", create("refs/heads/x", blob), errkind.Invalid, "a branch must name a commit"},
		{"current branch", move(main, one, git.ZeroOID), errkind.Forbidden, "deletion of the current branch prohibited"},
		{"not below refs", create("HEAD", one), errkind.Invalid, ""},
	}
	before := c.View().Refs
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			errs, err := c.Update(t.Context(), nil, []git.RefUpdate{tt.update}, protocol.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(errs[0], tt.want) || !strings.Contains(errs[0].Error(), tt.text) {
				t.Errorf("Update: %v, want %q: %v", errs[0], tt.text, tt.want)
			}
		})
	}
	if c.View().Refs != before {
		t.Error("refused updates made a new view")
	}

	// Those that may go through do, the others do not.
	packs := c.Stats().Packs
	errs, err := r.tryPush(c, move(main, one, two), create(topic, other), create("refs/heads/new", other))
	if err != nil || errs[0] != nil || !errors.Is(errs[1], errkind.Exists) || errs[2] != nil {
		t.Errorf("mixed push: %v, %v", errs, err)
	}
	// With atomic, none does, and the pack is not kept.
	three := r.commit("three", two)
	errs, err = r.pushWith(c, protocol.UpdateOptions{Atomic: true}, move(main, two, three), create(topic, other))
	if err != nil || errs[0] == nil || !errors.Is(errs[1], errkind.Exists) {
		t.Errorf("atomic push: %v, %v", errs, err)
	}
	if got := c.Stats().Packs; got != packs+1 {
		t.Errorf("%d packs, want one more than %d", got, packs)
	}
	errs, err = r.pushWith(c, protocol.UpdateOptions{Atomic: true}, move(main, two, three), create("refs/heads/z", other))
	if err != nil || errs[0] != nil || errs[1] != nil {
		t.Errorf("atomic push that is fine: %v, %v", errs, err)
	}
	verify(t, c)
}

func TestDirectoryFileConflictsWithinAPush(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one := r.commit("one")
	r.push(c, create(main, one), create("refs/heads/x", one))
	check := func(want []bool, updates ...git.RefUpdate) {
		t.Helper()
		errs, err := r.tryPush(c, updates...)
		if err != nil {
			t.Fatal(err)
		}
		for i, err := range errs {
			if (err == nil) != want[i] {
				t.Errorf("%s: %v, want success %v", updates[i].Name, err, want[i])
			}
		}
	}
	check([]bool{true, false, false, true}, create("refs/heads/d/e", one), create("refs/heads/d", one), create("refs/heads/d/e/f", one), create("refs/heads/d/g", one))
	check([]bool{true, true}, create("refs/heads/x/y", one), move("refs/heads/x", one, git.ZeroOID)) // makes room for it
	check([]bool{true, false}, create("refs/heads/twice", one), create("refs/heads/twice", one))
	check([]bool{true, true}, move(main, one, one), move("refs/heads/none", git.ZeroOID, git.ZeroOID)) // nothing to do
	verify(t, c)
}

func TestDenyRules(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one := r.commit("one")
	two, fork := r.commit("two", one), r.commit("fork", one)
	r.push(c, create(main, two), create("refs/tags/t", two))
	if err := c.SetSettings(t.Context(), cell.Settings{DenyNonFastForward: true, DenyDeletes: true}); err != nil {
		t.Fatal(err)
	}
	c = h.reopen(t, c)
	if got := c.Settings(); !got.DenyDeletes || !got.DenyNonFastForward {
		t.Fatalf("Settings() = %+v", got)
	}
	errs, err := r.tryPush(c, move(main, two, fork), move("refs/tags/t", two, fork), create(topic, fork))
	if err != nil || !errors.Is(errs[0], errkind.Forbidden) || !strings.HasPrefix(errs[0].Error(), "non-fast-forward") || errs[1] != nil || errs[2] != nil {
		t.Errorf("forced push: %v, %v", errs, err)
	}
	three := r.commit("three", two)
	r.push(c, move(main, two, three))
	errs, err = r.tryPush(c, move(topic, fork, git.ZeroOID))
	if err != nil || !errors.Is(errs[0], errkind.Forbidden) || !strings.HasPrefix(errs[0].Error(), "deletion prohibited") {
		t.Errorf("deletion: %v, %v", errs, err)
	}
}

func TestHead(t *testing.T) {
	tests := []struct {
		push []git.RefName
		want git.RefName
	}{
		{[]git.RefName{"refs/heads/trunk"}, "refs/heads/trunk"},
		{[]git.RefName{"refs/heads/main", "refs/heads/trunk"}, "refs/heads/main"},
		{[]git.RefName{"refs/heads/master", "refs/heads/trunk"}, "refs/heads/master"},
		{[]git.RefName{"refs/heads/a", "refs/heads/trunk"}, "refs/heads/main"},
		{[]git.RefName{"refs/tags/a"}, "refs/heads/main"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.push), func(t *testing.T) {
			h, r := newHome(t), newRepo(t)
			c := h.open(t)
			one := r.commit("one")
			var updates []git.RefUpdate
			for _, name := range tt.push {
				updates = append(updates, create(name, one))
			}
			r.push(c, updates...)
			if got := h.reopen(t, c).View().Refs.Head; got != tt.want {
				t.Errorf("HEAD names %s, want %s", got, tt.want)
			}
		})
	}

	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	if err := c.SetHead(t.Context(), topic); err != nil { // unborn
		t.Fatal(err)
	}
	one := r.commit("one")
	r.push(c, create(main, one), create(topic, one))
	if got := c.View().Refs.Head; got != topic {
		t.Errorf("HEAD names %s, want %s", got, topic)
	}
	if err := c.SetHead(t.Context(), main); err != nil {
		t.Fatal(err)
	}
	if err := c.SetHead(t.Context(), "refs/heads/none"); !errors.Is(err, errkind.NotFound) {
		t.Errorf("SetHead(none): %v", err)
	}
	if err := c.SetHead(t.Context(), "refs/tags/x"); !errors.Is(err, errkind.Invalid) {
		t.Errorf("SetHead(tag): %v", err)
	}
	r.push(c, move(topic, one, git.ZeroOID)) // no longer the current one
	if got := h.reopen(t, c).View().Refs.Head; got != main {
		t.Errorf("HEAD names %s, want %s", got, main)
	}
}

func TestTwoPushesRaceForOneRef(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	tip := r.commit("0")
	r.push(c, create(main, tip))
	for round := range 10 {
		var commits []git.OID
		var packs [][]byte
		for i := range 4 {
			o := r.commit(fmt.Sprint(round, "-", i), tip)
			commits, packs = append(commits, o), append(packs, r.pack([]git.OID{o}, []git.OID{tip}))
		}
		var mu sync.Mutex
		var won []git.OID
		var wg sync.WaitGroup
		for i, o := range commits {
			wg.Go(func() {
				defer c.Hold()()
				q, err := c.Quarantine(context.Background(), bytes.NewReader(packs[i]), nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer q.Close()
				errs, err := c.Update(context.Background(), q, []git.RefUpdate{move(main, tip, o), create(git.Branch(fmt.Sprintf("b%d-%d", round, i)), tip)}, protocol.UpdateOptions{})
				if err != nil || errs[1] != nil {
					t.Errorf("Update: %v, %v", errs, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errs[0] == nil:
					won = append(won, o)
				case !errors.Is(errs[0], errkind.Conflict):
					t.Errorf("loser: %v", errs[0])
				}
			})
		}
		wg.Wait()
		ref, _ := c.View().Refs.Get(main)
		if len(won) != 1 || ref.OID != won[0] {
			t.Fatalf("round %d: %d won, main is %s", round, len(won), ref.OID)
		}
		tip = won[0]
	}
	verify(t, c)
	verify(t, h.reopen(t, c))
}

func TestSamePackTwice(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one := r.commit("one")
	pack := r.pack([]git.OID{one}, nil)
	for _, name := range []git.RefName{main, topic} {
		q, err := c.Quarantine(t.Context(), bytes.NewReader(pack), nil)
		if err != nil {
			t.Fatal(err)
		}
		errs, err := c.Update(t.Context(), q, []git.RefUpdate{create(name, one)}, protocol.UpdateOptions{})
		if err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := c.Stats().Packs; got != 1 {
		t.Errorf("%d packs, want 1", got)
	}
	verify(t, c)
}

// The writer of each reference is asked, with what is done to it; the rest of a push goes through all the same.
func TestWriterMayMoveSomeReferences(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one := r.commit("1")
	two := r.commit("2", one)
	other := r.commit("other", one)
	r.push(c, create(main, two), create(topic, two), create("refs/tags/v1", one))
	refuse := errkind.Forbidden
	allowed := map[git.RefName]protocol.Move{topic: protocol.Force, "refs/heads/new": protocol.Forward, "refs/heads/more": protocol.Forward, "refs/tags/v1": protocol.Force}
	opts := protocol.UpdateOptions{Writer: protocol.Writer{Actor: "usr_x", May: func(name git.RefName, how protocol.Move) error {
		if only, ok := allowed[name]; !ok || how != only {
			return refuse
		}
		return nil
	}}, Message: "push"}
	three := r.commit("3", two)
	errs, err := r.pushWith(c, opts,
		move(main, two, three), move(topic, two, other), create("refs/heads/new", three), move("refs/tags/v1", one, two))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{refuse, nil, nil, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("update %d: %v, want %v", i, errs[i], want)
		}
	}
	allowed[topic] = protocol.Forward
	if errs, err = r.pushWith(c, opts, move(topic, other, git.ZeroOID)); err != nil || !errors.Is(errs[0], refuse) {
		t.Errorf("deletion by somebody who may push: %v, %v", errs, err)
	}
	if errs, err = r.pushWith(c, opts, move(topic, other, two)); err != nil || !errors.Is(errs[0], refuse) {
		t.Errorf("a forced push by somebody who may push: %v, %v", errs, err)
	}
	opts.Atomic = true
	if errs, err = r.pushWith(c, opts, move(main, two, three), create("refs/heads/more", three)); err != nil || errs[0] == nil || errs[1] == nil {
		t.Errorf("an atomic push of which one reference is refused: %v, %v", errs, err)
	}
	for name, o := range map[git.RefName]git.OID{main: two, topic: other, "refs/heads/new": three} {
		if ref, _ := c.View().Refs.Get(name); ref.OID != o {
			t.Errorf("%s is at %s, want %s", name, ref.OID, o)
		}
	}
}
