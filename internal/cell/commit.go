package cell

import (
	"context"
	"errors"
	"fmt"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// CommitRequest is a commit made without git.
type CommitRequest struct {
	Branch            git.RefName
	Parent            *git.OID // expected tip: nil asks for none in particular, zero that the branch must not exist yet
	From              git.OID  // where a new branch starts; zero: no parent
	Changes           []odb.Change
	Author, Committer git.Signature
	Message           string
	Writer            protocol.Writer
}

// maxCommitTries is how often a commit that expects no tip in particular starts again because others moved the branch
// meanwhile. Each loser of a race has a winner, so that many lost in a row means more writers than the branch can take.
const maxCommitTries = 20

// Commit writes the objects, makes the commit and moves the branch, in one transaction. errkind.Conflict when the branch
// is not where Parent expects it. An unborn HEAD that names another branch is left as it is.
func (c *Cell) Commit(ctx context.Context, r CommitRequest) (git.OID, error) {
	if !r.Branch.IsBranch() {
		return git.OID{}, fmt.Errorf("commit to %.80q, which is no branch: %w", r.Branch, errkind.Invalid)
	}
	defer c.Hold()()
	for range maxCommitTries {
		o, moved, err := c.tryCommit(ctx, &r)
		switch {
		case err == nil:
			return o, nil
		case !moved:
			return git.OID{}, fmt.Errorf("commit to %s: %w", r.Branch.Short(), err)
		case r.Parent != nil:
			return git.OID{}, fmt.Errorf("commit to %s: it moved meanwhile: %w", r.Branch.Short(), errkind.Conflict)
		}
	}
	return git.OID{}, fmt.Errorf("commit to %s: others were faster %d times: %w", r.Branch.Short(), maxCommitTries, errkind.Unavailable)
}

// tryCommit makes the commit on the branch's present tip. moved says that the branch has another one by now.
func (c *Cell) tryCommit(ctx context.Context, r *CommitRequest) (o git.OID, moved bool, err error) {
	st := c.state.Load()
	tip, _ := st.refs.Get(r.Branch)
	if r.Parent != nil && *r.Parent != tip.OID {
		return o, true, errkind.Conflict
	}
	base := tip.OID
	if base.IsZero() {
		base = r.From
	}
	q, o, err := c.makeCommit(ctx, st, r, base)
	if err != nil {
		return o, false, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	errs, err := c.update(ctx, &push{
		q:       q,
		updates: []git.RefUpdate{{Name: r.Branch, Old: tip.OID, New: o}},
		opts:    protocol.UpdateOptions{Writer: r.Writer, Message: "commit"},
	})
	if err != nil {
		return o, false, err
	}
	now, _ := c.state.Load().refs.Get(r.Branch)
	return o, errs[0] != nil && now.OID != tip.OID, errs[0]
}

// makeCommit writes the trees, the files and the commit.
func (c *Cell) makeCommit(ctx context.Context, st *state, r *CommitRequest, base git.OID) (*odb.Quarantine, git.OID, error) {
	w := st.objects.NewWriter()
	commit := git.CommitInfo{Author: r.Author, Committer: r.Committer, Message: []byte(r.Message)}
	var tree git.OID
	if !base.IsZero() {
		parent, err := w.Read(base)
		if err == nil && parent.Kind != git.Commit {
			err = fmt.Errorf("%s is a %s, not a commit: %w", base, parent.Kind, errkind.Invalid)
		}
		if err != nil {
			return nil, git.OID{}, err
		}
		if tree, _, _, err = git.CommitLinks(parent.Data, nil); err != nil {
			return nil, git.OID{}, err
		}
		commit.Parents = []git.OID{base}
	}
	var err error
	if commit.Tree, err = w.Edit(tree, r.Changes); err != nil {
		return nil, git.OID{}, err
	}
	o, err := w.Put(git.Commit, commit.Append(nil))
	if err != nil {
		return nil, git.OID{}, err
	}
	q, err := w.Finish(ctx, c.receiveOptions())
	return q, o, err
}
