package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/config/workspace"
)

// configFlags are those of all commands below skep config.
type configFlags struct {
	dir, actor, class string
}

func newConfig() *cobra.Command {
	f := &configFlags{}
	cmd := group("config", "Configuration with many writers: typed operations that merge, milestones in Git",
		newConfigInit(f), newConfigSet(f), newConfigBulkSet(f), newConfigGet(f), newConfigList(f), newConfigInsert(f), newConfigRemove(f),
		newConfigMove(f), newConfigDiff(f), newConfigLog(f), newConfigBlame(f), newConfigStatus(f), newConfigPromote(f), newConfigConflicts(f),
		newConfigResolve(f), newConfigWatch(f), newConfigMilestone(f), newConfigWebhook(f), newConfigImport(f), newConfigExport(f), newConfigEvaluate(),
		newConfigSchema(f), newConfigEnvironments(f), newConfigAuth(), newConfigKeys(f), newConfigRBAC(f), newConfigAudit(f), newConfigDaemon(f))
	cmd.Long = `Change and read a document of configuration. It lies in a folder, in .conflux, which "skep config init" makes; no server has to run, and
several processes may use it at the same time.

An entity is named TYPE.ID (service.api), a field of it TYPE.ID.FIELD (service.api.replicas), a key of a map TYPE.ID.FIELD[KEY]. Where nothing
else is said, the base environment is meant.

Who does something is, in this order, --actor, SKEP_CONFIG_ACTOR, the name that git has (user.name), or $USER. Roles in .conflux/rbac.toml are
asked about actors that are named by the first two; who names none is the folder's owner, who may do everything. SKEP_INTENT says why something
is done, where --intent does not.`
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.dir, "dir", ".", "the document's folder, or one below it")
	flags.StringVar(&f.actor, "actor", "", "who does it: ID, or CLASS:ID")
	flags.StringVar(&f.class, "actor-class", "", "what that is: human, pipeline, operator or system (default human)")
	return cmd
}

// actorVariable is the environment variable that names the actor.
const actorVariable = "SKEP_CONFIG_ACTOR"

// who returns the actor, and whether somebody named it.
func (f *configFlags) who(ctx context.Context) (actor config.Actor, named bool, err error) {
	text := f.actor
	if text == "" {
		text = os.Getenv(actorVariable)
	}
	named = text != ""
	if !named {
		text = userName(ctx)
	}
	actor = config.Actor{ID: text, Class: config.Human}
	if class, name, ok := strings.Cut(text, ":"); ok && named {
		if c, err := config.ParseClass(class); err == nil && class != "" {
			actor.Class, actor.ID = c, name
		}
	}
	if f.class != "" {
		if actor.Class, err = config.ParseClass(f.class); err != nil {
			return actor, named, usageError{err}
		}
	}
	if err := actor.Check(); err != nil {
		return actor, named, usageError{fmt.Errorf("%w: say who you are with --actor", err)}
	}
	return actor, named, nil
}

// userName is what git or the machine calls the user.
func userName(ctx context.Context) string {
	if name := gitName(ctx); name != "" {
		return name
	}
	if name := os.Getenv("USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "" // who it is has to be said then
}

// gitName is what git calls the user; "" if it does not know.
func gitName(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "config", "user.name").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// document is a workspace that a command works in, and as whom.
type document struct {
	*workspace.Workspace
	*service.Service
	log          *slog.Logger // of what goes wrong beside what was asked for
	actor        config.Actor
	named        bool // somebody said who acts; else it is the folder's owner
	environments []wire.Environment
	base         string // the first of them
}

// caller is who runs the command.
func (d *document) caller() *service.Caller {
	return &service.Caller{Service: d.Service, Actor: d.actor}
}

// with opens the document, has fn work with it, and closes it.
func (f *configFlags) with(cmd *cobra.Command, fn func(ctx context.Context, d *document) error) (err error) {
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
	d := &document{Workspace: w, Service: w.Service, actor: actor, named: named, environments: w.Service.Environments()}
	d.log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	d.base = d.environments[0].Name
	if err := fn(ctx, d); err != nil {
		return err
	}
	return w.Keep(context.WithoutCancel(ctx))
}

// environmentFlag adds the --env flag.
func environmentFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("env", "e", "", "in which environment (default the base)")
}
