package gitrepo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/errkind"
)

// Commit makes a commit and moves the branch to it. If it returns an error, the branch and the files of its worktree are as they were,
// unless the error says otherwise.
func (r *Repo) Commit(ctx context.Context, q *milestone.CommitRequest) (string, error) {
	ref, err := r.ref(ctx, q.Branch)
	if err != nil {
		return "", err
	}
	if err := r.at(ctx, ref, q.Parent); err != nil {
		return "", err
	}
	tree, err := r.tree(ctx, q)
	if err != nil {
		return "", err
	}
	id, err := r.commitTree(ctx, q, tree)
	if err != nil {
		return "", err
	}
	if r.remote != "" {
		// What the branch must be at is "" where it must not be there.
		if err := r.push(ctx, r.remote, id, ref, "--force-with-lease="+ref+":"+q.Parent); err != nil {
			return "", err
		}
		// The cache may be behind: the next Tip brings it what it lacks.
		_, _ = r.git(ctx, nil, "update-ref", ref, id)
		return id, nil
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if err := r.at(ctx, ref, q.Parent); err != nil {
		return "", err
	}
	return id, r.publish(ctx, ref, q.Parent, id)
}

// at checks that a local reference is where it is expected.
func (r *Repo) at(ctx context.Context, ref, want string) error {
	got, err := r.local(ctx, ref)
	if err == nil && got != want {
		err = fmt.Errorf("branch %s is at %.12s, and not at %.12s any more: try again: %w", strings.TrimPrefix(ref, branches), cmp.Or(got, "nothing"), cmp.Or(want, "nothing"), errkind.Conflict)
	}
	return err
}

// publish moves a local branch, with what is checked out of it, after the remote has the commit.
func (r *Repo) publish(ctx context.Context, ref, old, id string) error {
	trees, err := r.worktrees(ctx, ref)
	if err != nil {
		return err
	}
	for _, dir := range trees {
		if err := r.checkOut(ctx, dir, old, id, "-n"); err != nil {
			return err
		}
	}
	if r.o.Push != "" {
		if err := r.push(ctx, r.o.Push, id, ref); err != nil {
			return err
		}
	}
	if err := r.move(ctx, ref, old, id); err != nil {
		if r.o.Push != "" {
			return fmt.Errorf("%s has the milestone %.12s, and this repository has not: pull it: %w", r.clean(r.o.Push), id, err)
		}
		return err
	}
	for _, dir := range trees {
		if err := r.checkOut(ctx, dir, old, id); err != nil {
			return r.undo(ctx, ref, old, id, err)
		}
	}
	return nil
}

// undo takes a branch back whose worktree could not follow, though it could a moment before.
func (r *Repo) undo(ctx context.Context, ref, old, id string, why error) error {
	if r.o.Push == "" {
		if err := r.move(ctx, ref, id, old); err == nil {
			return why
		}
	}
	return fmt.Errorf("the milestone %.12s is made, and the files of its worktree are not as it has them: %w", id, why)
}

// move sets a reference that has to have a value now. An empty value is that of a reference that is not there.
func (r *Repo) move(ctx context.Context, ref, old, id string) error {
	zero := strings.Repeat("0", max(len(old), len(id)))
	_, err := r.git(ctx, nil, "update-ref", "-m", "milestone", ref, cmp.Or(id, zero), cmp.Or(old, zero))
	if err == nil {
		return nil
	}
	if moved := r.at(ctx, ref, old); moved != nil {
		return moved
	}
	return err
}

// tree writes the files of a commit and returns its tree.
func (r *Repo) tree(ctx context.Context, q *milestone.CommitRequest) (string, error) {
	blobs, err := r.blobs(ctx, q.Changes)
	if err != nil {
		return "", fmt.Errorf("write files: %w", err)
	}
	index, remove, err := tempIndex()
	if err != nil {
		return "", err
	}
	defer remove()
	// It is written whole: a split index would leave its other half in the repository.
	git := func(in []byte, args ...string) (string, error) {
		cmd := r.command(ctx, append([]string{"-c", "core.splitIndex=false"}, args...)...)
		cmd.Env = append(cmd.Env, "GIT_INDEX_FILE="+index)
		return r.run(cmd, bytes.NewReader(in))
	}
	if _, err := git(nil, "read-tree", cmp.Or(q.Parent, "--empty")); err != nil {
		return "", err
	}
	var info bytes.Buffer
	for i, c := range q.Changes {
		if c.Delete {
			fmt.Fprintf(&info, "0 %s\t%s\x00", strings.Repeat("0", max(len(q.Parent), 40)), c.Path)
		} else {
			fmt.Fprintf(&info, "100644 %s\t%s\x00", blobs[i], c.Path)
		}
	}
	if _, err := git(info.Bytes(), "update-index", "-z", "--index-info"); err != nil {
		return "", err
	}
	out, err := git(nil, "write-tree")
	if err != nil {
		return "", err
	}
	tree := strings.TrimSpace(out)
	return tree, r.onlyChanges(ctx, q, tree)
}

// blobs writes the contents of files, by one process, and returns their IDs by the index of the change.
func (r *Repo) blobs(ctx context.Context, changes []milestone.Change) ([]string, error) {
	var in bytes.Buffer
	for i, c := range changes {
		if !c.Delete {
			fmt.Fprintf(&in, "blob\nmark :%d\ndata %d\n", i+1, len(c.Data))
			in.Write(c.Data)
			fmt.Fprintf(&in, "\nget-mark :%d\n", i+1)
		}
	}
	in.WriteString("done\n")
	out, err := r.git(ctx, &in, "fast-import", "--quiet", "--done")
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(out)
	blobs := make([]string, len(changes))
	for i, c := range changes {
		if c.Delete {
			continue
		}
		if len(ids) == 0 {
			return nil, fmt.Errorf("git fast-import names fewer objects than it was given")
		}
		blobs[i], ids = ids[0], ids[1:]
	}
	return blobs, nil
}

// onlyChanges checks that nothing but the changes is different from the parent. git update-index takes a file away that is where a folder
// has to be.
func (r *Repo) onlyChanges(ctx context.Context, q *milestone.CommitRequest, tree string) error {
	if q.Parent == "" {
		return nil
	}
	out, err := r.git(ctx, nil, "diff-tree", "-r", "-z", "--no-renames", "--name-only", q.Parent, tree)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, c := range q.Changes {
		wanted[c.Path] = true
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if path != "" && !wanted[path] {
			return fmt.Errorf("%s is in the way of a folder or file of the same name: rename it: %w", path, errkind.Conflict)
		}
	}
	return nil
}

// commitTree makes the commit.
func (r *Repo) commitTree(ctx context.Context, q *milestone.CommitRequest, tree string) (string, error) {
	args := []string{"-c", "i18n.commitEncoding=UTF-8", "commit-tree", tree}
	if q.Parent != "" {
		args = append(args, "-p", q.Parent)
	}
	if r.signs(ctx) {
		args = append(args, "-S"+r.o.Key)
	}
	cmd := r.command(ctx, args...)
	date := fmt.Sprintf("@%d +0000", q.When.Unix())
	cmd.Env = append(cmd.Env, "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
	if q.Author != (milestone.Person{}) {
		cmd.Env = append(cmd.Env, "GIT_AUTHOR_NAME="+q.Author.Name, "GIT_AUTHOR_EMAIL="+q.Author.Email)
	}
	if by := cmp.Or(r.o.Committer, q.Author); by != (milestone.Person{}) {
		cmd.Env = append(cmd.Env, "GIT_COMMITTER_NAME="+by.Name, "GIT_COMMITTER_EMAIL="+by.Email)
	}
	out, err := r.run(cmd, strings.NewReader(q.Message))
	switch {
	case err == nil:
		return strings.TrimSpace(out), nil
	case strings.Contains(err.Error(), "tell me who you are"), strings.Contains(err.Error(), "empty ident"):
		return "", fmt.Errorf("git does not know who commits: set user.name and user.email in its configuration, or give an author: %w", errkind.Invalid)
	case r.signs(ctx):
		return "", fmt.Errorf("sign the milestone as git's configuration says (gpg.format, user.signingKey): %w", err)
	default:
		return "", err
	}
}

// signs reports whether commits are signed. git commit asks commit.gpgSign, and git commit-tree does not.
func (r *Repo) signs(ctx context.Context) bool {
	if r.o.Sign || r.o.Key != "" {
		return true
	}
	out, err := r.git(ctx, nil, "config", "--type=bool", "--get", "commit.gpgSign")
	return err == nil && strings.TrimSpace(out) == "true"
}

// worktrees returns the folders in which a branch is checked out.
func (r *Repo) worktrees(ctx context.Context, ref string) ([]string, error) {
	out, err := r.git(ctx, nil, "worktree", "list", "--porcelain")
	if err != nil {
		return nil, err
	}
	var dirs []string
	dir := ""
	for line := range strings.Lines(out) {
		key, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case key == "worktree":
			dir = v
		case key == "branch" && v == ref:
			dirs = append(dirs, dir)
		case key == "prunable" && len(dirs) > 0 && dirs[len(dirs)-1] == dir:
			dirs = dirs[:len(dirs)-1] // somebody removed the folder
		}
	}
	return dirs, nil
}

// checkOut brings the files of a worktree from one commit to another one, or with -n looks whether that can be done. git leaves alone what
// is not committed, and refuses if it is in the way.
func (r *Repo) checkOut(ctx context.Context, dir, old, id string, how ...string) error {
	git := func(args ...string) (string, error) {
		cmd := r.command(ctx, args...)
		cmd.Dir = dir
		return r.run(cmd, nil)
	}
	if old == "" {
		out, err := git("hash-object", "-t", "tree", "--stdin") // of nothing: the empty tree
		if err != nil {
			return err
		}
		old = strings.TrimSpace(out)
	}
	// Files that were only touched look changed to read-tree until the index is told. That others are changed is no error here.
	_, _ = git("update-index", "-q", "--refresh")
	_, err := git(append(append([]string{"read-tree"}, how...), "-m", "-u", old, id)...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errkind.Unavailable):
		return err
	default:
		return fmt.Errorf("files in %s are not committed, and the milestone has others: commit them or put them away: %w: %w", dir, err, errkind.Conflict)
	}
}

// push brings a commit to a remote's branch.
func (r *Repo) push(ctx context.Context, remote, id, ref string, options ...string) error {
	args := append([]string{"push", "--quiet", "--no-follow-tags", "--recurse-submodules=no"}, options...)
	if _, err := r.git(ctx, nil, append(args, "--", remote, id+":"+ref)...); err != nil {
		return r.remoteError("push to", err)
	}
	return nil
}

// complaints are what git says of remotes, and what a caller can do about it. The first that fits counts.
var complaints = []struct {
	text string
	kind errkind.Kind
	help string
}{
	{"cannot lock ref", errkind.Conflict, "its branch has moved: try again"},
	{"failed to update ref", errkind.Conflict, "its branch has moved: try again"},
	{"remote rejected", errkind.Forbidden, "the remote does not allow it"},
	{"stale info", errkind.Conflict, "its branch has moved: try again"},
	{"[rejected]", errkind.Conflict, "its branch has commits that are not here: pull them first"},
	{"Authentication failed", errkind.Unauthorized, "it does not accept the credentials that git has for it"},
	{"could not read Username", errkind.Unauthorized, "git has no credentials for it: set up a credential helper, or use ssh"},
	{"could not read Password", errkind.Unauthorized, "git has no password for it: set up a credential helper, or use ssh"},
	{"Permission denied", errkind.Unauthorized, "it does not accept the key that ssh has for it"},
	{"Host key verification failed", errkind.Unauthorized, "ssh does not know its host key: add it to known_hosts"},
	{"error: 403", errkind.Forbidden, "it does not allow this"},
	{"does not appear to be a git repository", errkind.NotFound, "there is no such remote or repository"},
	{"not found", errkind.NotFound, "there is no such repository"},
	{"transport '", errkind.Unsupported, "git may not use this kind of URL here"},
	{"unable to access", errkind.Unavailable, "it could not be reached"},
	{"Could not resolve host", errkind.Unavailable, "it could not be reached"},
	{"Could not read from remote", errkind.Unavailable, "it could not be reached"},
}

// remoteError says what went wrong with a remote.
func (r *Repo) remoteError(what string, err error) error {
	where := r.clean(cmp.Or(r.remote, r.o.Push))
	for _, c := range complaints {
		if strings.Contains(err.Error(), c.text) {
			return fmt.Errorf("%s %s: %s: %w: %w", what, where, c.help, err, c.kind)
		}
	}
	return fmt.Errorf("%s %s: %w", what, where, err)
}
