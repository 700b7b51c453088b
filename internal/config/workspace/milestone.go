package workspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/gitrepo"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/webhook"
)

// gitCache is the folder in which git keeps what it needs of a remote repository.
const gitCache = "git"

// pluginsFile is the name of the file with formats of the user's own.
const pluginsFile = "plugins.toml"

// Milestones says when the daemon makes some by itself.
type Milestones struct {
	Every        Duration `toml:"every" comment:"Make one so often, if something has changed: 1h; empty: not by time"`
	After        uint64   `toml:"after" comment:"Make one when there are so many operations since the last; 0: not by their number"`
	Quiet        Duration `toml:"quiet" comment:"But wait until nobody has written for so long: 30s"`
	Environments []string `toml:"environments" comment:"Empty: all"`
	Message      string   `toml:"message" comment:"Empty: Automatic milestone"`
}

func (m *Milestones) auto() publish.Auto {
	return publish.Auto{Every: time.Duration(m.Every), After: m.After, Quiet: time.Duration(m.Quiet), Environments: m.Environments, Message: m.Message}
}

// Duration is a time in a file of settings: 1h30m; empty: none.
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = 0
		return nil
	}
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%.40q is no duration: write one such as 30s or 1h: %w", text, errkind.Invalid)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) {
	if d == 0 {
		return nil, nil
	}
	return []byte(time.Duration(d).String()), nil
}

// Remote reports whether milestones go to an address, which takes the network.
func (w *Workspace) Remote() bool {
	to := w.Settings.Git.Repository
	host, _, ok := strings.Cut(to, ":")
	return ok && len(host) > 1 && !strings.ContainsAny(host, `/\`) // and C:\ is a drive
}

// Milestones returns what makes the document's milestones, in the repository of the settings. author says whom they are by; nil: who asks for
// them. Webhooks are told of each.
func (w *Workspace) Milestones(author publish.Author, told *webhook.Hooks, log *slog.Logger) *publish.Publisher {
	return publish.New(w.Service.Document(), publish.Options{
		Open: w.target, Formats: w.Formats, Format: w.Settings.Git.Format, Author: author, Auto: w.Settings.Milestones.auto(), Webhooks: told, Logger: log,
	})
}

// target opens the repository. A folder that is none yet becomes one if begin says so; otherwise that is errkind.NotFound.
func (w *Workspace) target(ctx context.Context, begin bool) (publish.Target, error) {
	g := &w.Settings.Git
	opts := gitrepo.Options{Push: g.Push, Sign: g.Sign}
	if w.Remote() {
		repo, err := gitrepo.Remote(ctx, g.Repository, w.File(gitCache), opts)
		return publish.Target{Repo: repo, Branch: cmp.Or(g.Branch, "main"), URL: w.fetchedFrom()}, err
	}
	dir := g.Repository
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(w.Dir, dir)
	}
	if !begin && !isRepository(dir) {
		return publish.Target{}, fmt.Errorf("%s is no repository yet: the first milestone makes it one: %w", dir, errkind.NotFound)
	}
	repo, err := gitrepo.Open(ctx, dir, opts)
	branch := g.Branch
	if err == nil && branch == "" {
		branch, err = repo.Branch(ctx)
	}
	return publish.Target{Repo: repo, Branch: branch, URL: w.fetchedFrom()}, err
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
