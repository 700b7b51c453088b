package bare

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// judge applies the rules of receive.* and the hook update to one update.
func (p *push) judge(ctx context.Context, i int) (change, error) {
	u := p.updates[i]
	c := change{name: p.full(u.Name), old: u.Old, new: u.New, message: "push"}
	config := p.repo.config
	t, instead, err := p.currentBranch(u, c.name)
	if err != nil {
		return c, err
	}
	if !u.New.IsZero() && !p.store.Has(u.New) {
		p.say("error: unpack should have generated %s, but I can't find it!", u.New)
		return c, refused("bad pack")
	}
	if !u.Old.IsZero() && u.New.IsZero() {
		if config.Bool("receive.denydeletes", false) && u.Name.IsBranch() {
			p.say("error: denying ref deletion for %s", u.Name)
			return c, refused("deletion prohibited")
		}
		if t.dir != "" || p.head != "" && c.name == p.head {
			if err := p.deleteCurrent(u); err != nil {
				return c, err
			}
		}
	}
	if !u.Old.IsZero() && !u.New.IsZero() && u.Name.IsBranch() && config.Bool("receive.denynonfastforwards", false) {
		if err := p.forward(ctx, u); err != nil {
			return c, err
		}
	}
	if err := p.hooks.run(ctx, "update", "", p.messages, string(u.Name), u.Old.String(), u.New.String()); err != nil {
		p.say("error: hook declined to update %s", u.Name)
		return c, refused("hook declined")
	}
	if instead && !u.New.IsZero() {
		if err := p.updateInstead(ctx, u, t); err != nil {
			return c, err
		}
	}
	if u.New.IsZero() && !p.store.Has(u.Old) {
		c.any = true
		if _, _, ok := p.state.refs.resolve(c.name); ok {
			p.say("warning: allowing deletion of corrupt ref")
		} else {
			p.say("warning: deleting a non-existent ref")
			p.absent[i] = true
		}
	}
	return c, nil
}

// forward refuses branches that lose commits, and those that are set to what is no commit.
func (p *push) forward(ctx context.Context, u git.RefUpdate) error {
	_, oldKind, oldErr := p.store.Peel(u.Old)
	_, newKind, newErr := p.store.Peel(u.New)
	if oldErr != nil || newErr != nil || oldKind != git.Commit || newKind != git.Commit {
		p.say("error: Bad sha1 objects %s and %s for %s", u.Old, u.New, u.Name)
		return refused("bad ref")
	}
	g, err := revwalk.NewShallowGraph(p.store, p.state.shallow)
	if err != nil {
		return err
	}
	if ok, err := g.IsAncestor(ctx, u.Old, u.New); err != nil || !ok {
		p.say("error: denying non-fast-forward %s (you should pull first)", u.Name)
		return refused("non-fast-forward")
	}
	return nil
}

// deny reads a setting that refuses, warns or ignores; what is unset is unconfigured.
func (p *push) deny(name string) string {
	v, ok := p.repo.config.Get(name)
	v = strings.ToLower(v)
	switch {
	case !ok:
		return "unconfigured"
	case v == "ignore", v == "warn", v == "refuse", v == "updateinstead":
		return v
	}
	if on, ok := parseBool(v); ok && !on {
		return "ignore"
	}
	return "refuse"
}

const refuseCurrent = `error: refusing to update checked out branch: %s
error: By default, updating the current branch in a non-bare repository
error: is denied, because it will make the index and work tree inconsistent
error: with what you pushed, and will require 'git reset --hard' to match
error: the work tree to HEAD.
error: 
error: You can set the 'receive.denyCurrentBranch' configuration variable
error: to 'ignore' or 'warn' in the remote repository to allow pushing into
error: its current branch; however, this is not recommended unless you
error: arranged to update its work tree to match what you pushed in some
error: other way.
error: 
error: To squelch this message and still keep the default behaviour, set
error: 'receive.denyCurrentBranch' configuration variable to 'refuse'.`

// currentBranch applies receive.denyCurrentBranch to a branch that a work tree, which it returns, has checked out; instead says that the
// files there are to follow.
func (p *push) currentBranch(u git.RefUpdate, name git.RefName) (t tree, instead bool, err error) {
	t, ok := p.repo.checkedOut(name)
	if !ok {
		return t, false, nil
	}
	switch p.deny("receive.denycurrentbranch") {
	case "ignore":
		return t, false, nil
	case "warn":
		p.say("warning: updating the current branch")
		return t, false, nil
	case "updateinstead":
		return t, true, nil
	case "unconfigured":
		p.say(refuseCurrent, u.Name)
	default:
		p.say("error: refusing to update checked out branch: %s", u.Name)
	}
	return t, false, refused("branch is currently checked out")
}

const refuseDelete = `error: By default, deleting the current branch is denied, because the next
error: 'git clone' won't result in any file checked out, causing confusion.
error: 
error: You can set 'receive.denyDeleteCurrent' configuration variable to
error: 'warn' or 'ignore' in the remote repository to allow deleting the
error: current branch, with or without a warning message.
error: 
error: To squelch this message, you can set it to 'refuse'.`

func (p *push) deleteCurrent(u git.RefUpdate) error {
	switch p.deny("receive.denydeletecurrent") {
	case "ignore":
		return nil
	case "warn":
		p.say("warning: deleting the current branch")
		return nil
	case "unconfigured":
		p.say(refuseDelete)
	}
	p.say("error: refusing to delete the current branch: %s", u.Name)
	return refused("deletion of the current branch prohibited")
}

// tree is a work tree and the folder that git keeps for it.
type tree struct{ dir, gitDir string }

// checkedOut finds the work tree that has a branch checked out.
func (r *Repo) checkedOut(name git.RefName) (tree, bool) {
	if main, ok := r.mainTree(); ok && headNames(main.gitDir, name) {
		return main, true
	}
	linked, err := filepath.Glob(filepath.Join(escapeGlob(r.common), "worktrees", "*"))
	if err != nil {
		return tree{}, false
	}
	for _, dir := range linked {
		b, err := readText(filepath.Join(dir, "gitdir"))
		if err == nil && headNames(dir, name) {
			return tree{dir: filepath.Dir(b), gitDir: dir}, true
		}
	}
	return tree{}, false
}

func (r *Repo) mainTree() (tree, bool) {
	if r.common == r.dir {
		return tree{dir: r.workTree(), gitDir: r.dir}, !r.isBare()
	}
	return tree{dir: filepath.Dir(r.common), gitDir: r.common}, filepath.Base(r.common) == ".git" && !r.config.Bool("core.bare", false)
}

func headNames(gitDir string, name git.RefName) bool {
	text, err := readText(filepath.Join(gitDir, "HEAD"))
	target, ok := strings.CutPrefix(text, "ref: ")
	return err == nil && ok && git.RefName(target) == name
}

// updateInstead brings a work tree to what is pushed (receive.denyCurrentBranch = updateInstead): by the hook push-to-checkout, or by git,
// which must be there for this as it is for all work trees.
func (p *push) updateInstead(ctx context.Context, u git.RefUpdate, t tree) error {
	h := *p.hooks
	h.env = append(slices.Clip(h.env), "GIT_DIR="+t.gitDir, "GIT_WORK_TREE="+t.dir)
	if path := h.find("push-to-checkout"); path != "" {
		cmd := h.command(ctx, path, p.messages, u.New.String())
		cmd.Dir = t.dir
		if cmd.Run() != nil {
			return refused("push-to-checkout hook declined")
		}
		return nil
	}
	head := "HEAD"
	if u.Old.IsZero() {
		head = "4b825dc642cb6eb9a060e54bf8d69288fbee4904" // the empty tree
	}
	steps := []struct {
		args   []string
		reason string
	}{
		{[]string{"update-index", "-q", "--ignore-submodules", "--refresh"}, "Up-to-date check failed"},
		{[]string{"diff-files", "--quiet", "--ignore-submodules", "--"}, "Working directory has unstaged changes"},
		{[]string{"diff-index", "--quiet", "--cached", "--ignore-submodules", head, "--"}, "Working directory has staged changes"},
		{[]string{"read-tree", "-u", "-m", u.New.String()}, "Could not update working tree to new HEAD"},
	}
	for _, s := range steps {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, "git", s.args...) //nolint:gosec // as above
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = t.dir, append(h.environ(), h.env...), &out, &out
		if cmd.Run() != nil {
			return refused(s.reason)
		}
	}
	return nil
}
