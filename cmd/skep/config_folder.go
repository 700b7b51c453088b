package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/auditlog"
	"github.com/skep-dev/skep/internal/config/hooks"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/policy"
)

// folder is a workspace that a command works in, and as whom. It is content, as a server's document is.
type folder struct {
	work     *workspace.Workspace
	service  *service.Service
	actor    config.Actor
	named    bool                     // somebody said who acts; else it is the folder's owner
	log      *slog.Logger             // of what goes wrong beside what was asked for
	progress func(done, total uint64) // of an export; nil: nobody looks
}

// inFolder opens the workspace, has fn work in it, and closes it. A document that is in no folder is refused, with what to do instead.
func (f *configFlags) inFolder(cmd *cobra.Command, instead string, fn func(ctx context.Context, w *folder) error) (err error) {
	if err := f.onlyInFolder(cmd, instead); err != nil {
		return err
	}
	ctx := cmd.Context()
	actor, named, err := f.who(ctx)
	if err != nil {
		return err
	}
	w, err := workspace.Open(ctx, f.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	keys, err := sign.LoadRegistry(w.File(workspace.KeysFile))
	if err != nil {
		return err
	}
	opts := service.Options{Check: service.CheckSigned(w.Settings.Document, keys, w.Settings.Signing.Required, time.Now)}
	if named {
		rules, err := w.Rules()
		if err != nil {
			return err
		}
		if rules != nil {
			opts.Access = rules
		}
	}
	w.Service.Configure(opts)
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := fn(ctx, &folder{work: w, service: w.Service, actor: actor, named: named, log: log}); err != nil {
		return err
	}
	return w.Keep(context.WithoutCancel(ctx))
}

// caller is who runs the command.
func (w *folder) caller() *service.Caller {
	return &service.Caller{Service: w.service, Actor: w.actor}
}

// publisher makes and finds the document's milestones.
func (w *folder) publisher() *publish.Publisher {
	return w.work.Milestones(author, w.work.Webhooks(w.log), w.log)
}

// hooks looks after the document's webhooks.
func (w *folder) hooks() hooks.Manager {
	return hooks.Manager{Hooks: w.work.Webhooks(w.log), By: w.caller(), Owner: !w.named}
}

// Schema returns the schema in force.
func (w *folder) Schema(context.Context) (out wire.SchemaText, err error) {
	out.Name, out.Version, out.Text = w.service.Schema()
	return out, nil
}

// SubmitBatch has operations done, all or none.
func (w *folder) SubmitBatch(ctx context.Context, ops []wire.Operation, how client.WriteOptions) (out wire.Results, err error) {
	out.Results, err = w.service.Submit(ctx, w.actor, ops, service.Submission{DryRun: how.DryRun, Base: how.IfMatch, Expect: how.IfMatch != ""})
	return out, err
}

// State reads the entities of an environment, or a page of them.
func (w *folder) State(ctx context.Context, q client.StateQuery) (*wire.State, error) {
	return w.service.State(ctx, w.actor, service.Query(q))
}

// Entity reads one entity.
func (w *folder) Entity(ctx context.Context, entity, env string) (*wire.Entity, error) {
	return w.service.Entity(ctx, w.actor, entity, env)
}

func filterOf(f client.FieldFilter) config.Filter {
	return config.Filter{Entities: f.Entities, Fields: f.Fields}
}

// Diff returns what would change if environment from became as to.
func (w *folder) Diff(ctx context.Context, from, to string, f client.FieldFilter) ([]wire.Change, error) {
	return w.service.Diff(ctx, w.actor, from, to, filterOf(f))
}

// Conflicts lists the fields for which somebody has to choose.
func (w *folder) Conflicts(ctx context.Context) ([]wire.Conflict, error) {
	return w.service.Conflicts(ctx, w.actor), nil
}

// Violations lists the rules of the schema that the state breaks.
func (w *folder) Violations(ctx context.Context, env string) ([]wire.Violation, error) {
	return w.service.Violations(ctx, w.actor, env), nil
}

// Status returns the document at a glance.
func (w *folder) Status(ctx context.Context) (*wire.Status, error) {
	s := w.service.Status(ctx, w.actor)
	if !w.service.ReadsAll(w.actor) { // what stands in the way of a milestone is told with its values
		return s, nil
	}
	var err error
	s.Automatic, err = w.publisher().Automatic(ctx)
	return s, err
}

// Log returns operations, the newest first.
func (w *folder) Log(ctx context.Context, q client.OperationQuery) (*wire.Log, error) {
	return w.service.Log(ctx, w.actor, service.LogQuery(q))
}

// Blame returns where an entity's values come from.
func (w *folder) Blame(ctx context.Context, entity, field, env string) ([]wire.Blame, error) {
	return w.service.Blame(ctx, w.actor, entity, field, env)
}

// Since returns what has changed since an earlier state. A milestone may have any name that git has for it.
func (w *folder) Since(ctx context.Context, then client.Then, env string, f client.FieldFilter) ([]wire.Change, error) {
	asked := service.Then{Time: then.Time}
	if then.Time.IsZero() {
		version := then.Version
		if version == "" {
			m, err := w.Milestone(ctx, then.Milestone)
			if err != nil {
				return nil, err
			}
			version = m.Version
		}
		seen, err := crdt.ParseDots(version)
		if err != nil {
			return nil, err
		}
		asked.Version = &seen
	}
	return w.service.Since(ctx, w.actor, asked, env, filterOf(f))
}

// CreateMilestone commits what the document says.
func (w *folder) CreateMilestone(ctx context.Context, n wire.NewMilestone) (*wire.Milestone, error) {
	return w.publisher().Create(ctx, w.caller(), n)
}

// Milestones lists milestones, the latest first.
func (w *folder) Milestones(ctx context.Context, limit int) ([]wire.Milestone, error) {
	return w.publisher().List(ctx, limit)
}

// Milestone finds a milestone by any name that git has for its commit; "" is the last one.
func (w *folder) Milestone(ctx context.Context, rev string) (*wire.Milestone, error) {
	return w.publisher().Show(ctx, rev)
}

// ExportLog copies the log as lines of JSON, with what shows that nothing was changed.
func (w *folder) ExportLog(ctx context.Context, to io.Writer, q client.ExportQuery) error {
	if err := w.service.Permit(w.actor, policy.ConfigAdmin, "", "", ""); err != nil {
		return err
	}
	keys, err := sign.LoadRegistry(w.work.File(workspace.KeysFile))
	if err != nil {
		return err
	}
	progress := w.progress
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	_, err = auditlog.Export(ctx, w.service.Document(), auditlog.Filter(q), keys, time.Now(), to, progress)
	return err
}

// errEnough ends a watch of which nobody wants more.
var errEnough = errors.New("enough")

// Watch follows what changes, whichever process writes it.
func (w *folder) Watch(ctx context.Context, q client.WatchQuery) iter.Seq2[*wire.Event, error] {
	return func(yield func(*wire.Event, error) bool) {
		doc := w.service.Document()
		asked := service.WatchQuery{Cursor: doc.Head().Seq, Initial: q.Initial, Entity: q.Entity, Field: q.Field, Env: q.Env, Valid: q.Valid, Passed: q.Passed}
		if q.Cursor != nil {
			asked.Cursor = *q.Cursor
		}
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return doc.Run(ctx) })
		// The events come in the goroutine that wants them.
		err := w.service.Watch(ctx, w.actor, asked, func(e *wire.Event) error {
			if !yield(e, nil) {
				return errEnough
			}
			return nil
		})
		group.Go(func() error { return err })
		if failed := group.Wait(); !errors.Is(err, errEnough) {
			yield(nil, failed)
		}
	}
}
