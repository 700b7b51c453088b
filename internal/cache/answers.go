package cache

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/skep-dev/skep/internal/errkind"
)

// Key names an answer: whose it is, and a hash of everything else that it depends on. One owner's answers are no other's.
type Key struct {
	Owner string
	Hash  [32]byte
}

const (
	// maxSmall is up to which size an answer stays in memory; a shallow clone or a fetch of a few commits is smaller.
	maxSmall = 1 << 20
	// smallShare and largeShare are the parts of the whole cache that one answer may take: a giant would drive out all
	// others, and is rarely asked for twice.
	smallShare = 8
	largeShare = 4
	// followBuffer is what each follower of a file reads at a time: four side-band packets.
	followBuffer = 256 << 10
	// overhead is about what an answer takes besides its bytes.
	overhead = 512
)

// Answers keeps finished answers by key, and shares those that are being made.
//
//	caller ─┐                        ┌ memory, up to maxSmall
//	caller ─┼─ follow ←── answer ────┼ file, up to a share of the disk limit
//	caller ─┘     produce (detached) └ direct: past that, bytes go to the callers and nowhere else
//
// What produces an answer runs on a goroutine of its own. The first caller follows what it writes like all others, so
// that no caller waits for a slower one. Only an answer that is too large to keep falls back to direct: its producer then
// waits until everybody who follows has what it wrote, and nobody new joins. The producer's context ends when its last
// follower has gone.
type Answers struct {
	dir   string
	small int64 // the most an answer may have in memory
	large int64 // the most an answer may have on disk

	mu      sync.Mutex
	memory  *LRU[Key, *answer]
	disk    *LRU[Key, *answer]
	limit   int64           // of disk and spilled together
	spilled int64           // bytes on disk of answers in the making
	running map[Key]*answer // those in the making that callers may join
	making  map[*answer]struct{}
	// owned are all that are kept or in the making, by owner.
	owned  map[string]map[*answer]struct{}
	files  uint64 // how many files there ever were: names the next
	closed bool
	makers sync.WaitGroup

	shared, made atomic.Int64
}

// Shared is how many calls got an answer that was kept or just being made.
func (a *Answers) Shared() int64 { return a.shared.Load() }

// Made is how many calls had one made.
func (a *Answers) Made() int64 { return a.made.Load() }

// OpenAnswers makes a cache of at most memory bytes in memory and disk bytes in files below dir. Answers do not outlive
// the process: what another one left in dir is removed.
func OpenAnswers(dir string, memory, disk int64) (*Answers, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("empty answer cache: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make answer cache: %w", err)
	}
	return &Answers{
		dir:     dir,
		small:   min(maxSmall, memory/smallShare),
		large:   disk / largeShare,
		memory:  NewLRU[Key, *answer](memory),
		disk:    NewLRU[Key, *answer](disk),
		limit:   disk,
		running: map[Key]*answer{},
		making:  map[*answer]struct{}{},
		owned:   map[string]map[*answer]struct{}{},
	}, nil
}

// Close ends all producers, waits for them, and removes the files. Followers get an error.
func (a *Answers) Close() error {
	a.mu.Lock()
	a.closed = true
	for an := range a.making {
		an.cancel()
	}
	a.mu.Unlock()
	a.makers.Wait()
	return os.RemoveAll(a.dir)
}

// Share copies the answer named by key to w. If nobody has made it yet, and nobody is about to, produce writes it.
//
// Produce may run on after this call has returned, for the sake of others. Hold, if not nil, is called before it is
// started, and what hold returns after it has ended: between the two, what it works on must stay.
func (a *Answers) Share(ctx context.Context, key Key, w io.Writer, hold func() (release func()), produce func(context.Context, io.Writer) error) error {
	an, at, err := a.join(ctx, key, hold, produce)
	if err != nil {
		return err
	}
	defer a.leave(an, at)
	return an.follow(ctx, w, at)
}

// join finds the answer, or starts its making, and counts the caller among its followers.
func (a *Answers) join(ctx context.Context, key Key, hold func() func(), produce func(context.Context, io.Writer) error) (*answer, *follower, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, nil, fmt.Errorf("answer cache is closed: %w", errkind.Unavailable)
	}
	if an, ok := a.memory.Get(key); ok {
		a.shared.Add(1)
		return an, an.enter(), nil
	}
	if an, ok := a.disk.Get(key); ok {
		if err := an.reopen(); err != nil {
			return nil, nil, err
		}
		a.shared.Add(1)
		return an, an.enter(), nil
	}
	if an, ok := a.running[key]; ok {
		a.shared.Add(1)
		return an, an.enter(), nil
	}
	a.made.Add(1)
	release := func() {}
	if hold != nil {
		release = hold()
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	an := newAnswer(a, key, cancel)
	at := an.enter()
	a.running[key] = an
	a.making[an] = struct{}{}
	if a.owned[key.Owner] == nil {
		a.owned[key.Owner] = map[*answer]struct{}{}
	}
	a.owned[key.Owner][an] = struct{}{}
	a.makers.Go(func() {
		defer release()
		defer cancel()
		a.finish(an, an.run(run, produce))
	})
	return an, at, nil
}

// leave takes a follower out. The last one of an answer in the making ends it.
func (a *Answers) leave(an *answer, at *follower) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if an.exit(at) == 0 {
		if a.running[an.key] == an {
			delete(a.running, an.key) // first: whoever comes now must not join what is about to end
		}
		an.cancel()
	}
}

// finish keeps an answer that is complete.
func (a *Answers) finish(an *answer, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.making, an)
	current := a.running[an.key] == an
	if current {
		delete(a.running, an.key)
	}
	inFile := an.complete(err)
	a.spilled -= inFile
	var gone []*answer
	switch {
	case err != nil || !current || an.direct || a.closed:
		gone = append(gone, an)
	case inFile > 0:
		gone = a.disk.Put(an.key, an, inFile)
	default:
		gone = a.memory.Put(an.key, an, int64(cap(an.memory))+overhead)
	}
	gone = append(gone, a.disk.SetLimit(a.limit-a.spilled)...)
	a.drop(gone)
}

// reserve makes room on disk for n more bytes of an answer in the making that has size bytes already.
func (a *Answers) reserve(size, n int64) bool {
	if size+n > a.large {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spilled+n > a.limit {
		return false
	}
	a.spilled += n
	a.drop(a.disk.SetLimit(a.limit - a.spilled))
	return true
}

// forget lets nobody join who would have to start in the middle.
func (a *Answers) forget(an *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running[an.key] == an {
		delete(a.running, an.key)
	}
}

// unreserve gives back what was not written after all.
func (a *Answers) unreserve(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spilled -= n
	a.disk.SetLimit(a.limit - a.spilled) // it grows: nothing has to go
}

// create makes the next file.
func (a *Answers) create() (*os.File, error) {
	a.mu.Lock()
	a.files++
	name := a.dir + string(os.PathSeparator) + strconv.FormatUint(a.files, 36)
	a.mu.Unlock()
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// Disown removes all answers of an owner. Those who follow one get the rest of it.
func (a *Answers) Disown(owner string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for an := range a.owned[owner] {
		delete(a.running, an.key) // if it is in the making, then finish will not keep it
		for _, kept := range []*LRU[Key, *answer]{a.memory, a.disk} {
			if gone, ok := kept.Delete(an.key); ok {
				a.drop([]*answer{gone})
			}
		}
	}
}

// drop removes the files of answers that nobody can find any more. Those who follow one have it open. a.mu is held.
func (a *Answers) drop(gone []*answer) {
	for _, an := range gone {
		an.discard()
		delete(a.owned[an.key.Owner], an)
		if len(a.owned[an.key.Owner]) == 0 {
			delete(a.owned, an.key.Owner)
		}
	}
}

// run runs produce and turns a panic, which nobody could recover on this goroutine, into an error.
func (an *answer) run(ctx context.Context, produce func(context.Context, io.Writer) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("make answer: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return produce(ctx, maker{ctx, an})
}
