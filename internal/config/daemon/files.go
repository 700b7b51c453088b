package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/policy"
)

// checkEvery is how often the files are looked at.
const checkEvery = 500 * time.Millisecond

// content is what the files say at some time. It is immutable.
type content struct {
	keys     *access.APIKeys // nil: none are taken
	rules    *access.Rules   // nil: all is permitted
	registry *sign.Registry  // empty if there is no file
	revision string          // of rules
}

// files are those of a workspace that say who may do what.
type files struct {
	work  *workspace.Workspace
	auth  access.Auth
	log   *slog.Logger
	names []string

	mu      sync.Mutex
	content *content      // guarded by mu, as all below
	changed chan struct{} // closed when content is another
	from    []version     // of content
	failure string        // the last that was logged
}

// version tells whether a file has changed; the zero version is of one that is not there.
type version struct {
	at   time.Time
	size int64
}

func openFiles(w *workspace.Workspace, auth access.Auth, log *slog.Logger) (*files, error) {
	f := &files{work: w, auth: auth, log: log, changed: make(chan struct{}), names: []string{w.File("rbac.toml"), w.File("keys.json")}}
	if auth.Mode.APIKeys() {
		keys := auth.APIKeysFile
		if !filepath.IsAbs(keys) {
			keys = filepath.Join(w.Dir, keys)
		}
		f.names = append(f.names, keys)
	}
	f.from = f.versions()
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	f.put(c)
	return f, nil
}

func (f *files) versions() []version {
	list := make([]version, len(f.names))
	for i, name := range f.names {
		if info, err := os.Stat(name); err == nil {
			list[i] = version{info.ModTime(), info.Size()}
		}
	}
	return list
}

// current returns what the files say.
func (f *files) current() *content {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.content
}

// change returns a channel that is closed when the files say something else.
func (f *files) change() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// run reads the files again when they change, until ctx ends. What cannot be used, and a file that is taken away, leaves the old content in
// place: without its file nobody would be kept from anything.
func (f *files) run(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := f.versions()
		if slices.Equal(now, f.from) {
			continue
		}
		err := f.gone(now)
		var c *content
		if err == nil {
			c, err = f.load()
		}
		if err != nil {
			if text := err.Error(); text != f.failure { // not twice a second
				f.failure = text
				f.log.ErrorContext(ctx, "changed file cannot be used: what it said before stays", "error", err)
			}
			continue
		}
		f.from, f.failure = now, ""
		f.put(c)
		f.log.InfoContext(ctx, "files of the workspace read again")
	}
}

// gone says which file there was and is no more.
func (f *files) gone(now []version) error {
	for i, name := range f.names {
		if now[i] == (version{}) && f.from[i] != (version{}) {
			return fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
		}
	}
	return nil
}

func (f *files) load() (*content, error) {
	c := &content{}
	var err error
	if c.rules, err = f.work.Rules(); err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	if c.rules != nil {
		text, err := os.ReadFile(f.names[0])
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		sum := sha256.Sum256(text)
		c.revision = hex.EncodeToString(sum[:])
	}
	if c.registry, err = sign.LoadRegistry(f.names[1]); err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	if len(f.names) > 2 {
		text, err := os.ReadFile(f.names[2])
		if err != nil {
			return nil, fmt.Errorf("read API keys: %w: make one with skep config auth hash-key", err)
		}
		if c.keys, err = access.LoadAPIKeys(text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.names[2], err)
		}
	}
	return c, nil
}

// put brings content into force.
func (f *files) put(c *content) {
	check := service.CheckSigned(f.work.Settings.Document, c.registry, f.work.Settings.Signing.Required, time.Now)
	opts := service.Options{Revision: c.revision, Check: check}
	if c.rules != nil {
		opts.Access = ruled{c.rules, f.work.Service.Document().Base}
	}
	f.work.Service.Configure(opts)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content = c
	close(f.changed)
	f.changed = make(chan struct{})
}

// ruled is rules as the service asks them. The base environment has the name that the schema in force says, also if that came after the rules.
type ruled struct {
	rules *access.Rules
	base  func() string
}

func known(a config.Actor) config.Actor {
	if a.ID == anonymous {
		a.ID = "" // for rules somebody without a name has no ID
	}
	return a
}

// Allow decides one question.
func (r ruled) Allow(a config.Actor, action policy.Action, entity, field, env string) bool {
	return r.rules.Allow(known(a), action, entity, field, cmp.Or(env, r.base()))
}

// Subject looks an actor up for many questions.
func (r ruled) Subject(a config.Actor) func(action policy.Action, entity, field, env string) bool {
	allow := r.rules.For(known(a)).Allow
	return func(action policy.Action, entity, field, env string) bool {
		return allow(action, entity, field, cmp.Or(env, r.base()))
	}
}
