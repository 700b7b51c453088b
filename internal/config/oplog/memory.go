package oplog

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// NewMemory makes an empty store in memory, for tests and for programs that embed the engine and keep nothing.
func NewMemory() Store {
	return &memoryStore{documents: map[string]*memory{}}
}

type memoryStore struct {
	mu        sync.Mutex
	documents map[string]*memory // guarded by mu
}

// Create makes an empty document.
func (s *memoryStore) Create(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.documents[doc] != nil {
		return errDocumentExists(doc)
	}
	s.documents[doc] = &memory{meta: map[string][]byte{}}
	return nil
}

// Open opens a document.
func (s *memoryStore) Open(ctx context.Context, doc string) (Log, error) {
	if err := checkDocument(doc); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.documents[doc]
	if m == nil {
		return nil, errNoDocument(doc)
	}
	return &memoryLog{doc: doc, memory: m}, nil
}

// List returns the names that come after the given one.
func (s *memoryStore) List(ctx context.Context, after string, limit int) ([]string, error) {
	limit, err := checkPage(limit)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return namesAfter(maps.Keys(s.documents), "", after, limit), nil
}

// Delete removes a document.
func (s *memoryStore) Delete(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	s.mu.Lock()
	m := s.documents[doc]
	delete(s.documents, doc)
	s.mu.Unlock()
	if m == nil {
		return errNoDocument(doc)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deleted, m.records, m.snapshot, m.meta = true, nil, nil, nil
	return nil
}

// Close does nothing: there is nothing to release that the garbage collector does not find.
func (s *memoryStore) Close() error { return nil }

// namesAfter is the page of the names that begin with prefix and come after the given one.
func namesAfter(names iter.Seq[string], prefix, after string, limit int) []string {
	var out []string
	for n := range names {
		if n > after && strings.HasPrefix(n, prefix) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), limit)]
}

// memory is what a document has.
type memory struct {
	mu       sync.RWMutex // guards all that follows
	deleted  bool
	records  []Record
	seq      uint64 // the snapshot's
	snapshot []byte
	meta     map[string][]byte
}

// memoryLog is one who has a document open.
type memoryLog struct {
	doc    string
	memory *memory
	closed atomic.Bool
}

// read runs fn while nobody changes the document.
func (l *memoryLog) read(ctx context.Context, fn func(*memory) error) error {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.use(ctx, fn)
}

// write runs fn while nobody else uses the document.
func (l *memoryLog) write(ctx context.Context, fn func(*memory) error) error {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	return l.use(ctx, fn)
}

func (l *memoryLog) use(ctx context.Context, fn func(*memory) error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case l.closed.Load():
		return errClosed(l.doc)
	case l.memory.deleted:
		return errNoDocument(l.doc)
	}
	return fn(l.memory)
}

func (m *memory) head() Head {
	if len(m.records) == 0 {
		return Head{}
	}
	return headAfter(m.records)
}

// Head returns the number and the hash of the last record.
func (l *memoryLog) Head(ctx context.Context) (head Head, err error) {
	err = l.read(ctx, func(m *memory) error {
		head = m.head()
		return nil
	})
	return head, err
}

// Append adds records that follow prev.
func (l *memoryLog) Append(ctx context.Context, prev Head, records []Record) error {
	if err := checkAppend(prev, records); err != nil {
		return err
	}
	return l.write(ctx, func(m *memory) error {
		if head := m.head(); head != prev {
			return errMoved(prev, head)
		}
		for _, r := range records {
			r.Data = bytes.Clone(r.Data)
			m.records = append(m.records, r)
		}
		return nil
	})
}

// Read calls fn with the records from number from on.
func (l *memoryLog) Read(ctx context.Context, from uint64, limit int, fn func(Record) error) error {
	return readPages(from, limit, fn, func(from uint64, limit int, p *batch) error {
		return l.read(ctx, func(m *memory) error {
			for _, r := range m.records[min(from-1, m.head().Seq):] {
				if !p.add(r.Seq, r.Hash, r.Data) || len(p.records) == limit {
					break
				}
			}
			return nil
		})
	})
}

// Get returns the records with these numbers.
func (l *memoryLog) Get(ctx context.Context, seqs []uint64) (records []Record, err error) {
	if err := checkGet(seqs); err != nil {
		return nil, err
	}
	var found gathered
	err = l.read(ctx, func(m *memory) error {
		for _, seq := range seqs {
			if _, twice := found.records[seq]; twice || seq > m.head().Seq {
				continue
			}
			r := m.records[seq-1]
			r.Data = bytes.Clone(r.Data)
			if err := found.add(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found.inOrder(seqs)
}

// SaveSnapshot keeps data as the state after record seq.
func (l *memoryLog) SaveSnapshot(ctx context.Context, seq uint64, data []byte) error {
	if err := checkSnapshot(seq, data); err != nil {
		return err
	}
	return l.write(ctx, func(m *memory) error {
		switch {
		case seq > m.head().Seq:
			return errAhead(seq)
		case seq >= m.seq:
			m.seq, m.snapshot = seq, bytes.Clone(data)
		}
		return nil
	})
}

// Snapshot returns the snapshot.
func (l *memoryLog) Snapshot(ctx context.Context) (seq uint64, data []byte, err error) {
	err = l.read(ctx, func(m *memory) error {
		if m.seq == 0 {
			return errNoSnapshot()
		}
		seq, data = m.seq, bytes.Clone(m.snapshot)
		return nil
	})
	return seq, data, err
}

// Meta returns a named value.
func (l *memoryLog) Meta(ctx context.Context, key string) (value []byte, err error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	err = l.read(ctx, func(m *memory) error {
		if m.meta[key] == nil {
			return errNoMeta(key)
		}
		value = bytes.Clone(m.meta[key])
		return nil
	})
	return value, err
}

// SetMeta keeps a named value.
func (l *memoryLog) SetMeta(ctx context.Context, key string, value []byte) error {
	if err := checkSet(key, value); err != nil {
		return err
	}
	return l.write(ctx, func(m *memory) error {
		m.meta[key] = bytes.Clone(value)
		return nil
	})
}

// SwapMeta keeps a named value if the one before is old.
func (l *memoryLog) SwapMeta(ctx context.Context, key string, old, value []byte) error {
	if err := checkSwap(key, old, value); err != nil {
		return err
	}
	return l.write(ctx, func(m *memory) error {
		if !bytes.Equal(m.meta[key], old) {
			return errSwapped(key)
		}
		if len(value) == 0 {
			delete(m.meta, key)
			return nil
		}
		m.meta[key] = bytes.Clone(value)
		return nil
	})
}

// DeleteMeta removes a named value.
func (l *memoryLog) DeleteMeta(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return l.write(ctx, func(m *memory) error {
		delete(m.meta, key)
		return nil
	})
}

// ListMeta returns the values whose names begin with prefix.
func (l *memoryLog) ListMeta(ctx context.Context, prefix, after string, limit int) (list []Meta, err error) {
	limit, err = checkListMeta(prefix, after, limit)
	if err != nil {
		return nil, err
	}
	err = l.read(ctx, func(m *memory) error {
		for _, key := range namesAfter(maps.Keys(m.meta), prefix, after, limit) {
			list = append(list, Meta{key, bytes.Clone(m.meta[key])})
		}
		return nil
	})
	return list, err
}

// Close ends the use of the document by this Log.
func (l *memoryLog) Close() error {
	l.closed.Store(true)
	return nil
}
