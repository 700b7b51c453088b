package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// The limits that a zero ReceiveOptions stands for.
const (
	defaultMaxPackBytes   = 2 << 30
	defaultMaxObjectBytes = 1 << 30
	defaultMaxObjects     = 16 << 20
	defaultMaxDeltaDepth  = maxDeltaDepth
	defaultMaxRoots       = 1 << 20
	defaultMemoryPack     = 1 << 20
	// A pack whose objects sum up to more than workFloor plus workRatio times its own size is a bomb. A pack of a long
	// history of one large file or directory reaches several thousand times its size, git.git 26 times.
	workFloor = 32 << 30
	workRatio = 4096
	// parentsRatio is how many parents a pack's commits may have together, for each object allowed. Nearly all commits have
	// one; a commit of the largest size could have 350,000, and compress to next to nothing.
	parentsRatio = 4
	// maxWorkers bounds memory, of which each worker has its share, and is where one pack's families run out.
	maxWorkers = 8
)

// ReceiveOptions bound and steer Receive. The zero value has safe limits.
type ReceiveOptions struct {
	Dir            string // for files, on a disk: of what lies there the system's memory keeps what it likes; "" is os.TempDir
	Room           *Room  // of the pack that comes out; nil is os.TempDir
	MaxPackBytes   int64  // 0: 2 GiB
	MaxObjectBytes int64  // 0: 1 GiB, one object inflated; 4 GiB at most
	MaxTotalBytes  int64  // 0: 32 GiB plus 4,096 times the pack's size; all objects inflated, with what is inflated again
	MaxObjects     uint32 // 0: 16 Mi; the commits may have four times as many parents
	MaxRoots       int    // 0: 1 Mi; roots stay in memory, with the repository
	MaxDeltaDepth  int    // 0: 10,000 (git itself writes at most 4,095)
	MemoryPack     int64  // packs up to this size stay in memory; 0: 1 MiB
	Workers        int    // for delta resolution; 0: GOMAXPROCS; 8 at most

	// Base finds an object that a thin pack takes as given; nil refuses thin packs. The pack is completed with it.
	Base func(git.OID) (git.Object, bool, error)
	// OpenBase streams an object for which Base said errkind.TooLarge. It may be nil: then such bases are refused.
	OpenBase func(context.Context, git.OID) (git.Kind, int64, io.ReadCloser, error)
	// Check judges an object's content; nil is git.Check. With a Check of the caller's own, what an object names is noted as far
	// as it can be read: packs that are in a repository already may hold anything.
	Check func(kind git.Kind, o git.OID, data []byte) error
	// Progress hears of each stage ("Receiving objects", "Resolving deltas") as git names them. It may be nil. Calls
	// come one at a time, from any goroutine.
	Progress func(stage string, done, total int)

	arenaAfter int                         // 0: arenaAfter
	reserve    func(*os.File, int64) error // nil: reserveBlocks
}

func (o ReceiveOptions) withDefaults() ReceiveOptions {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxPackBytes, defaultMaxPackBytes)
	def(&o.MaxObjectBytes, defaultMaxObjectBytes)
	def(&o.MemoryPack, defaultMemoryPack)
	o.MaxObjectBytes = min(o.MaxObjectBytes, math.MaxUint32)
	if o.MaxObjects == 0 {
		o.MaxObjects = defaultMaxObjects
	}
	o.MaxObjects = min(o.MaxObjects, maxLinkFrom)
	if o.MaxRoots <= 0 {
		o.MaxRoots = defaultMaxRoots
	}
	if o.MaxDeltaDepth <= 0 {
		o.MaxDeltaDepth = defaultMaxDeltaDepth
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	o.Workers = min(o.Workers, maxWorkers)
	if o.arenaAfter == 0 {
		o.arenaAfter = arenaAfter
	}
	if o.reserve == nil {
		o.reserve = reserveBlocks
	}
	return o
}

// Received is a pack in quarantine: on disk or in memory, complete, indexed, every object checked by git.Check. All of it
// is valid until Close.
type Received struct {
	Pack *Pack // open for reading

	// Of a pack that stayed in memory, Data is the whole packfile. Another is in files below Dir, all fsynced, which the
	// caller may move away.
	Data                     []byte
	Path, IdxPath, TablePath string

	Idx   []byte // version 2 index
	Table []byte // kinds, sizes, bases, pack order, commits: docs/spec/pack-table.md

	// Roots are the pack's objects that no other object of the pack names, sorted. What appended objects name does not count.
	Roots []git.OID
	// Outside are the objects that the pack's objects, those appended included, name but the pack does not have, sorted.
	// A gitlink names nothing. The caller must see that it has each of them: then no object in the store ever lacks a link.
	Outside []Link
	// Appended is how many delta bases were added to complete a thin pack; they are the pack's last entries.
	Appended int

	held *held
}

// held is what a quarantine takes up.
type held struct {
	spill *spill
	mem   *arena   // of Outside, Idx and Table
	paths []string // of index and table
}

// drop gives it back. Files that the caller has moved away are no longer there.
func (h *held) drop() error {
	errs := []error{h.mem.close(), h.spill.discard()}
	for _, path := range h.paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	h.paths = nil
	return errors.Join(errs...)
}

// Link says that an object is needed, as what kind, and by whom.
type Link struct {
	OID  git.OID
	Kind git.Kind // what it must be; 0 when nothing says
	From git.OID
}

// Receive reads exactly one packfile from r and no byte more. It reads fast from a *bufio.Reader (or whatever can Peek
// as that does); from another reader it must take small steps towards the pack's end. Any defect of the input wraps
// errkind.Invalid or errkind.TooLarge and leaves no file behind.
//
// An object that is in the pack twice is refused, as git index-pack --strict does.
//
//  1. intake: split the stream into entries, inflate each once, judge whole objects (ID, git.Check, links).
//  2. resolver: apply the deltas, family by family, and judge what they make.
//  3. complete: append the bases that a thin pack lacks, and resolve what waits for them.
//  4. finish: sort, find roots and outside links, write index and table, sync.
func Receive(ctx context.Context, r io.Reader, opts ReceiveOptions) (*Received, error) {
	rc := newReceiver(opts.withDefaults())
	q, err := rc.receive(ctx, r)
	if closeErr := rc.mem.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = rc.held.drop()
		return nil, fmt.Errorf("receive pack: %w", err)
	}
	return q, nil
}

// Close drops the quarantine: it removes the files that the caller has not moved away.
func (q *Received) Close() error { return q.held.drop() }

// receiver is the state of one Receive that its stages share.
type receiver struct {
	opts    ReceiveOptions
	held    *held
	spill   *spill // held's
	mem     *arena // of what is needed until the end of receive
	t       *objects
	links   *linkSet
	commits *commitLog
	given   *judge // of the bases that complete a thin pack, with a set of links of their own; nil while there are none
	judges  []*judge
	sum     git.OID // of the pack

	packBytes int64 // of the pack as it came
	deltas    int
	resolved  atomic.Int64
	appended  int

	work atomic.Int64 // bytes inflated or made from deltas
}

func newReceiver(opts ReceiveOptions) *receiver {
	mem := newArena(opts.Dir, opts.arenaAfter, opts.reserve)
	h := &held{
		spill: newSpill(opts.Dir, opts.MemoryPack),
		mem:   newArena(opts.Dir, opts.arenaAfter, opts.reserve),
	}
	return &receiver{
		opts:    opts,
		held:    h,
		spill:   h.spill,
		mem:     mem,
		t:       &objects{mem: mem},
		links:   newLinkSet(mem),
		commits: &commitLog{mem: mem, most: parentsRatio * int(opts.MaxObjects)},
	}
}

func (rc *receiver) receive(ctx context.Context, r io.Reader) (*Received, error) {
	if err := rc.intake(ctx, r); err != nil {
		return nil, err
	}
	rc.links.allow(rc.t.len())
	rc.packBytes = rc.spill.size
	rc.tidy(rc.t.len())
	if rc.deltas > 0 {
		if err := rc.resolve(ctx); err != nil {
			return nil, err
		}
		rc.tidy(rc.t.len())
	}
	return rc.finish(ctx)
}

func (rc *receiver) intake(ctx context.Context, r io.Reader) error {
	buf := windowPool.Get().(*[]byte) //nolint:errcheck,forcetypeassert // the pool has nothing else
	defer windowPool.Put(buf)
	in := &intake{rc: rc, t: rc.t, judge: rc.newJudge(), w: newWindow(r, rc.spill, rc.opts.MaxPackBytes, *buf)}
	return in.run(ctx)
}

func (rc *receiver) newJudge() *judge {
	j := newJudge(rc.links, rc.commits)
	j.check = rc.opts.Check
	rc.judges = append(rc.judges, j)
	return j
}

// spend counts work against the limit, of which so many bytes of the pack have their share.
func (rc *receiver) spend(n, packBytes int64) error {
	limit := rc.opts.MaxTotalBytes
	if limit <= 0 {
		limit = workFloor + workRatio*packBytes
	}
	if rc.work.Add(n) > limit {
		return fmt.Errorf("pack's objects have more than %d bytes together: %w", limit, errkind.TooLarge)
	}
	return nil
}

func (rc *receiver) progress(stage string, done, total int) {
	if rc.opts.Progress != nil {
		rc.opts.Progress(stage, done, total)
	}
}

// progressStep is how many objects lie between two calls of Progress: a hundred calls in all.
func progressStep(total int) int { return max(1, total/100) }

// finish writes down what was found out, and makes the pack durable.
func (rc *receiver) finish(ctx context.Context) (*Received, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if rc.appended > 0 {
		if err := rc.recount(); err != nil {
			return nil, err
		}
	}
	if err := rc.spill.append(rc.sum[:]); err != nil {
		return nil, err
	}
	order, err := rc.t.sorted()
	if err != nil {
		return nil, err
	}
	q := &Received{Appended: rc.appended, held: rc.held}
	table := &tableParts{objects: rc.t, order: order, commits: rc.commits, appended: rc.appended}
	if err := rc.closeLinks(q, table); err != nil {
		return nil, err
	}
	rc.tidy(len(order))
	if err := rc.writeSides(q, table); err != nil {
		return nil, err
	}
	if err := rc.spill.sync(); err != nil {
		return nil, err
	}
	var data io.ReaderAt = rc.spill
	if rc.spill.file == nil {
		q.Data = rc.spill.mem
	} else {
		q.Path, data = rc.spill.file.Name(), rc.spill.file
	}
	if q.Pack, err = Open(data, rc.spill.size, q.Idx, q.Table, rc.opts.Room); err != nil {
		return nil, fmt.Errorf("bug: the pack just received: %w", err)
	}
	return q, nil
}

// closeLinks finds roots and outside links, and checks the kinds of those that lie in the pack.
func (rc *receiver) closeLinks(q *Received, table *tableParts) error {
	given := newLinkSet(rc.mem)
	if rc.given != nil {
		given = rc.given.links.set
	}
	for _, num := range table.order {
		named, err := rc.links.meet(rc.t.oid[num], rc.t.kind[num])
		if err != nil && rc.opts.Check == nil {
			return err
		}
		if _, err := given.meet(rc.t.oid[num], rc.t.kind[num]); err != nil && rc.opts.Check == nil {
			return err
		}
		if named {
			continue
		}
		if len(q.Roots) == rc.opts.MaxRoots {
			return fmt.Errorf("pack has more than %d objects that none of its objects names: %w", rc.opts.MaxRoots, errkind.TooLarge)
		}
		q.Roots = append(q.Roots, rc.t.oid[num])
		table.roots = append(table.roots, num)
	}
	slices.Sort(table.roots)
	var err error
	if table.outside, err = rc.outside(rc.mem, rc.links); err != nil {
		return err
	}
	if q.Outside, err = rc.outside(rc.held.mem, rc.links, given); err != nil {
		return err
	}
	rc.links.release()
	given.release()
	return nil
}

// outside lists what is in sets and not in the pack, sorted.
func (rc *receiver) outside(mem *arena, sets ...*linkSet) ([]Link, error) {
	n := 0
	for _, s := range sets {
		n += s.missing()
	}
	list, err := newArray[Link](mem, n)
	if err != nil {
		return nil, err
	}
	list = list[:0]
	for _, s := range sets {
		list = s.appendMissing(list, rc.t.oid)
	}
	slices.SortFunc(list, compareLinks)
	return slices.CompactFunc(list, func(a, b Link) bool { return a.OID == b.OID && a.Kind == b.Kind }), nil
}

// writeSides makes index and table, in files if the pack is in one.
func (rc *receiver) writeSides(q *Received, table *tableParts) (err error) {
	q.Idx, q.IdxPath, err = rc.writeSide("receive-*.idx", indexSize(len(table.order)), func(w *sideWriter) error {
		return writeIndex(w, rc.t, table.order, rc.sum)
	})
	if err != nil {
		return fmt.Errorf("write the pack's index: %w", err)
	}
	q.Table, q.TablePath, err = rc.writeSide("receive-*.table", table.length(), func(w *sideWriter) error {
		return writeTable(w, table, rc.sum)
	})
	if err != nil {
		return fmt.Errorf("write the pack's table: %w", err)
	}
	return nil
}

// writeSide has a side file of about size bytes written, and returns its content; and its path, if it is not in memory.
func (rc *receiver) writeSide(pattern string, size int, write func(*sideWriter) error) (b []byte, path string, err error) {
	if rc.spill.file == nil {
		mem := bytes.NewBuffer(make([]byte, 0, size))
		err := withSideWriter(mem, write)
		return mem.Bytes(), "", err
	}
	f, err := os.CreateTemp(rc.opts.Dir, pattern)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rc.held.paths = append(rc.held.paths, f.Name())
	if err := withSideWriter(f, write); err != nil {
		return nil, "", err
	}
	if err := f.Sync(); err != nil {
		return nil, "", err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, "", err
	}
	b, err = rc.held.mem.keep(f, end, false)
	return b, f.Name(), err
}

// tidyObjects is the number of objects from which on memory is tidied between stages.
const tidyObjects = 200_000

// tidy collects what the stages of a large receive have left. The collector would let the heap grow to twice what was in
// use at its last run, which is a stage's peak; since next to nothing of it holds pointers, a run takes milliseconds.
func (rc *receiver) tidy(objects int) {
	if objects >= tidyObjects {
		runtime.GC()
	}
}

// recount writes the number of objects of a completed pack into its header, and sums it up again.
func (rc *receiver) recount() error {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(rc.t.len()))
	if err := rc.spill.overwrite(n[:], packHeaderSize-4); err != nil {
		return err
	}
	var err error
	rc.sum, err = rc.spill.rehash()
	return err
}
