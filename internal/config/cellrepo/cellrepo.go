// Package cellrepo keeps milestones in the repositories of cells.
//
// No checkout, no push and no second process: a milestone becomes objects, a commit and a moved branch in one transaction of the cell, as
// a commit by the REST API does. Whoever may make it was asked before.
//
//	repo, err := r.Repo(ctx, tenant, id) // of package router
//	defer repo.Release()
//	m, err := milestone.Create(ctx, cellrepo.New(repo, cellrepo.Options{Writer: w}), p, since, opts)
package cellrepo

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/diff"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
	"github.com/skep-dev/skep/internal/router"
)

// Options are a repository's settings.
type Options struct {
	Writer protocol.Writer  // whom the reference log names
	Author milestone.Person // of a request that names none; it must not be zero then
}

// Repo is a repository in a cell. Its methods may be called at the same time.
type Repo struct {
	cell *router.Repo
	o    Options
}

// New returns the repository that a handle is of. It lives no longer than the handle.
func New(cell *router.Repo, o Options) *Repo { return &Repo{cell, o} }

// branchRef returns a branch's reference.
func branchRef(branch string) (git.RefName, error) {
	name, err := git.ParseRefName(string(git.Branch(branch)))
	if err != nil {
		return "", fmt.Errorf("branch %.80q: %w", branch, err)
	}
	return name, nil
}

// Tip returns the commit that a branch is at.
func (r *Repo) Tip(_ context.Context, branch string) (string, error) {
	name, err := branchRef(branch)
	if err != nil {
		return "", err
	}
	if ref, ok := r.cell.View().Refs.Get(name); ok {
		return ref.OID.String(), nil
	}
	return "", nil
}

// Get returns the commit that a revision names.
func (r *Repo) Get(_ context.Context, rev string) (*milestone.Commit, error) {
	view := r.cell.View()
	g, err := view.Graph()
	if err != nil {
		return nil, err
	}
	o, err := g.Resolve(view.Refs, rev)
	if err != nil {
		return nil, err
	}
	o, kind, err := view.Objects.Peel(o)
	if err != nil {
		return nil, err
	}
	if kind != git.Commit {
		return nil, fmt.Errorf("revision %.80q is a %s, not a commit: %w", rev, kind, errkind.NotFound)
	}
	return read(view, o)
}

// read returns a commit.
func read(view protocol.View, o git.OID) (*milestone.Commit, error) {
	object, err := view.Objects.Read(o)
	if err != nil {
		return nil, err
	}
	c, err := git.ParseCommit(object.Data)
	if err != nil {
		return nil, err
	}
	return &milestone.Commit{
		ID: o.String(), Author: milestone.Person{Name: string(c.Author.Name), Email: string(c.Author.Email)},
		When: c.Committer.When.UTC(), Message: string(c.Message),
	}, nil
}

// Log returns the commits from one on that change a path, the latest first.
func (r *Repo) Log(ctx context.Context, from, path string) iter.Seq2[*milestone.Commit, error] {
	return func(yield func(*milestone.Commit, error) bool) {
		view := r.cell.View()
		tip, err := git.ParseOID(from)
		var g *revwalk.Graph
		if err == nil {
			g, err = view.Graph()
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for o, err := range g.Log(ctx, []git.OID{tip}, revwalk.LogOptions{Path: path}) {
			var c *milestone.Commit
			if err == nil {
				c, err = read(view, o)
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// tree returns the tree of a commit.
func tree(view protocol.View, commit string) (git.OID, error) {
	o, err := git.ParseOID(commit)
	if err != nil {
		return git.OID{}, err
	}
	object, err := view.Objects.Read(o)
	if err == nil && object.Kind != git.Commit {
		err = fmt.Errorf("%s is a %s, not a commit: %w", commit, object.Kind, errkind.Invalid)
	}
	if err != nil {
		return git.OID{}, err
	}
	t, _, _, err := git.CommitLinks(object.Data, nil)
	return t, err
}

// maxFilesListed bounds the files of the folders that milestones are in.
const maxFilesListed = 100_000

// Files returns the files of a commit below some folders, each with its mode and the ID of its content.
func (r *Repo) Files(ctx context.Context, commit string, folders []string) (map[string]string, error) {
	view := r.cell.View()
	root, err := tree(view, commit)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, folder := range folders {
		e, ok, err := find(view, root, folder)
		if err != nil {
			return nil, err
		}
		if !ok || e.Mode != git.ModeDir {
			continue
		}
		for c, err := range diff.Trees(ctx, view.Objects, git.OID{}, e.OID) {
			if err != nil {
				return nil, err
			}
			if files[folder+"/"+c.New.Path] = c.New.Mode.String() + " " + c.New.OID.String(); len(files) > maxFilesListed {
				return nil, fmt.Errorf("list the files of %.12s: there are more than %d below %s: %w", commit, maxFilesListed, strings.Join(folders, ", "), errkind.TooLarge)
			}
		}
	}
	return files, nil
}

// find returns the entry at a path of a tree.
func find(view protocol.View, t git.OID, path string) (git.Entry, bool, error) {
	at := git.Entry{Mode: git.ModeDir, OID: t}
	for part := range strings.SplitSeq(path, "/") {
		if at.Mode != git.ModeDir {
			return at, false, nil
		}
		object, err := view.Objects.Read(at.OID)
		if err != nil {
			return at, false, err
		}
		found := false
		for e, err := range git.TreeEntries(object.Data) {
			if err != nil {
				return at, false, err
			}
			if string(e.Name) == part {
				at, found = e, true
				break
			}
		}
		if !found {
			return at, false, nil
		}
	}
	return at, true, nil
}

// Read returns the contents of files of a commit.
func (r *Repo) Read(ctx context.Context, commit string, paths []string) ([][]byte, error) {
	view := r.cell.View()
	root, err := tree(view, commit)
	if err != nil {
		return nil, err
	}
	contents := make([][]byte, 0, len(paths))
	for _, p := range paths {
		e, ok, err := find(view, root, p)
		if err == nil && (!ok || e.Mode.Kind() != git.Blob) {
			err = fmt.Errorf("file %q: there is none: %w", p, errkind.NotFound)
		}
		var data []byte
		if err == nil {
			data, err = blob(ctx, view, e.OID, p)
		}
		if err != nil {
			return nil, fmt.Errorf("read files of %.12s: %w", commit, err)
		}
		contents = append(contents, data)
	}
	return contents, nil
}

func blob(ctx context.Context, view protocol.View, o git.OID, path string) ([]byte, error) {
	_, size, in, err := view.Objects.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if size > milestone.MaxFileSize {
		return nil, fmt.Errorf("file %s has %d bytes, and %d are allowed: %w", path, size, milestone.MaxFileSize, errkind.TooLarge)
	}
	data := make([]byte, size)
	_, err = io.ReadFull(in, data)
	return data, err
}

// Commit makes a commit and moves the branch to it.
func (r *Repo) Commit(ctx context.Context, q *milestone.CommitRequest) (string, error) {
	name, err := branchRef(q.Branch)
	if err != nil {
		return "", err
	}
	var parent git.OID
	if q.Parent != "" {
		if parent, err = git.ParseOID(q.Parent); err != nil {
			return "", err
		}
	}
	by := q.Author
	if by == (milestone.Person{}) {
		by = r.o.Author
	}
	if by == (milestone.Person{}) {
		return "", fmt.Errorf("commit to %s: its author is missing: %w", q.Branch, errkind.Invalid)
	}
	who := git.Signature{Name: []byte(by.Name), Email: []byte(by.Email), When: q.When.UTC()}
	changes := make([]odb.Change, len(q.Changes))
	for i, c := range q.Changes {
		changes[i] = odb.Change{Path: c.Path, Mode: git.ModeFile, Data: c.Data, Delete: c.Delete}
	}
	o, err := r.cell.Commit(ctx, router.CommitRequest{
		Branch: name, Parent: &parent, Changes: changes, Author: who, Committer: who, Message: q.Message, Writer: r.o.Writer,
	})
	if err != nil {
		return "", err
	}
	return o.String(), nil
}
