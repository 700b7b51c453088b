// Package workspace is a folder with a document of its own, as skep config init makes one: no server has to run.
//
//	w, err := workspace.Open(ctx, ".")
//	defer w.Close()
//	status := w.Service.Status(ctx, w.Actor)
//
// The document lies in .conflux, beside the files that say how it is used:
//
//	config.toml      the document's name, where milestones go, how the daemon knows its callers
//	operations.db    the log, if it is not in a store
//	schema.toml      the schema as it was given; the log has the one in force
//	rbac.toml        who may do what (optional)
//	api-keys.toml    the daemon's API keys (optional)
//	keys.json        whose signatures are good (optional)
//	plugins.toml     formats of the user's own (optional)
//	.gitignore       keeps the log out of the milestones' repository
//
// All of it is for the folder's owner alone. Several processes may have one workspace open. Instead of in the folder the log may be in a store
// (store.go), which several folders, also on several machines, can have in common.
package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/outbound"
)

// Folder is the name of the folder that has a workspace's files.
const Folder = ".conflux"

// The files in it.
const (
	settingsFile = "config.toml"
	logFile      = "operations.db"
	ignoreFile   = ".gitignore"
)

// The files that others read and write.
const (
	SchemaFile = "schema.toml"
	RulesFile  = "rbac.toml"
	KeysFile   = "keys.json"
)

// ignored are the files that no repository should have: the log, which milestones make readable, and private keys that somebody
// put beside it.
const ignored = "/operations.db*\n/api-keys.toml\n/*.lock\n/" + gitCache + "/\n*.pem\n"

// maxFile is how large one of the files may be.
const maxFile = 4 << 20

// snapshotEvery is how many operations a process may have to read again before it keeps a snapshot for those after it.
const snapshotEvery = 5000

// Settings is what config.toml says; its [auth] tables are read by package access.
type Settings struct {
	Document    string      `toml:"document"`
	Store       Store       `toml:"store"`
	Git         Git         `toml:"git"`
	Milestones  Milestones  `toml:"milestones"`
	Webhooks    Webhooks    `toml:"webhooks"`
	Signing     Signing     `toml:"signing"`
	Replication Replication `toml:"replication"`
}

// Replication says with which other copies of the document the daemon keeps this one equal.
type Replication struct {
	Peers   []string `toml:"peers" comment:"Addresses of the daemons of the document's other copies"`
	KeyFile string   `toml:"key_file" comment:"A file with the API key that they are shown; it needs the permission admin there"`

	Bus                string `toml:"bus" comment:"NATS servers over which copies find each other: nats://HOST:PORT or tls://HOST:PORT, several joined by commas"`
	BusKeyFile         string `toml:"bus_key_file" comment:"A file with the key that the copies share, which seals what they say there; make it with openssl rand -base64 32"`
	BusCredentialsFile string `toml:"bus_credentials_file" comment:"What the servers are shown: a .creds file, or a line with USER:PASSWORD or a token"`
	BusCAFile          string `toml:"bus_ca_file" comment:"Who vouches for the servers, over TLS; empty: whom the system trusts"`
}

// Signing says which operations are taken.
type Signing struct {
	Required bool `toml:"required" comment:"Refuse operations that are not signed with a key of keys.json"`
}

// Git says where milestones go.
type Git struct {
	Repository string `toml:"repository" comment:"Where milestones go: a folder, or the address of a repository; empty: this folder"`
	Branch     string `toml:"branch" comment:"Empty: the branch that is checked out, of an address main"`
	Push       string `toml:"push" comment:"A remote to which a folder's milestones are pushed; empty: none"`
	Format     string `toml:"format" comment:"Of the files; empty: yaml"`
	Sign       bool   `toml:"sign" comment:"Sign the commits, as git's settings say"`
}

// Workspace is an open workspace.
type Workspace struct {
	Dir      string // that has Folder
	Settings Settings
	Service  *service.Service
	log      oplog.Log
	store    oplog.Store      // nil: the log is in the folder
	client   *outbound.Client // to whom webhooks are
}

// File returns the path of one of the workspace's files.
func (w *Workspace) File(name string) string { return filepath.Join(w.Dir, Folder, name) }

// Init makes a workspace in a folder, with a schema and the log beside it.
func Init(ctx context.Context, dir, name, schema string) (*Workspace, error) {
	return InitStore(ctx, dir, name, schema, Store{})
}

// Copy makes a workspace of another copy of a document. fill brings what the others have.
func Copy(ctx context.Context, dir, name string, r Replication, fill func(doc *engine.Document) error) (*Workspace, error) {
	return begin(ctx, dir, beginning{
		settings: Settings{Document: name, Replication: r},
		first:    func(w *Workspace) error { return fill(w.Service.Document()) },
	})
}

// beginning says what a workspace begins with.
type beginning struct {
	settings Settings                                       // with no name of a document: the folder's
	join     bool                                           // the store has the document already
	fill     func(ctx context.Context, log oplog.Log) error // brings records before the document is opened; nil: none
	first    func(*Workspace) error                         // writes to the document, so that it has a schema; nil: it has one
}

// begin makes a workspace.
func begin(ctx context.Context, dir string, b beginning) (*Workspace, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if b.settings.Document == "" {
		b.settings.Document = documentName(filepath.Base(dir))
	}
	at := filepath.Join(dir, Folder)
	if _, err := os.Stat(filepath.Join(at, settingsFile)); err == nil {
		return nil, fmt.Errorf("init: %s has a document already: %w", dir, errkind.Exists)
	}
	w := &Workspace{Dir: dir, Settings: b.settings}
	err = w.Settings.Store.check()
	var text []byte
	if err == nil {
		text, err = toml.Marshal(w.Settings)
	}
	if err == nil {
		err = os.MkdirAll(at, 0o700)
	}
	if err == nil {
		err = w.WriteFile(ignoreFile, []byte(ignored))
	}
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if err := w.makeLog(ctx, &b); err != nil {
		return nil, errors.Join(fmt.Errorf("init: %w", err), w.Close())
	}
	if err := w.openDocument(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if b.first != nil {
		err = b.first(w)
	}
	if err == nil {
		_ = w.Service.Document().View(func(s *config.State) error {
			err = w.WriteFile(SchemaFile, []byte(s.SchemaText()))
			return nil
		})
	}
	if err == nil {
		// The settings come last: a folder is a workspace when it has them, and init can be tried again until then.
		err = w.WriteFile(settingsFile, text)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("init: %w", err), w.Close())
	}
	return w, nil
}

// documentName makes a name of a folder's.
func documentName(folder string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		default:
			return '-'
		}
	}, folder)
	if name = strings.Trim(name, "-"); name == "" {
		return "config"
	}
	return name[:min(len(name), oplog.MaxDocumentName)]
}

// Find returns the nearest folder, from dir upward, that has a workspace.
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("open workspace: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, Folder, settingsFile)); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("open workspace: neither %s nor a folder above has a document: begin one with skep config init: %w", dir, errkind.NotFound)
		}
	}
}

// Open opens the workspace of a folder or of the nearest one above.
func Open(ctx context.Context, dir string) (*Workspace, error) {
	dir, err := Find(dir)
	if err != nil {
		return nil, err
	}
	w := &Workspace{Dir: dir}
	text, err := w.read(settingsFile)
	if err != nil {
		return nil, err
	}
	if err := w.Settings.read(text); err != nil {
		return nil, fmt.Errorf("open workspace: %s:%w", w.File(settingsFile), err)
	}
	if err := w.openLog(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open workspace: %w", err), w.Close())
	}
	if err := w.openDocument(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// settingsForm is all that a config.toml may have: a word that nobody reads would be a setting that somebody believes in.
type settingsForm struct {
	Settings
	Auth any `toml:"auth"` // package access reads it
}

// read reads a config.toml. Errors begin with the line and column.
func (s *Settings) read(text []byte) error {
	var form settingsForm
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	err := dec.Decode(&form)
	var wrong *toml.DecodeError
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		wrong = &strict.Errors[0]
		err = fmt.Errorf("there is no setting %q: docs/reference/config-workspace.md has those that there are", strings.Join(wrong.Key(), "."))
	} else {
		wrong, _ = errors.AsType[*toml.DecodeError](err)
	}
	line, column := 1, 1
	if wrong != nil {
		line, column = wrong.Position()
	}
	if err == nil && form.Document == "" {
		err = errors.New(`it names no document: write document = "NAME"`)
	}
	if err == nil {
		auto := form.Milestones.auto()
		if err = auto.Check(); err != nil {
			err = fmt.Errorf("[milestones] %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("%d:%d: %s: %w", line, column, strings.TrimPrefix(err.Error(), "toml: "), errkind.Invalid)
	}
	if err := form.Store.check(); err != nil {
		return fmt.Errorf("%d:%d: %w", line, column, err)
	}
	*s = form.Settings
	return nil
}

// openDocument opens the document of the log.
func (w *Workspace) openDocument(ctx context.Context) error {
	doc, err := engine.Open(ctx, w.Settings.Document, w.log, engine.Options{})
	if err != nil {
		return fmt.Errorf("open workspace: %w", err)
	}
	w.Service = service.New(doc, service.Options{})
	w.client = w.Settings.client()
	return nil
}

// Auth reads how the daemon knows its callers.
func (w *Workspace) Auth() (access.Auth, error) {
	text, err := w.read(settingsFile)
	if err != nil {
		return access.Auth{}, err
	}
	return access.LoadAuth(text)
}

// WriteFile puts a text in the place of one of the workspace's files: whoever reads it, also after a crash, has all of the old or of the new.
func (w *Workspace) WriteFile(name string, text []byte) error {
	if err := writeFile(w.File(name), text); err != nil {
		return fmt.Errorf("write %s: %w", w.File(name), err)
	}
	return nil
}

func writeFile(name string, text []byte) error {
	part, err := os.CreateTemp(filepath.Dir(name), ".part-*") // its mode is 0600
	if err != nil {
		return err
	}
	_, err = part.Write(text)
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part.Name()))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	_ = dir.Sync() // some file systems cannot, and need not
	return dir.Close()
}

// Rules reads rbac.toml; nil if there is none.
func (w *Workspace) Rules() (*access.Rules, error) {
	text, err := w.read(RulesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	base := ""
	_ = w.Service.Document().View(func(s *config.State) error { base = s.Schema().Base(); return nil })
	return access.Load(text, base)
}

func (w *Workspace) read(name string) ([]byte, error) {
	info, err := os.Stat(w.File(name))
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("it has %d bytes, and %d are allowed: %w", info.Size(), maxFile, errkind.TooLarge)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(w.File(name))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", w.File(name), err)
	}
	return text, nil
}

// Keep keeps a snapshot if there is much that the next process would have to read.
func (w *Workspace) Keep(ctx context.Context) error {
	return w.Service.Document().Snapshot(ctx, snapshotEvery)
}

// Close releases what the workspace holds.
func (w *Workspace) Close() (err error) {
	if w.client != nil {
		w.client.Close()
	}
	if w.log != nil {
		err = w.log.Close()
	}
	if w.store != nil {
		err = errors.Join(err, w.store.Close())
	}
	return err
}
