package router

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/bucket"
	"github.com/skep-dev/skep/internal/cache"
	"github.com/skep-dev/skep/internal/cell"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/id"
)

// Router is the one road to a repository: above it nobody knows package cell.
type Router struct {
	dir     string
	opts    Options
	files   *bucket.Bucket
	images  *cell.Images
	objects *odb.Cache
	answers *cache.Answers
	room    *pack.Room
	unlock  func() error

	mu     sync.Mutex
	slots  map[id.Repo]*slot // open, opening and closing cells
	idle   *list.List        // of *slot that nobody uses, the most recently used in front
	queued map[id.Repo]bool  // in queue, or being compacted
	closed bool

	queue chan *slot // cells to compact
}

// Options bound what open cells may take. The zero Options works.
type Options struct {
	MaxOpenCells int           // 0: 1,000
	IdleAfter    time.Duration // when an unused cell is closed; 0: 2 minutes
	ObjectCache  int64         // bytes of inflated objects, of all cells; 0: 64 MiB
	AnswerMemory int64         // bytes of small finished packs in memory; 0: 64 MiB
	AnswerDisk   int64         // bytes of large ones on disk; 0: 4 GiB
	ApplyBytes   int64         // of files in which big deltas are applied, of all cells; 0: 4 GiB
	ApplyWait    time.Duration // how long a request waits for room among them; 0: 15 s
	MaxPackBytes int64         // of one push; 0: 8 GiB
	SettleAfter  time.Duration // until unreachable objects are set aside; 0: 1 hour
	Grace        time.Duration // from then on until they are dropped; 0: 30 days
	// Stored hears how many bytes a repository takes: after it was opened, and after each use or compaction that changed it. It
	// must not wait for anything. nil: nobody does.
	Stored func(t id.Tenant, repo id.Repo, bytes int64)
	Log    *slog.Logger
}

const (
	// defaultMaxOpen: an open cell takes about 200 KiB and two file descriptors, and two or three for each large pack.
	defaultMaxOpen      = 1000
	defaultIdleAfter    = 2 * time.Minute
	defaultObjectCache  = 64 << 20
	defaultAnswerMemory = 64 << 20
	defaultAnswerDisk   = 4 << 30
	// defaultApplyBytes is two of the largest objects that there can be: each takes its own size and its base's.
	defaultApplyBytes = 4 << 30
	defaultApplyWait  = 15 * time.Second
	// maxQueue bounds the cells that wait for compaction. One that finds it full is compacted after a later use.
	maxQueue = 1000
)

func (o *Options) fill() {
	if o.MaxOpenCells == 0 {
		o.MaxOpenCells = defaultMaxOpen
	}
	if o.IdleAfter == 0 {
		o.IdleAfter = defaultIdleAfter
	}
	if o.ObjectCache == 0 {
		o.ObjectCache = defaultObjectCache
	}
	if o.AnswerMemory == 0 {
		o.AnswerMemory = defaultAnswerMemory
	}
	if o.AnswerDisk == 0 {
		o.AnswerDisk = defaultAnswerDisk
	}
	if o.ApplyBytes == 0 {
		o.ApplyBytes = defaultApplyBytes
	}
	if o.ApplyWait == 0 {
		o.ApplyWait = defaultApplyWait
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Open prepares the cells below dir, and takes dir for this process: errkind.Unavailable when another one has it. It
// opens none of the cells.
func Open(ctx context.Context, dir string, opts Options) (*Router, error) {
	opts.fill()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "cells"), 0o750); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	unlock, err := lockFile(filepath.Join(dir, "router.lock"))
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	r := &Router{
		dir:     dir,
		opts:    opts,
		unlock:  unlock,
		objects: odb.NewCache(opts.ObjectCache),
		slots:   map[id.Repo]*slot{},
		idle:    list.New(),
		queued:  map[id.Repo]bool{},
		queue:   make(chan *slot, maxQueue),
	}
	if err := r.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("open data directory: %w", err), unlock())
	}
	return r, nil
}

func (r *Router) prepare() (err error) {
	if err := os.RemoveAll(r.tempDir()); err != nil {
		return err
	}
	if err := os.MkdirAll(r.tempDir(), 0o700); err != nil {
		return err
	}
	r.images = cell.NewImages(r.tempDir())
	r.room = pack.NewRoom(r.tempDir(), r.opts.ApplyBytes, r.opts.ApplyWait)
	if r.files, err = bucket.Open(filepath.Join(r.dir, "files")); err != nil {
		return err
	}
	r.answers, err = cache.OpenAnswers(filepath.Join(r.dir, "cache", "answers"), r.opts.AnswerMemory, r.opts.AnswerDisk)
	return err
}

func (r *Router) tempDir() string { return filepath.Join(r.dir, "tmp") }

// path is where a cell's database is.
func (r *Router) path(repo id.Repo) string {
	s := string(repo)
	return filepath.Join(r.dir, "cells", s[max(0, len(s)-2):], s+".db")
}

// folder is where a cell's large packs are in the bucket.
func folder(t id.Tenant, repo id.Repo) string { return "packs/" + string(t) + "/" + string(repo) }

// Create makes an empty repository whose HEAD names branch.
func (r *Router) Create(ctx context.Context, t id.Tenant, repo id.Repo, branch git.RefName) error {
	if err := check(t, repo); err != nil {
		return err
	}
	path := r.path(repo)
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o750); err == nil {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return fmt.Errorf("create repository: %w", err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create repository: %w", err)
	}
	return r.images.Create(ctx, path, branch)
}

// check is the second lock on the door: identifiers become parts of paths.
func check(t id.Tenant, repo id.Repo) error {
	if _, err := id.ParseTenant(string(t)); err != nil {
		return err
	}
	_, err := id.ParseRepo(string(repo))
	return err
}

// Delete removes a repository's bytes. Requests that are under way finish on what they have; pushes among them are
// refused. Deleting what is not there is no error, so that a deletion can be repeated after a crash.
func (r *Router) Delete(ctx context.Context, t id.Tenant, repo id.Repo) error {
	if err := check(t, repo); err != nil {
		return err
	}
	s, err := r.take(ctx, t, repo)
	if err == nil {
		s.cell.Abandon()
	} else if !errors.Is(err, errkind.NotFound) {
		// It cannot be opened. That is no reason to keep it.
		r.opts.Log.Warn("repository that cannot be opened is deleted", "repo", repo, "error", err)
	}
	path := r.path(repo)
	// The database goes first: without it the rest is garbage that nobody finds.
	var errs []error
	for _, p := range []string{path, path + "-wal", path + "-shm"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, r.files.DeleteAll(folder(t, repo)))
	r.answers.Disown(folder(t, repo))
	if s != nil {
		r.detach(s) // only now: who came before found the slot, who comes after finds nothing
		r.give(s)
	}
	return errors.Join(errs...)
}

// Repo is a repository in use. Its methods are those of package cell: View, UploadPack, ReceivePack, Update, Commit, …
type Repo struct {
	*cell.Cell
	release func()
}

// The cell's types, by which callers name its arguments.
type (
	// Settings are a repository's own switches.
	Settings = cell.Settings
	// CommitRequest is a commit made without git.
	CommitRequest = cell.CommitRequest
	// RefLogEntry is one move of a reference.
	RefLogEntry = cell.RefLogEntry
	// Stats is what a repository takes.
	Stats = cell.Stats
)

// Repo opens a repository, or finds it open. The caller calls Release when done with it, and with all views of it.
// errkind.NotFound when there is none; errkind.Unavailable when as many as may be open are in use.
func (r *Router) Repo(ctx context.Context, t id.Tenant, repo id.Repo) (*Repo, error) {
	if err := check(t, repo); err != nil {
		return nil, err
	}
	s, err := r.take(ctx, t, repo)
	if err != nil {
		return nil, err
	}
	letGo := s.cell.Hold()
	var once sync.Once
	ctx = context.WithoutCancel(ctx)
	return &Repo{Cell: s.cell, release: func() {
		once.Do(func() {
			r.measure(ctx, s)
			letGo()
			if s.cell.NeedsCompaction() {
				r.enqueue(s)
			}
			r.give(s)
		})
	}}, nil
}

// measure tells what a cell takes, if it has changed since that was last told. The caller is one of its users.
func (r *Router) measure(ctx context.Context, s *slot) {
	version := s.cell.Version()
	if r.opts.Stored == nil || s.measured.Swap(version) == version {
		return
	}
	n, err := s.cell.Stored(ctx)
	switch {
	case errors.Is(err, errkind.NotFound): // deleted meanwhile
	case err != nil:
		r.opts.Log.Warn("repository not measured", "repo", s.repo, "error", err)
	case s.measured.Load() == version: // else somebody tells what is newer
		r.opts.Stored(s.tenant, s.repo, n)
	}
}

// Release gives the repository back: it may be closed when idle. Later calls do nothing.
func (r *Repo) Release() { r.release() }

// OpenCells is how many cells are open, opening or closing.
func (r *Router) OpenCells() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.slots)
}

// Answers is how many fetches got an answer that was kept, and how many had one made.
func (r *Router) Answers() (shared, made int64) { return r.answers.Shared(), r.answers.Made() }

// Cells yields the identifiers of all cells on disk, for an offline check of what the control plane knows.
func (r *Router) Cells() iter.Seq2[id.Repo, error] {
	return func(yield func(id.Repo, error) bool) {
		shards, err := os.ReadDir(filepath.Join(r.dir, "cells"))
		if err != nil {
			yield("", err)
			return
		}
		for _, shard := range shards {
			files, err := os.ReadDir(filepath.Join(r.dir, "cells", shard.Name()))
			if err != nil && !yield("", err) {
				return
			}
			for _, f := range files {
				name, ok := strings.CutSuffix(f.Name(), ".db")
				if !ok {
					continue
				}
				repo, err := id.ParseRepo(name)
				if !yield(repo, err) {
					return
				}
			}
		}
	}
}

// Verify reads everything that a repository has: see cell.Verify.
func (r *Router) Verify(ctx context.Context, t id.Tenant, repo id.Repo, progress func(what string, done, total int)) error {
	h, err := r.Repo(ctx, t, repo)
	if err != nil {
		return err
	}
	defer h.Release()
	return h.Verify(ctx, progress)
}

// Compact compacts a repository now: see cell.Compact.
func (r *Router) Compact(ctx context.Context, t id.Tenant, repo id.Repo) error {
	h, err := r.Repo(ctx, t, repo)
	if err != nil {
		return err
	}
	defer h.Release()
	return h.Compact(ctx)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
