package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/diff"
	"github.com/skep-dev/skep/internal/git/revwalk"
	"github.com/skep-dev/skep/internal/policy"
)

// The bounds of a diff: what a person or an agent can look at, and what a call may cost.
const (
	maxDiffFiles   = 300       // listed
	maxDiffChanges = 3000      // counted before it is given up: more is "truncated"
	maxRenameFiles = 1000      // pairing is quadratic in them
	maxDiffBlob    = 1 << 20   // a larger file's patch is left out
	maxPatch       = 256 << 10 // of one file
	maxPatches     = 4 << 20   // of all
	renamePercent  = 50        // git's own
	contextLines   = 3         // git's own

	maxCompareCommits = 250
	maxBlameBytes     = 2 << 20
)

func (a *restAPI) registerHistory() {
	const tag = "history"
	handle(a, op(http.MethodGet, "/repos/{repo}/commits", "list-commits", tag, "List commits, newest first"), a.listCommits)
	handle(a, op(http.MethodGet, "/repos/{repo}/commits/{rev}", "get-commit", tag, "Get a commit and its diff"), a.getCommit)
	handle(a, op(http.MethodGet, "/repos/{repo}/compare", "compare", tag, "Compare two revisions"), a.compare)
	handle(a, op(http.MethodGet, "/repos/{repo}/blame", "blame", tag, "Say which commit brought which line"), a.blame)
	o := op(http.MethodPost, "/repos/{repo}/commits", "create-commit", tag, "Commit many file changes onto a branch")
	o.MaxBodyBytes = maxCommitJSON
	o.SkipValidateBody = true // it would decode 16 MiB twice; createCommit checks
	handle(a, o, a.createCommit)
}

func (a *restAPI) listCommits(ctx context.Context, p policy.Principal, in *struct {
	RevParams
	Paging
	Since       time.Time `query:"since" doc:"Only commits not older"`
	Until       time.Time `query:"until" doc:"Only commits not newer"`
	FirstParent bool      `query:"first_parent" doc:"Follow only first parents"`
},
) (*out[client.Page[client.Commit]], error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	rev, skip, err := parseLogCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	if rev == "" {
		rev = in.Ref
	}
	tip, err := s.commit(ctx, rev)
	if err != nil {
		return nil, err
	}
	opts := revwalk.LogOptions{Path: cleanPath(in.Path), FirstParent: in.FirstParent, Since: in.Since, Until: in.Until}
	page := client.Page[client.Commit]{Items: []client.Commit{}}
	n := 0
	for o, err := range s.graph.Log(ctx, []git.OID{tip}, opts) {
		if err != nil {
			return nil, err
		}
		if n++; n <= skip {
			continue
		}
		if len(page.Items) == in.Limit {
			page.NextCursor = makeCursor(tip.String() + ":" + strconv.Itoa(skip+in.Limit))
			break
		}
		c, err := s.commitOut(o)
		if err != nil {
			return nil, err
		}
		page.Items = append(page.Items, c)
	}
	return &out[client.Page[client.Commit]]{page}, nil
}

// parseLogCursor reads where a log began and how much of it was shown: pages do not shift when the branch moves.
func parseLogCursor(cursor string) (rev string, skip int, err error) {
	text, err := parseCursor(cursor)
	if err != nil || text == "" {
		return "", 0, err
	}
	rev, n, _ := strings.Cut(text, ":")
	skip, err = strconv.Atoi(n)
	if _, oidErr := git.ParseOID(rev); err != nil || oidErr != nil || skip < 0 {
		return "", 0, errCursor
	}
	return rev, skip, nil
}

func (a *restAPI) getCommit(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Rev string `path:"rev" maxLength:"1100" doc:"A commit's ID, or any revision"`
},
) (*out[client.CommitDiff], error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	o, err := s.commit(ctx, in.Rev)
	if err != nil {
		return nil, err
	}
	res := client.CommitDiff{}
	if res.Commit, err = s.commitOut(o); err != nil {
		return nil, err
	}
	var before git.OID
	if len(res.Parents) > 0 {
		parent, err := s.readCommit(res.Parents[0])
		if err != nil {
			return nil, err
		}
		before = parent.Tree
	}
	if res.Diff, err = s.diff(ctx, before, res.Tree); err != nil {
		return nil, err
	}
	return &out[client.CommitDiff]{res}, nil
}

// diff compares two trees within bounds.
func (s *snapshot) diff(ctx context.Context, before, after git.OID) (client.Diff, error) {
	d := client.Diff{Files: []client.FileDiff{}}
	var changes []diff.Change
	for c, err := range diff.Trees(ctx, s.view.Objects, before, after) {
		if err != nil {
			return d, err
		}
		if len(changes) == maxDiffChanges {
			d.Truncated = true
			break
		}
		changes = append(changes, c)
	}
	if len(changes) <= maxRenameFiles && !d.Truncated {
		var err error
		if changes, err = diff.Renames(ctx, s.view.Objects, changes, renamePercent); err != nil {
			return d, err
		}
	}
	if len(changes) > maxDiffFiles {
		changes, d.Truncated = changes[:maxDiffFiles], true
	}
	left := maxPatches
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		f, err := s.fileDiff(c, min(left, maxPatch))
		if err != nil {
			return d, err
		}
		left -= len(f.Patch)
		d.Files = append(d.Files, f)
		d.Stats.Files++
		d.Stats.Additions += f.Additions
		d.Stats.Deletions += f.Deletions
	}
	return d, nil
}

// fileDiff shows one change, with a patch of at most most bytes.
func (s *snapshot) fileDiff(c diff.Change, most int) (client.FileDiff, error) {
	f := client.FileDiff{Path: c.New.Path, Status: "modified"}
	if c.Old.Mode != 0 {
		f.OldMode, f.OldSHA = c.Old.Mode.String(), &c.Old.OID
	}
	if c.New.Mode != 0 {
		f.NewMode, f.NewSHA = c.New.Mode.String(), &c.New.OID
	}
	switch {
	case c.Old.Mode == 0:
		f.Status = "added"
	case c.New.Mode == 0:
		f.Status, f.Path = "deleted", c.Old.Path
	case c.Old.Path != c.New.Path:
		f.Status, f.PreviousPath = "renamed", c.Old.Path
	}
	f.PathBase64 = base64Unless(f.Path)
	for _, side := range []diff.Side{c.Old, c.New} {
		if side.Mode == 0 || side.Mode == git.ModeGitlink {
			continue
		}
		if _, size, err := s.view.Objects.Stat(side.OID); err != nil {
			return f, err
		} else if size > maxDiffBlob {
			f.PatchTruncated = true
			return f, nil
		}
	}
	w := clipBuffer{most: most}
	st, err := diff.Patch(&w, s.view.Objects, c, contextLines)
	if err != nil {
		return f, err
	}
	f.Additions, f.Deletions, f.Binary = st.Added, st.Deleted, st.Binary
	f.Patch, f.PatchTruncated = string(w.kept), w.clipped
	return f, nil
}

// clipBuffer keeps the beginning of what is written to it.
type clipBuffer struct {
	kept    []byte
	most    int
	clipped bool
}

func (b *clipBuffer) Write(p []byte) (int, error) {
	n := len(p)
	if room := b.most - len(b.kept); n > room {
		b.clipped = true
		p = p[:max(0, room)]
	}
	b.kept = append(b.kept, p...)
	return n, nil
}

func (a *restAPI) compare(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Base string `query:"base" required:"true" maxLength:"1100" doc:"A revision"`
	Head string `query:"head" required:"true" maxLength:"1100" doc:"A revision"`
},
) (*out[client.Comparison], error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	res := client.Comparison{Commits: []client.Commit{}}
	if res.Base, err = s.commit(ctx, in.Base); err != nil {
		return nil, err
	}
	if res.Head, err = s.commit(ctx, in.Head); err != nil {
		return nil, err
	}
	bases, err := s.graph.MergeBases(ctx, res.Base, res.Head)
	if err != nil {
		return nil, err
	}
	var from git.OID // without a common ancestor everything is new
	if len(bases) > 0 {
		res.MergeBase = &bases[0]
		from, _ = s.graph.Tree(bases[0])
	}
	if res.AheadBy, res.BehindBy, err = s.graph.AheadBehind(ctx, res.Head, res.Base); err != nil {
		return nil, err
	}
	for o, err := range s.graph.Log(ctx, []git.OID{res.Head}, revwalk.LogOptions{Not: []git.OID{res.Base}}) {
		if err != nil {
			return nil, err
		}
		if len(res.Commits) == maxCompareCommits {
			res.CommitsTruncated = true
			break
		}
		c, err := s.commitOut(o)
		if err != nil {
			return nil, err
		}
		res.Commits = append(res.Commits, c)
	}
	to, _ := s.graph.Tree(res.Head)
	if res.Diff, err = s.diff(ctx, from, to); err != nil {
		return nil, err
	}
	return &out[client.Comparison]{res}, nil
}

func (a *restAPI) blame(ctx context.Context, p policy.Principal, in *RevParams) (*out[client.Blame], error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	tip, err := s.commit(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	tree, _ := s.graph.Tree(tip)
	res := client.Blame{Path: cleanPath(in.Path), Commit: tip, Ranges: []client.BlameRange{}, Commits: map[string]client.Commit{}}
	e, err := s.find(tree, res.Path)
	if err != nil {
		return nil, err
	}
	if e.Mode.Kind() != git.Blob {
		return nil, fmt.Errorf("path %q is not a file: %w", clip(res.Path), errkind.Invalid)
	}
	if _, size, err := s.view.Objects.Stat(e.OID); err != nil {
		return nil, err
	} else if size > maxBlameBytes {
		return nil, fmt.Errorf("path %q has %d bytes, more than %d: %w", clip(res.Path), size, maxBlameBytes, errkind.TooLarge)
	}
	lines, err := diff.Blame(ctx, s.graph, tip, res.Path)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		if n := len(res.Ranges); n > 0 {
			if r := &res.Ranges[n-1]; r.Commit == l.Commit && r.Path == l.Path && r.OriginalStart+r.Lines == l.OldLine && r.Start+r.Lines == l.Line {
				r.Lines++
				continue
			}
		}
		res.Ranges = append(res.Ranges, client.BlameRange{Commit: l.Commit, Path: l.Path, Start: l.Line, OriginalStart: l.OldLine, Lines: 1})
		if id := l.Commit.String(); res.Commits[id].SHA.IsZero() {
			if res.Commits[id], err = s.commitOut(l.Commit); err != nil {
				return nil, err
			}
		}
	}
	return &out[client.Blame]{res}, nil
}
