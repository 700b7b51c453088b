package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// content is what a document says, wherever it is: that of a folder, or a *client.Configuration.
type content interface {
	reading
	history
	Schema(ctx context.Context) (wire.SchemaText, error)
	SubmitBatch(ctx context.Context, ops []wire.Operation, how client.WriteOptions) (wire.Results, error)
	Watch(ctx context.Context, q client.WatchQuery) iter.Seq2[*wire.Event, error]
	CreateMilestone(ctx context.Context, n wire.NewMilestone) (*wire.Milestone, error)
}

// reading is what is so now.
type reading interface {
	State(ctx context.Context, q client.StateQuery) (*wire.State, error)
	Entity(ctx context.Context, entity, env string) (*wire.Entity, error)
	Diff(ctx context.Context, from, to string, f client.FieldFilter) ([]wire.Change, error)
	Conflicts(ctx context.Context) ([]wire.Conflict, error)
	Violations(ctx context.Context, env string) ([]wire.Violation, error)
	Status(ctx context.Context) (*wire.Status, error)
}

// history is how it came about.
type history interface {
	Log(ctx context.Context, q client.OperationQuery) (*wire.Log, error)
	Blame(ctx context.Context, entity, field, env string) ([]wire.Blame, error)
	Since(ctx context.Context, then client.Then, env string, f client.FieldFilter) ([]wire.Change, error)
	Milestones(ctx context.Context, limit int) ([]wire.Milestone, error)
	Milestone(ctx context.Context, commit string) (*wire.Milestone, error)
	ExportLog(ctx context.Context, w io.Writer, q client.ExportQuery) error
}

// document is what a command works with.
type document struct {
	content
	hooks        webhooks
	folder       *folder        // nil: it is in none
	server       *client.Client // nil: it is on none
	actor        config.Actor   // who runs the command; on a server, the server knows
	schema       *schema.Schema // in force
	environments []wire.Environment
	base         string // the first of them
}

// Where a document is, if it is in no folder.
const (
	documentVariable = "SKEP_CONFIG_DOCUMENT"
	daemonVariable   = "SKEP_CONFIG_DAEMON"
	keyVariable      = "SKEP_CONFIG_KEY"
)

// place is where a command's document is: the first of these that is not empty, or the folder.
type place struct{ document, daemon string }

// place reads the flags, and where these say nothing, the environment.
func (f *configFlags) place(cmd *cobra.Command) (place, error) {
	p := place{f.document, f.daemon}
	dir := cmd.Flags().Lookup("dir")
	if p == (place{}) && (dir == nil || !dir.Changed) {
		p = place{os.Getenv(documentVariable), os.Getenv(daemonVariable)}
	}
	if p.document != "" && p.daemon != "" {
		return p, usageError{errors.New("a document is on a server or with a daemon: say one of --document and --daemon (or " +
			documentVariable + " and " + daemonVariable + ")")}
	}
	return p, nil
}

// onlyInFolder refuses a command that works with a folder's files where another document is meant.
func (f *configFlags) onlyInFolder(cmd *cobra.Command, instead string) error {
	at, err := f.place(cmd)
	if err != nil || at == (place{}) {
		return err
	}
	text := fmt.Sprintf("%q works in a document's folder, and %s%s is in none", cmd.CommandPath(), at.document, at.daemon)
	if instead != "" {
		text += ": " + instead
	}
	return usageError{errors.New(text)}
}

// with opens the document, has fn work with it, and closes it.
func (f *configFlags) with(cmd *cobra.Command, fn func(ctx context.Context, d *document) error) error {
	at, err := f.place(cmd)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	switch {
	case at.document != "":
		c, tenant, name, err := f.onServer(at.document)
		if err != nil {
			return err
		}
		in := c.Document(tenant, name)
		d := &document{content: in, hooks: in.Webhooks(), server: c}
		if err := d.look(ctx); err != nil {
			return fmt.Errorf("document %s: %w", at.document, err)
		}
		return fn(ctx, d)
	case at.daemon != "":
		d, err := f.atDaemon(ctx, at.daemon)
		if err != nil {
			return err
		}
		if err := d.look(ctx); err != nil {
			return fmt.Errorf("daemon %s: %w", at.daemon, err)
		}
		return fn(ctx, d)
	}
	return f.inFolder(cmd, "", func(ctx context.Context, w *folder) error {
		d := &document{content: w, hooks: w.hooks(), folder: w, actor: w.actor}
		if err := d.look(ctx); err != nil {
			return err
		}
		return fn(ctx, d)
	})
}

// look reads the schema, and with it what is needed to show anything.
func (d *document) look(ctx context.Context) error {
	text, err := d.Schema(ctx)
	if err != nil {
		return err
	}
	if d.schema, err = schema.Parse("the schema in force", []byte(text.Text)); err != nil {
		return err
	}
	for _, e := range d.schema.Environments {
		d.environments = append(d.environments, wire.Environment{Name: e.Name, Inherits: e.Inherits, Base: e.Inherits == ""})
	}
	d.base = d.environments[0].Name
	return nil
}

// onServer makes a client for a document of the server that other commands talk to.
func (f *configFlags) onServer(full string) (c *client.Client, tenant, name string, err error) {
	if f.actor != "" || f.class != "" {
		return nil, "", "", usageError{errors.New("a server knows by the token who somebody is: leave out --actor and --actor-class")}
	}
	if tenant, name, err = splitDocument(full); err == nil {
		c, err = connect()
	}
	return c, tenant, name, err
}

// splitDocument reads TENANT/NAME of a document.
func splitDocument(full string) (tenant, name string, err error) {
	if tenant, name, err = splitName(full); err != nil {
		err = usageError{fmt.Errorf("document %q is not of the form TENANT/NAME: %w", full, errkind.Invalid)}
	}
	return tenant, name, err
}

// atDaemon makes a client for the document of a daemon.
func (f *configFlags) atDaemon(ctx context.Context, address string) (*document, error) {
	actor, _, err := f.who(ctx)
	if err != nil {
		return nil, err
	}
	key := os.Getenv(keyVariable)
	if f.keyFile != "" {
		text, err := os.ReadFile(f.keyFile)
		if err != nil {
			return nil, err
		}
		key = strings.TrimSpace(string(text))
	}
	c, err := client.DaemonDocument(address, client.DaemonOptions{Key: key, Actor: actor.ID, ActorClass: string(actor.Class), UserAgent: "skep/" + version})
	if err != nil {
		return nil, usageError{err}
	}
	return &document{content: c, hooks: c.Webhooks(), actor: actor}, nil
}

// signer is whom what is signed is by.
func (d *document) signer(ctx context.Context) (config.Actor, error) {
	if d.server == nil {
		return d.actor, nil
	}
	who, err := d.server.Whoami(ctx)
	return config.Actor{ID: who.Name, Class: config.Class(who.Class)}, err
}

// formats are those of the document, and the languages that are evaluated in processes of their own.
func (d *document) formats(ctx context.Context) (formats *format.Registry, release func(), err error) {
	formats, release = format.NewRegistry(), func() {}
	if d.folder != nil {
		if formats, release, err = d.folder.work.Formats(ctx); err != nil {
			return nil, nil, err
		}
	}
	program, err := os.Executable()
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("find this program: %w", err)
	}
	for _, p := range (format.Evaluator{Command: []string{program, "config", evaluateCommand}}).Formats() {
		if err := formats.Register(p); err != nil {
			release()
			return nil, nil, err
		}
	}
	return formats, release, nil
}
