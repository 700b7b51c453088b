package cell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/bucket"
	"github.com/skep-dev/skep/internal/cache"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// Cell is an open repository. It is safe for concurrent use: reads work on immutable views and never wait for the writer.
// It satisfies protocol.Receiver.
type Cell struct {
	path   string
	files  *bucket.Bucket
	folder string // of its keys in files
	opts   Options

	state atomic.Pointer[state] // replaced by whoever has the turn
	users epochs

	// turn is the right to write: whoever put a value into it has it. It is no lock on memory: it is kept across I/O.
	turn    chan struct{}
	db      atomic.Pointer[store] // replaced by whoever has the turn, after a failure
	closed  bool                  // owned by the turn
	suspect bool                  // owned by the turn: a commit failed, so what is on disk may not be what is in memory
	gone    atomic.Bool           // the repository was deleted, or the cell closed: nothing is written any more

	mu      sync.Mutex
	pending []*push // guarded by mu: updates that wait for the next transaction

	compaction chan struct{}         // the right to compact, like turn
	watching   atomic.Pointer[watch] // not nil while packs are being set aside; what it points to belongs to the turn
}

// Options bound a cell and say what it shares with others. The zero Options works.
type Options struct {
	Objects      *odb.Cache     // inflated objects, of many cells; nil: none are kept
	Answers      *cache.Answers // finished answers, of many cells; nil: none are kept
	Room         *pack.Room     // where big deltas are applied, of many cells; nil: os.TempDir, without a bound
	TempDir      string         // on the bucket's file system; "" is os.TempDir
	MaxPackBytes int64          // of one push; 0: 8 GiB

	SettleAfter time.Duration // until unreachable objects are set aside; 0: 1 hour; negative: at once
	Grace       time.Duration // from then on until they are dropped; 0: 30 days; negative: none
	KeepLog     time.Duration // how long the reflog goes back at least; 0: 90 days, as git's

	Log *slog.Logger // nil: none

	fault func(point string) error // in tests: what happens at a point of the pipeline
}

const (
	defaultMaxPackBytes = 8 << 30
	defaultSettle       = time.Hour
	defaultGrace        = 30 * 24 * time.Hour
	defaultKeepLog      = 90 * 24 * time.Hour
)

func (o *Options) fill() {
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if o.MaxPackBytes == 0 {
		o.MaxPackBytes = defaultMaxPackBytes
	}
	if o.SettleAfter == 0 {
		o.SettleAfter = defaultSettle
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.KeepLog == 0 {
		o.KeepLog = defaultKeepLog
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.fault == nil {
		o.fault = func(string) error { return nil }
	}
}

// Open opens the repository whose database is at path and whose large packs are in files below folder. It is the only
// one to have it open; errkind.NotFound when there is none.
func Open(ctx context.Context, path string, files *bucket.Bucket, folder string, opts Options) (*Cell, error) {
	opts.fill()
	c := &Cell{
		path:       path,
		files:      files,
		folder:     folder,
		opts:       opts,
		turn:       make(chan struct{}, 1),
		compaction: make(chan struct{}, 1),
	}
	if err := c.reload(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// reload opens the database, anew if it was open, and makes its content the state. The caller has the turn.
func (c *Cell) reload(ctx context.Context) error {
	if old := c.db.Swap(nil); old != nil {
		if err := (*old).close(); err != nil {
			c.opts.Log.Warn("database of a cell closed with an error", "path", c.path, "error", err)
		}
	}
	db, err := openSQL(ctx, c.path)
	if err != nil {
		return fmt.Errorf("open cell: %w", err)
	}
	var s store = db
	snap, err := s.load(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("open cell: %w", err), s.close())
	}
	st, unused, err := c.newState(snap, c.state.Load())
	if err != nil {
		return errors.Join(fmt.Errorf("open cell: %w", err), s.close())
	}
	c.db.Store(&s)
	c.state.Store(st)
	c.users.retire(unused)
	c.suspect = false
	return c.sweep()
}

// Hold keeps what views of now and later are made of until release is called: without it, packs that a compaction has
// replaced, and Close, take the memory away from under a reader's feet. View and Quarantine need it, because what they
// return is used after they do; other methods hold the cell themselves.
func (c *Cell) Hold() (release func()) {
	e := c.users.enter()
	var once sync.Once
	return func() { once.Do(func() { c.users.leave(e) }) }
}

// Held reports whether anybody holds the cell.
func (c *Cell) Held() bool { return c.users.busy() }

// View returns the newest state.
func (c *Cell) View() protocol.View { return c.state.Load().view() }

// Settings are a repository's own switches, kept with it.
type Settings struct {
	DenyNonFastForward bool `json:"deny_non_fast_forward"`
	DenyDeletes        bool `json:"deny_deletes"`
	// Git is what the protocol reads, in lines KEY=VALUE: see protocol.Config.
	Git []string `json:"git,omitempty"`
}

func (s Settings) equal(o Settings) bool {
	return s.DenyNonFastForward == o.DenyNonFastForward && s.DenyDeletes == o.DenyDeletes && slices.Equal(s.Git, o.Git)
}

// Settings returns the repository's switches.
func (c *Cell) Settings() Settings { return c.state.Load().settings }

// Stats is what a repository takes.
type Stats struct {
	Packs   int   `json:"packs"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Refs    int   `json:"refs"`
}

// Stats counts what the newest state has.
func (c *Cell) Stats() Stats {
	st := c.state.Load()
	s := Stats{Packs: len(st.packs), Objects: st.objects.Len(), Refs: st.refs.Len()}
	for _, p := range st.packs {
		s.Bytes += p.row.size
	}
	return s
}

// Version counts the repository's changes.
func (c *Cell) Version() int64 { return c.state.Load().version }

// Stored is how many bytes the repository takes on disk: its database, its files in the bucket, and what was set aside of both.
func (c *Cell) Stored(ctx context.Context) (int64, error) {
	s, err := c.database()
	if err != nil {
		return 0, err
	}
	n, err := s.size(ctx)
	if err != nil {
		return 0, err
	}
	for e, err := range c.files.List(c.folder) {
		if err != nil {
			return 0, fmt.Errorf("measure cell: %w", err)
		}
		n += e.Size
	}
	return n, nil
}

// RefLogEntry is one move of a reference.
type RefLogEntry struct {
	At       time.Time
	Actor    string
	Message  string
	Name     git.RefName
	Old, New git.OID
}

// maxRefLog bounds an answer of RefLog.
const maxRefLog = 10_000

// RefLog returns the newest moves, of one reference or ("") of all.
func (c *Cell) RefLog(ctx context.Context, name git.RefName, most int) ([]RefLogEntry, error) {
	s, err := c.database()
	if err != nil {
		return nil, err
	}
	return s.refLog(ctx, name, min(most, maxRefLog))
}

// Abandon makes the cell refuse to write from now on: its repository was deleted. Readers go on.
func (c *Cell) Abandon() { c.gone.Store(true) }

// Close waits for the writer and closes the database. Nothing is written any more. Packs stay readable for those who
// hold the cell, and are closed when the last of them lets go. A second Close does nothing.
func (c *Cell) Close() error {
	c.gone.Store(true)
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.closed {
		return nil
	}
	c.closed = true
	var err error
	if s := c.db.Swap(nil); s != nil {
		err = (*s).close()
	}
	if st := c.state.Load(); st != nil {
		c.users.retire(st.packs)
	}
	return err
}
