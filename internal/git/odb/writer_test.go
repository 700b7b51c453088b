package odb_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

func TestWriterMakesAPackThatGitReads(t *testing.T) {
	w := emptyStore().NewWriter()
	tree, err := w.Edit(git.OID{}, []odb.Change{
		{Path: "README", Data: []byte("hello\n")},
		{Path: "bin/run", Data: []byte("#!/bin/sh\n"), Mode: git.ModeExec},
		{Path: "empty", Data: nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	commit, err := w.Put(git.Commit, fmt.Appendf(nil, "tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n", tree))
	if err != nil {
		t.Fatal(err)
	}
	if o, err := w.Read(tree); err != nil || git.Hash(o.Kind, o.Data) != tree {
		t.Errorf("Read of what was put: %v", err)
	}
	q := finish(t, w)
	repo := newGitRepo(t)
	repo.GitIn(string(q.Data), "index-pack", "--stdin", "--strict")
	repo.Git("update-ref", "refs/heads/main", commit.String())
	repo.Git("fsck", "--strict")
	if got := repo.Git("ls-tree", "-r", "--name-only", "main"); got != "README\nbin/run\nempty\n" {
		t.Errorf("git lists %q", got)
	}
}

func TestWriterSkipsWhatIsThere(t *testing.T) {
	w := emptyStore().NewWriter()
	for range 3 {
		if _, err := w.Put(git.Blob, []byte("once")); err != nil {
			t.Fatal(err)
		}
	}
	q := finish(t, w)
	if q.Pack.Len() != 1 {
		t.Errorf("%d objects, want 1", q.Pack.Len())
	}
	w = q.Store.NewWriter()
	if _, err := w.Put(git.Blob, []byte("once")); err != nil {
		t.Fatal(err)
	}
	if q2 := finish(t, w); q2.Pack.Len() != 0 || q2.Store != q.Store {
		t.Errorf("%d objects, want none", q2.Pack.Len())
	}
}

func TestWriterIsBounded(t *testing.T) {
	w := emptyStore().NewWriter()
	var err error
	for i := range 100 {
		data := make([]byte, 1<<20)
		data[0] = byte(i)
		if _, err = w.Put(git.Blob, data); err != nil {
			break
		}
	}
	if !errors.Is(err, errkind.TooLarge) {
		t.Errorf("100 MiB: %v, want errkind.TooLarge", err)
	}
}

// There is one road in: what a writer makes is checked as if it were pushed.
func TestWriterIsCheckedLikeAPush(t *testing.T) {
	tests := []struct {
		name string
		kind git.Kind
		data []byte
	}{
		{"commit without a tree", git.Commit, []byte("author A <a@b> 1 +0000\n\nm\n")},
		{"commit of a missing tree", git.Commit, fmt.Appendf(nil, "tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n", git.OID{1})},
		{"tree with .git", git.Tree, git.AppendEntry(nil, git.Entry{Mode: git.ModeFile, Name: []byte(".git"), OID: git.Hash(git.Blob, nil)})},
		{"tag of nothing", git.Tag, []byte("tag t\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := emptyStore().NewWriter()
			for _, o := range []git.Object{{Kind: git.Blob}, {Kind: tt.kind, Data: tt.data}} {
				if _, err := w.Put(o.Kind, o.Data); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Finish(t.Context(), pack.ReceiveOptions{}); !errors.Is(err, errkind.Invalid) {
				t.Errorf("Finish: %v, want errkind.Invalid", err)
			}
		})
	}
	if _, err := emptyStore().NewWriter().Put(git.Kind(6), nil); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Put of no kind: %v, want errkind.Invalid", err)
	}
}

func TestWriterReadsItsStore(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(1), 5)
	s := receive(t, emptyStore(), repo.PackObjects("main"))
	o := repo.OID("main")
	got, err := s.NewWriter().Read(o)
	want := repo.Git("cat-file", "commit", "main")
	if err != nil || !bytes.Equal(got.Data, []byte(want)) {
		t.Errorf("Read: %q, %v; want %q", got.Data, err, want)
	}
	if _, err := s.NewWriter().Read(git.OID{1}); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Read of what is not there: %v, want errkind.NotFound", err)
	}
}
