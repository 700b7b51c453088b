// Package publish makes a document's milestones, one at a time, in the repository that they go to.
//
//	p := publish.New(doc, publish.Options{Open: open})
//	m, err := p.Create(ctx, caller, wire.NewMilestone{Message: "api: five replicas"})
//
// The repository is opened for each use: a folder of somebody's, an address, or one that a server hosts. Whoever asks is asked for
// permission by the rules of the service that they come with.
//
// Options.Auto has Run make milestones that nobody asks for: of several processes that Run for one document one makes each.
package publish

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/hooks"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/webhook"
)

// Target is where milestones go, until it is released.
type Target struct {
	Repo    milestone.Repo
	Branch  string
	URL     string // as those who fetch from it write it; "": nobody knows
	Release func() // nil: there is nothing to release
}

func (t *Target) release() {
	if t.Release != nil {
		t.Release()
	}
}

// Author says whom a milestone's commit is by, of who asks for it. Zero: as the repository's settings say.
type Author func(ctx context.Context, a config.Actor) milestone.Person

// Options of a Publisher. All but Open may be left out.
type Options struct {
	// Open opens the repository. One that is not there yet is made if begin says so; otherwise that is errkind.NotFound.
	Open func(ctx context.Context, begin bool) (Target, error)
	// Formats returns the formats of files, and what to call when they are not used any more; nil: those that Skep has.
	Formats func(ctx context.Context) (formats *format.Registry, release func(), err error)
	Format  string // of the files; "": yaml
	Author  Author // nil: Person
	Auto    Auto   // when Run makes milestones
	// Webhooks are told of each milestone, by whatever process they are delivered then; nil: none are.
	Webhooks *webhook.Hooks
	Now      func() time.Time
	Logger   *slog.Logger // nil: none
}

// Publisher makes a document's milestones. It is safe for concurrent use.
type Publisher struct {
	doc  *engine.Document
	opts Options
	one  chan struct{} // held by the one that works in the repository: git's index of a folder is one
}

// New returns the publisher of a document.
func New(doc *engine.Document, opts Options) *Publisher {
	if opts.Formats == nil {
		opts.Formats = func(context.Context) (*format.Registry, func(), error) { return format.NewRegistry(), func() {}, nil }
	}
	if opts.Format == "" {
		opts.Format = "yaml"
	}
	if opts.Author == nil {
		opts.Author = func(_ context.Context, a config.Actor) milestone.Person { return Person(a) }
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Publisher{doc: doc, opts: opts, one: make(chan struct{}, 1)}
}

// Person is an actor as commits name people. An actor has no address; git wants one, and this is one that nobody has (RFC 2606).
func Person(a config.Actor) milestone.Person {
	plain := func(s string) string {
		return strings.Trim(strings.NewReplacer("<", "", ">", "", "\n", " ").Replace(s), " ")
	}
	p := milestone.Person{Name: plain(a.Name), Email: plain(a.ID) + "@skep.invalid"}
	if p.Name == "" {
		p.Name = plain(a.ID)
	}
	return p
}

// work opens the repository and has fn work in it, when nobody else does.
func (p *Publisher) work(ctx context.Context, begin bool, fn func(t *Target) error) error {
	select {
	case p.one <- struct{}{}:
		defer func() { <-p.one }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return p.look(ctx, begin, fn)
}

// look opens the repository for reading.
func (p *Publisher) look(ctx context.Context, begin bool, fn func(t *Target) error) error {
	t, err := p.opts.Open(ctx, begin)
	if err != nil {
		return err
	}
	defer t.release()
	return fn(&t)
}

// Create makes a milestone, which is by who asks for it.
func (p *Publisher) Create(ctx context.Context, c *service.Caller, n wire.NewMilestone) (made *wire.Milestone, err error) {
	if err := p.permit(c, &n); err != nil {
		return nil, err
	}
	err = p.work(ctx, true, func(t *Target) error {
		imported := ""
		if n.Import {
			found, err := p.importEdits(ctx, t, c, false)
			if err != nil {
				return err
			}
			imported = found.Commit
		}
		seq := p.doc.Head().Seq
		made, err = p.create(ctx, t, &n, milestone.Options{Author: p.opts.Author(ctx, c.Actor), Imported: imported})
		if err == nil && len(n.Environments) == 0 {
			p.note(ctx, made.ID, seq)
		}
		return err
	})
	return made, err
}

// note remembers a milestone of all environments, so that Run makes the next one when that is due.
func (p *Publisher) note(ctx context.Context, commit string, seq uint64) {
	_, err := p.change(context.WithoutCancel(ctx), func(s *state) bool {
		s.made(commit, seq, p.opts.Now())
		return true
	})
	if err != nil { // there is a milestone, and whoever asked for it is told so
		p.opts.Logger.WarnContext(ctx, "a milestone could not be noted: the next automatic one may come early", "commit", commit, "error", err)
	}
}

// permit refuses what somebody may not do.
func (p *Publisher) permit(c *service.Caller, n *wire.NewMilestone) error {
	envs := n.Environments
	if len(envs) == 0 {
		for _, e := range c.Service.Environments() {
			envs = append(envs, e.Name)
		}
	}
	for _, env := range envs {
		if err := c.Service.Permit(c.Actor, policy.ConfigMilestone, "", "", env); err != nil {
			return err
		}
	}
	if n.AllowViolations || n.Overwrite {
		return c.Service.Permit(c.Actor, policy.ConfigAdmin, "", "", "")
	}
	return nil
}

// create makes a milestone of what the document says now. opts say what n does not.
func (p *Publisher) create(ctx context.Context, t *Target, n *wire.NewMilestone, opts milestone.Options) (*wire.Milestone, error) {
	formats, release, err := p.opts.Formats(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	files, err := formats.Serializer(p.opts.Format)
	if err != nil {
		return nil, err
	}
	var projection *milestone.Projection
	var head oplog.Head
	err = p.doc.ViewAt(func(s *config.State, at oplog.Head) (err error) {
		projection, err = milestone.Take(s, n.Environments)
		head = at
		return err
	})
	if err == nil {
		err = projection.Write(ctx, files)
	}
	if err != nil {
		return nil, err
	}
	opts.Branch, opts.Message, opts.When = t.Branch, n.Message, p.opts.Now()
	opts.AllowViolations, opts.AllowEmpty, opts.Overwrite = n.AllowViolations, n.AllowEmpty, n.Overwrite
	opts.LogHead = fmt.Sprintf("sha256:%x", head.Hash)
	made, err := milestone.Create(ctx, t.Repo, projection, func(version *crdt.Dots) iter.Seq2[*config.Op, error] {
		return p.doc.Since(ctx, version, head.Seq)
	}, opts)
	if err != nil {
		return nil, err
	}
	p.tell(ctx, t, made)
	return wireMilestone(made.Milestone), nil
}

// tell has webhooks told of a milestone. That there is one is no less true if it fails.
func (p *Publisher) tell(ctx context.Context, t *Target, made *milestone.Made) {
	if p.opts.Webhooks == nil {
		return
	}
	ctx = context.WithoutCancel(ctx) // who asked may be gone: the milestone is there
	err := hooks.Milestone(ctx, p.opts.Webhooks, p.doc.Name(), hooks.Commit{
		Commit: made.ID, Before: made.Before, Repository: t.URL, Branch: t.Branch, Message: made.Commit.Message, Time: made.When,
		Environments: made.Environments, Operations: made.Operations, Added: made.Added, Modified: made.Modified, Removed: made.Removed,
	})
	if err != nil {
		p.opts.Logger.WarnContext(ctx, "webhooks are not told of a milestone", "commit", made.ID, "error", err)
	}
}

// Import has the document take over what somebody edited in Git since the last milestone, as operations by who asks for it.
func (p *Publisher) Import(ctx context.Context, c *service.Caller, dryRun bool) (found *milestone.Import, err error) {
	err = p.work(ctx, false, func(t *Target) error {
		found, err = p.importEdits(ctx, t, c, dryRun)
		return err
	})
	return found, err
}

func (p *Publisher) importEdits(ctx context.Context, t *Target, c *service.Caller, dryRun bool) (*milestone.Import, error) {
	formats, release, err := p.opts.Formats(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	read := func(ctx context.Context, id, name string, data []byte) (any, error) {
		parser, err := formats.Parser(id)
		if err != nil {
			return nil, err
		}
		return parser.Unmarshal(ctx, name, data)
	}
	found, err := milestone.ReadEdits(ctx, t.Repo, p.doc.View, t.Branch, read)
	if err != nil || len(found.Requests) == 0 {
		return found, err
	}
	return found, c.Service.Do(ctx, c.Actor, found.Requests, dryRun)
}

// List returns the milestones, the latest first.
func (p *Publisher) List(ctx context.Context, limit int) ([]wire.Milestone, error) {
	out := []wire.Milestone{}
	err := p.look(ctx, false, func(t *Target) error {
		list, err := milestone.List(ctx, t.Repo, t.Branch, limit)
		for _, one := range list {
			out = append(out, *wireMilestone(one))
		}
		return err
	})
	return out, err
}

// Show returns the milestone that a revision of the repository names; "" is the last one.
func (p *Publisher) Show(ctx context.Context, rev string) (found *wire.Milestone, err error) {
	err = p.look(ctx, false, func(t *Target) error {
		one, err := show(ctx, t, rev)
		if err != nil {
			return err
		}
		found = wireMilestone(one)
		return nil
	})
	return found, err
}

func show(ctx context.Context, t *Target, rev string) (*milestone.Milestone, error) {
	if rev != "" {
		return milestone.Show(ctx, t.Repo, rev)
	}
	list, err := milestone.List(ctx, t.Repo, t.Branch, 1)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("there is no milestone yet: %w", errkind.NotFound)
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
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
