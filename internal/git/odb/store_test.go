package odb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// However a history was cut into packs, the store has exactly git's objects, with git's kinds, sizes and contents.
func TestStoreHasWhatGitHas(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rngOf(seed)
			repo := newGitRepo(t)
			repo.history(rng, 60)
			s := repo.split(rng, 1+int(seed)*2)

			all := odb.NewSet(s)
			all.AddAll(s)
			want := repo.All()
			if got := members(s, all); !slices.Equal(got, want) {
				t.Fatalf("the store has %d objects in %d packs, git has %d", len(got), len(s.Packs()), len(want))
			}
			for line := range strings.Lines(repo.Git("cat-file", "--batch-all-objects", "--batch-check")) {
				f := strings.Fields(line)
				o := git.MustParseOID(f[0])
				k, size, err := s.Stat(o)
				if got := fmt.Sprintf("%s %s %d", o, k, size); err != nil || got != strings.TrimSpace(line) {
					t.Fatalf("Stat: %s, %v; want %s", got, err, line)
				}
				obj, err := s.Read(o)
				if err != nil || obj.Kind != k || git.Hash(k, obj.Data) != o {
					t.Fatalf("Read(%s) = %s of %d bytes, %v", o, obj.Kind, len(obj.Data), err)
				}
				k2, size2, r, err := s.Open(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				data, err := io.ReadAll(r)
				if err := errors.Join(err, r.Close()); err != nil || k2 != k || size2 != size || !bytes.Equal(data, obj.Data) {
					t.Fatalf("Open(%s) = %s, %d, %d bytes, %v", o, k2, size2, len(data), err)
				}
			}
		})
	}
}

func TestStoreOfNothing(t *testing.T) {
	s := emptyStore()
	o := git.Hash(git.Blob, nil)
	if s.Has(o) || s.Len() != 0 {
		t.Error("an empty store has something")
	}
	if _, err := s.Read(o); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Read: %v, want errkind.NotFound", err)
	}
	if _, _, err := s.Stat(o); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Stat: %v, want errkind.NotFound", err)
	}
	if _, _, _, err := s.Open(t.Context(), o); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Open: %v, want errkind.NotFound", err)
	}
}

// An object that several packs have is found in the first, so that a delta and its base never swap their order.
func TestFirstPackCounts(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(1), 20)
	s := receive(t, emptyStore(), repo.PackObjects("main~5"))
	s = receive(t, s, repo.PackObjects("main"))
	for _, o := range repo.reachable("main~5") {
		if at, ok := s.Find(o); !ok || at.Pack != 0 {
			t.Fatalf("Find(%s) = %v, %v; want pack 0", o, at, ok)
		}
	}
	all := odb.NewSet(s)
	all.AddAll(s)
	if n := all.PackLen(1); n >= s.Packs()[1].Len() || n == 0 {
		t.Errorf("%d objects count in the second pack of %d", n, s.Packs()[1].Len())
	}
	if want := len(repo.reachable("main")); all.Len() != want || s.Len() <= want {
		t.Errorf("%d objects count of %d, want %d", all.Len(), s.Len(), want)
	}
}

func TestResolvePrefix(t *testing.T) {
	repo := newGitRepo(t)
	var in strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&in, "blob\ndata %d\n%d\n", len(fmt.Sprint(i)), i)
	}
	repo.FastImport(in.String())
	all := repo.All()
	var list strings.Builder
	var packs [2]strings.Builder
	for i, o := range all {
		fmt.Fprintln(&packs[i%2], o)
		fmt.Fprintln(&list, o)
	}
	s := emptyStore()
	for i := range packs {
		s = receive(t, s, repo.PackOnly(packs[i].String()))
	}
	having := map[string]int{} // how many objects have a prefix
	for _, o := range all {
		for n := 4; n <= 8; n++ {
			having[o.String()[:n]]++
		}
	}
	ambiguous := 0
	for _, o := range all {
		for n := 4; n <= 8; n++ {
			hex := o.String()[:n]
			if n == 5 {
				hex = strings.ToUpper(hex)
			}
			got, err := s.ResolvePrefix(hex)
			many := having[strings.ToLower(hex)]
			switch {
			case many == 1 && (err != nil || got != o):
				t.Fatalf("ResolvePrefix(%s) = %s, %v; want %s", hex, got, err, o)
			case many > 1 && !errors.Is(err, errkind.Invalid):
				t.Fatalf("ResolvePrefix(%s) = %s, %v; %d objects have it", hex, got, err, many)
			case many > 1:
				ambiguous++
			}
		}
	}
	if ambiguous == 0 {
		t.Error("no prefix was ambiguous: the test shows nothing")
	}
	if got, err := s.ResolvePrefix(all[0].String()); err != nil || got != all[0] {
		t.Errorf("ResolvePrefix of a full ID = %s, %v", got, err)
	}
	tests := []struct {
		hex  string
		want errkind.Kind
	}{
		{"", errkind.Invalid},
		{"abc", errkind.Invalid},
		{"abcg", errkind.Invalid},
		{"ab/d", errkind.Invalid},
		{strings.Repeat("a", 41), errkind.Invalid},
		{strings.Repeat("0", 39), errkind.NotFound},
		{strings.Repeat("f", 40), errkind.NotFound},
	}
	for _, tt := range tests {
		if _, err := s.ResolvePrefix(tt.hex); !errors.Is(err, tt.want) {
			t.Errorf("ResolvePrefix(%q): %v, want %v", tt.hex, err, tt.want)
		}
	}
}

func TestPeel(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(2), 8)
	tag := func(name, of string) {
		kind := strings.TrimSpace(repo.Git("cat-file", "-t", of))
		text := fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger Cy <cy@example.org> 1700000000 +0000\n\nm\n", repo.OID(of), kind, name)
		repo.Git("update-ref", "refs/tags/"+name, strings.TrimSpace(repo.GitIn(text, "mktag")))
	}
	tag("one", "main")
	tag("two", "one")
	tag("three", "two")
	tag("tree", "main^{tree}")
	tag("blob", "main:README")
	s := receive(t, emptyStore(), repo.PackObjects("main\none\ntwo\nthree\ntree\nblob"))
	for _, rev := range []string{"main", "main^{tree}", "one", "two", "three", "tree", "blob"} {
		o, k, err := s.Peel(repo.OID(rev))
		want := repo.OID(rev + "^{}")
		if err != nil || o != want || k.String() != strings.TrimSpace(repo.Git("cat-file", "-t", want.String())) {
			t.Errorf("Peel(%s) = %s, %s, %v; want %s", rev, o, k, err, want)
		}
	}
	if _, _, err := s.Peel(git.OID{1}); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Peel of what is not there: %v", err)
	}
}

// A chain of tags that is longer than anybody needs costs an error, not the server's time.
func TestPeelIsBounded(t *testing.T) {
	w := emptyStore().NewWriter()
	o, err := w.Put(git.Blob, []byte("end"))
	if err != nil {
		t.Fatal(err)
	}
	kind := git.Blob
	for range 1001 {
		o, err = w.Put(kind2tag(o, kind))
		if err != nil {
			t.Fatal(err)
		}
		kind = git.Tag
	}
	q := finish(t, w)
	if _, _, err := q.Store.Peel(o); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("Peel: %v, want errkind.TooLarge", err)
	}
	if len(q.Store.Roots()) != 1 || q.Store.Roots()[0] != o {
		t.Errorf("roots %v, want the last tag only", q.Store.Roots())
	}
}

func kind2tag(o git.OID, k git.Kind) (git.Kind, []byte) {
	return git.Tag, fmt.Appendf(nil, "object %s\ntype %s\ntag t\ntagger Cy <cy@example.org> 1700000000 +0000\n\nm\n", o, k)
}

// Readers of one store do not disturb each other.
func TestStoreIsSafeForConcurrentUse(t *testing.T) {
	repo := newGitRepo(t)
	rng := rngOf(5)
	repo.history(rng, 60)
	s := repo.split(rng, 4)
	all := repo.All()
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			rng := rngOf(uint64(n))
			for range 400 {
				o := all[rng.IntN(len(all))]
				obj, err := s.Read(o)
				if err != nil || git.Hash(obj.Kind, obj.Data) != o {
					t.Errorf("Read(%s): %v", o, err)
				}
			}
			set := odb.NewSet(s)
			set.AddAll(s)
			if set.Len() != len(all) {
				t.Errorf("%d objects, want %d", set.Len(), len(all))
			}
			if _, err := s.WritePack(t.Context(), io.Discard, set, odb.WriteOptions{OfsDelta: n%2 == 0}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
