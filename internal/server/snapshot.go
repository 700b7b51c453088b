package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/archive"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
)

// snapshot is a repository opened for reading: one state of it, whatever is pushed meanwhile. Whoever got one releases it.
type snapshot struct {
	*router.Repo
	repo  control.Repo
	view  protocol.View
	graph *revwalk.Graph
}

// read opens a repository for somebody who wants to read it.
func (a *restAPI) read(ctx context.Context, p policy.Principal, ref string) (*snapshot, error) {
	cell, r, err := a.openRepo(ctx, p, policy.RepoRead, ref)
	if err != nil {
		return nil, err
	}
	s := &snapshot{Repo: cell, repo: r, view: cell.View()}
	if s.graph, err = s.view.Graph(); err != nil {
		cell.Release()
		return nil, err
	}
	return s, nil
}

// resolve turns a revision ("" is HEAD) into an object, annotated tags followed to what they name. An object that only
// deleted references led to is not found, by its ID, a part of it, or a step from it.
func (s *snapshot) resolve(ctx context.Context, rev string) (git.OID, git.Kind, error) {
	if rev == "" {
		rev = "HEAD"
	}
	if !revwalk.ByReference(s.view.Shown(), rev) {
		name, _, _ := strings.Cut(strings.ReplaceAll(rev, "~", "^"), "^")
		start, err := s.graph.Resolve(s.view.Shown(), name)
		if err != nil {
			return start, 0, err
		}
		if err := s.mustSee(ctx, start); err != nil {
			if errkind.Of(err) == errkind.NotFound { // in the words for what is not stored at all
				err = fmt.Errorf("resolve %q: %w", name, errkind.NotFound)
			}
			return git.OID{}, 0, err
		}
	}
	o, err := s.graph.Resolve(s.view.Shown(), rev)
	if err != nil {
		return o, 0, err
	}
	return s.view.Objects.Peel(o)
}

// mustSee is errkind.NotFound when no reference leads to one of the objects, whether or not they are still stored.
func (s *snapshot) mustSee(ctx context.Context, objects ...git.OID) error {
	seen, err := s.view.Visible(ctx, objects...)
	if err != nil {
		return err
	}
	if i := slices.Index(seen, false); i >= 0 {
		return fmt.Errorf("object %s: %w", objects[i], errkind.NotFound)
	}
	return nil
}

// commit is resolve for what must be a commit.
func (s *snapshot) commit(ctx context.Context, rev string) (git.OID, error) {
	o, k, err := s.resolve(ctx, rev)
	if err == nil && k != git.Commit {
		err = fmt.Errorf("revision %q is a %s, not a commit: %w", rev, k, errkind.Invalid)
	}
	return o, err
}

// root finds the tree of a revision: a commit's, or the tree itself.
func (s *snapshot) root(ctx context.Context, rev string) (at, tree git.OID, err error) {
	at, kind, err := s.resolve(ctx, rev)
	if err != nil {
		return at, tree, err
	}
	tree, err = s.treeOf(at, kind)
	return at, tree, err
}

func (s *snapshot) treeOf(o git.OID, k git.Kind) (git.OID, error) {
	switch k {
	case git.Tree:
		return o, nil
	case git.Commit:
		c, err := s.readCommit(o)
		if err != nil {
			return git.OID{}, err
		}
		return c.Tree, nil
	case git.Blob, git.Tag:
	}
	return git.OID{}, fmt.Errorf("object %s is a %s, which has no files: %w", o, k, errkind.Invalid)
}

func (s *snapshot) readCommit(o git.OID) (*git.CommitInfo, error) {
	obj, err := s.view.Objects.Read(o)
	if err != nil {
		return nil, err
	}
	if obj.Kind != git.Commit {
		return nil, fmt.Errorf("object %s is a %s, not a commit: %w", o, obj.Kind, errkind.Invalid)
	}
	return git.ParseCommit(obj.Data)
}

// commitOut is a commit as the API shows it.
func (s *snapshot) commitOut(o git.OID) (client.Commit, error) {
	c, err := s.readCommit(o)
	if err != nil {
		return client.Commit{}, err
	}
	out := client.Commit{
		SHA: o, Tree: c.Tree, Parents: c.Parents, Message: string(c.Message),
		Author: personOut(c.Author), Committer: personOut(c.Committer),
	}
	if out.Parents == nil {
		out.Parents = []git.OID{}
	}
	return out, nil
}

func personOut(s git.Signature) client.Person {
	return client.Person{Name: string(s.Name), Email: string(s.Email), Date: jsonTime(s.When)}
}

// jsonTime keeps to the times that RFC 3339 can write; commits may hold others.
func jsonTime(t time.Time) time.Time {
	if _, offset := t.Zone(); offset <= -24*3600 || offset >= 24*3600 {
		t = t.UTC()
	}
	if y := t.Year(); y < 1 || y > 9998 {
		return time.Time{}
	}
	return t
}

// find walks from a tree down a path. The root is found as a directory without a name.
func (s *snapshot) find(tree git.OID, path string) (git.Entry, error) {
	if path == "" {
		return git.Entry{Mode: git.ModeDir, OID: tree}, nil
	}
	e, err := archive.Find(s.view.Objects, tree, path)
	if err != nil && errkind.Of(err) == errkind.NotFound {
		err = noPath(path)
	}
	return e, err
}

func noPath(path string) error {
	return fmt.Errorf("path %q at this revision: %w", clip(path), errkind.NotFound)
}

// entryOut is a tree's entry as the API shows it. path is from the root.
func (s *snapshot) entryOut(path string, e git.Entry) (client.Entry, error) {
	out := client.Entry{Path: path, PathBase64: base64Unless(path), Mode: e.Mode.String(), SHA: e.OID}
	switch e.Mode {
	case git.ModeDir:
		out.Type = "dir"
		return out, nil
	case git.ModeGitlink:
		out.Type = "submodule"
		return out, nil
	case git.ModeSymlink:
		out.Type = "symlink"
	case git.ModeFile, git.ModeGroup, git.ModeExec:
		out.Type = "file"
	default: // what very old gits wrote
		out.Type = "file"
	}
	_, size, err := s.view.Objects.Stat(e.OID)
	if err != nil {
		return out, err
	}
	out.Size = &size
	return out, nil
}

// base64Unless gives the bytes of a name that JSON cannot hold.
func base64Unless(name string) string {
	if utf8.ValidString(name) {
		return ""
	}
	return base64Std(name)
}

// cleanPath drops the slashes that people put at either end.
func cleanPath(p string) string { return strings.Trim(p, "/") }

// attachment sets the headers of bytes that came from a repository: a browser must never take them for a page of ours, as it
// would not for any answer (secure).
func attachment(h http.Header, contentType, fileName string) {
	h.Set("Content-Type", contentType)
	if fileName != "" {
		h.Set("Content-Disposition", `attachment; filename="`+fileName+`"`)
	}
}
