package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config"
)

// configFlags are those of all commands below skep config.
type configFlags struct {
	dir, actor, class         string
	document, daemon, keyFile string
}

func newConfig() *cobra.Command {
	f := &configFlags{}
	cmd := group("config", "Configuration with many writers: typed operations that merge, milestones in Git",
		newConfigInit(f), newConfigSet(f), newConfigBulkSet(f), newConfigGet(f), newConfigList(f), newConfigInsert(f), newConfigRemove(f),
		newConfigMove(f), newConfigDiff(f), newConfigLog(f), newConfigBlame(f), newConfigStatus(f), newConfigPromote(f), newConfigConflicts(f),
		newConfigResolve(f), newConfigWatch(f), newConfigMilestone(f), newConfigWebhook(f), newConfigDocument(), newConfigImport(f), newConfigExport(f),
		newConfigEvaluate(),
		newConfigSchema(f), newConfigEnvironments(f), newConfigAuth(), newConfigKeys(f), newConfigRBAC(f), newConfigAudit(f), newConfigDaemon(f))
	cmd.Long = `Change and read a document of configuration. It lies in a folder, in .conflux, which "skep config init" makes; no server has to run, and
several processes may use it at the same time.

An entity is named TYPE.ID (service.api), a field of it TYPE.ID.FIELD (service.api.replicas), a key of a map TYPE.ID.FIELD[KEY]. Where nothing
else is said, the base environment is meant.

With --document TENANT/NAME, or SKEP_CONFIG_DOCUMENT, it is one of the server that other commands talk to (see "skep login"), and with --daemon URL,
or SKEP_CONFIG_DAEMON, the one that a skep config daemon serves. The commands are the same; those that work with a folder's files say so.

Who does something is, in this order, --actor, SKEP_CONFIG_ACTOR, the name that git has (user.name), or $USER. Roles in .conflux/rbac.toml are
asked about actors that are named by the first two; who names none is the folder's owner, who may do everything. A server knows by the token who
somebody is, and a daemon by the API key, if it asks for one. SKEP_INTENT says why something
is done, where --intent does not.`
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.dir, "dir", ".", "the document's folder, or one below it")
	flags.StringVar(&f.document, "document", "", "TENANT/NAME of a document on the server, instead of a folder (default "+documentVariable+")")
	flags.StringVar(&f.daemon, "daemon", "", "the address of a skep config daemon, whose document is meant, as http://127.0.0.1:9400 (default "+daemonVariable+")")
	flags.StringVar(&f.keyFile, "daemon-key", "", "a file with the API key for that daemon (default the key in "+keyVariable+")")
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

// environmentFlag adds the --env flag.
func environmentFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("env", "e", "", "in which environment (default the base)")
}
