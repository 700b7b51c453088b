package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/gitrepo"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// gitCache is the folder in which git keeps what it needs of a remote repository.
const gitCache = "git"

// pluginsFile is the name of the file with formats of the user's own.
const pluginsFile = "plugins.toml"

// Milestones are those of a workspace's document, in the repository of its settings.
type Milestones struct {
	work   *Workspace
	repo   milestone.Repo
	branch string
}

// Remote reports whether milestones go to an address, which takes the network.
func (w *Workspace) Remote() bool {
	to := w.Settings.Git.Repository
	host, _, ok := strings.Cut(to, ":")
	return ok && len(host) > 1 && !strings.ContainsAny(host, `/\`) // and C:\ is a drive
}

// Milestones opens the repository. A folder that is none yet becomes one if begin says so; otherwise that is errkind.NotFound.
func (w *Workspace) Milestones(ctx context.Context, begin bool) (*Milestones, error) {
	g := &w.Settings.Git
	m := &Milestones{work: w, branch: g.Branch}
	opts := gitrepo.Options{Push: g.Push, Sign: g.Sign}
	if w.Remote() {
		if m.branch == "" {
			m.branch = "main"
		}
		repo, err := gitrepo.Remote(ctx, g.Repository, w.File(gitCache), opts)
		m.repo = repo
		return m, err
	}
	dir := g.Repository
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(w.Dir, dir)
	}
	if !begin && !isRepository(dir) {
		return nil, fmt.Errorf("%s is no repository yet: the first milestone makes it one: %w", dir, errkind.NotFound)
	}
	repo, err := gitrepo.Open(ctx, dir, opts)
	if err == nil && m.branch == "" {
		m.branch, err = repo.Branch(ctx)
	}
	m.repo = repo
	return m, err
}

// isRepository reports whether a folder is the top of a repository, with files or without.
func isRepository(dir string) bool {
	for _, name := range []string{".git", "HEAD"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// Formats returns the formats of files, with those of the workspace's plugins.toml if there is one. Call release when they are not used any more.
func (w *Workspace) Formats(ctx context.Context) (formats *format.Registry, release func(), err error) {
	formats, release = format.NewRegistry(), func() {}
	if _, err := os.Stat(w.File(pluginsFile)); errors.Is(err, fs.ErrNotExist) {
		return formats, release, nil
	}
	plugins, err := format.LoadPlugins(ctx, w.File(pluginsFile))
	if err != nil {
		return nil, nil, err
	}
	release = func() { _ = plugins.Close(context.WithoutCancel(ctx)) }
	for _, f := range plugins.Serializers {
		if err := formats.Register(f); err != nil {
			release()
			return nil, nil, err
		}
	}
	return formats, release, nil
}

// NewMilestone says what milestone is wanted.
type NewMilestone struct {
	Message         string
	Environments    []string // none: all
	AllowViolations bool
	AllowEmpty      bool
	Overwrite       bool             // what was edited in Git
	Import          bool             // take over first what was edited in Git
	Author          milestone.Person // zero: as git's settings say
}

// Create makes a milestone.
func (m *Milestones) Create(ctx context.Context, actor config.Actor, n NewMilestone) (*wire.Milestone, error) {
	if err := m.permit(actor, &n); err != nil {
		return nil, err
	}
	formats, release, err := m.work.Formats(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	id := m.work.Settings.Git.Format
	if id == "" {
		id = "yaml"
	}
	files, err := formats.Serializer(id)
	if err != nil {
		return nil, err
	}
	opts := milestone.Options{
		Branch: m.branch, Message: n.Message, Author: n.Author, When: time.Now(), AllowViolations: n.AllowViolations, AllowEmpty: n.AllowEmpty, Overwrite: n.Overwrite,
	}
	if n.Import {
		imported, err := m.Import(ctx, actor, false)
		if err != nil {
			return nil, err
		}
		opts.Imported = imported.Commit
	}
	var p *milestone.Projection
	var head oplog.Head
	err = m.work.Service.Document().ViewAt(func(s *config.State, at oplog.Head) (err error) {
		p, err = milestone.Take(s, n.Environments)
		head = at
		return err
	})
	if err == nil {
		err = p.Write(ctx, files)
	}
	if err != nil {
		return nil, err
	}
	opts.LogHead = fmt.Sprintf("sha256:%x", head.Hash)
	made, err := milestone.Create(ctx, m.repo, p, func(version *crdt.Dots) iter.Seq2[*config.Op, error] {
		return m.work.Service.Document().Since(ctx, version, head.Seq)
	}, opts)
	if err != nil {
		return nil, err
	}
	return wireMilestone(made), nil
}

// permit refuses what an actor may not do.
func (m *Milestones) permit(actor config.Actor, n *NewMilestone) error {
	envs := n.Environments
	if len(envs) == 0 {
		for _, e := range m.work.Service.Environments() {
			envs = append(envs, e.Name)
		}
	}
	for _, env := range envs {
		if err := m.work.Service.Permit(actor, policy.ConfigMilestone, "", "", env); err != nil {
			return err
		}
	}
	if n.AllowViolations || n.Overwrite {
		return m.work.Service.Permit(actor, policy.ConfigAdmin, "", "", "")
	}
	return nil
}

// Import has the document take over what somebody edited in Git since the last milestone.
func (m *Milestones) Import(ctx context.Context, actor config.Actor, dryRun bool) (*milestone.Import, error) {
	formats, release, err := m.work.Formats(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	read := func(ctx context.Context, id, name string, data []byte) (any, error) {
		p, err := formats.Parser(id)
		if err != nil {
			return nil, err
		}
		return p.Unmarshal(ctx, name, data)
	}
	var found *milestone.Import
	err = m.work.Service.Document().View(func(s *config.State) (err error) {
		found, err = milestone.ReadEdits(ctx, m.repo, s, m.branch, read)
		return err
	})
	if err != nil || len(found.Requests) == 0 {
		return found, err
	}
	return found, m.work.Service.Do(ctx, actor, found.Requests, dryRun)
}

// List returns the milestones, the latest first.
func (m *Milestones) List(ctx context.Context, limit int) ([]wire.Milestone, error) {
	list, err := milestone.List(ctx, m.repo, m.branch, limit)
	out := make([]wire.Milestone, 0, len(list))
	for _, one := range list {
		out = append(out, *wireMilestone(one))
	}
	return out, err
}

// Show returns the milestone that a revision of the repository names; "" is the last one.
func (m *Milestones) Show(ctx context.Context, rev string) (*wire.Milestone, error) {
	if rev != "" {
		one, err := milestone.Show(ctx, m.repo, rev)
		if err != nil {
			return nil, err
		}
		return wireMilestone(one), nil
	}
	list, err := milestone.List(ctx, m.repo, m.branch, 1)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("there is no milestone yet: %w", errkind.NotFound)
	}
	if err != nil {
		return nil, err
	}
	return wireMilestone(list[0]), nil
}

func wireMilestone(m *milestone.Milestone) *wire.Milestone {
	out := &wire.Milestone{
		ID: m.ID, Message: m.Subject, Text: m.Commit.Message, CreatedAt: m.When.UTC().Format(time.RFC3339), Environments: m.Message.Environments,
		Operations: m.Operations, Schema: m.Schema, Version: m.Version.String(), LogHead: m.LogHead, Allowed: m.Allowed,
	}
	if out.Environments == nil {
		out.Environments = []string{}
	}
	if m.Author.Name != "" {
		out.Author = m.Author.Name + " <" + m.Author.Email + ">"
	}
	if m.Operations > 0 {
		out.Start, out.End = m.Start.Time.String(), m.End.Time.String()
	}
	return out
}
