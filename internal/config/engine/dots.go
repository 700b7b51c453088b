package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
)

// places says which record each operation is in. Operations that follow one another in numbers and in records are one run: a document that one
// copy writes has one.
type places map[string][]run

// run is N operations of one copy, in consecutive records.
type run struct{ Dot, Seq, N uint64 }

func (p places) add(d crdt.Dot, seq uint64) {
	runs := p[d.Node]
	i, _ := slices.BinarySearchFunc(runs, d.Seq, func(r run, n uint64) int { return cmp.Compare(r.Dot, n) })
	if i > 0 {
		if last := &runs[i-1]; last.Dot+last.N == d.Seq && last.Seq+last.N == seq {
			last.N++
			return
		}
	}
	p[d.Node] = slices.Insert(runs, i, run{d.Seq, seq, 1})
}

// of returns the record of an operation; 0 if there is none.
func (p places) of(d crdt.Dot) uint64 {
	runs := p[d.Node]
	i, _ := slices.BinarySearchFunc(runs, d.Seq+1, func(r run, n uint64) int { return cmp.Compare(r.Dot, n) })
	if i == 0 || d.Seq >= runs[i-1].Dot+runs[i-1].N {
		return 0
	}
	return runs[i-1].Seq + d.Seq - runs[i-1].Dot
}

// missing returns the records of the operations that are not in a version, the oldest first, at most limit of them.
func (p places) missing(theirs *crdt.Dots, limit int) []uint64 {
	var seqs []uint64
	for node, runs := range p {
		n := 0
		last := theirs.Last(node)
		for _, r := range runs {
			from := r.Dot
			if last >= r.Dot+r.N-1 {
				continue
			}
			for d := max(from, last+1); d < r.Dot+r.N && n < limit; d++ {
				if !theirs.Has(crdt.Dot{Node: node, Seq: d}) {
					seqs = append(seqs, r.Seq+d-r.Dot)
					n++
				}
			}
		}
	}
	slices.Sort(seqs)
	return seqs[:min(len(seqs), limit)]
}

// missingPage is how many records are read at a time: so few that the largest ones are not too much for the log.
const missingPage = 16

// Missing returns the texts of operations that are not in somebody's version, the oldest here first: at most limit of them, and no more once they
// have maxBytes.
func (d *Document) Missing(ctx context.Context, theirs *crdt.Dots, limit, maxBytes int) ([][]byte, error) {
	d.mu.RLock()
	seqs := d.places.missing(theirs, limit)
	d.mu.RUnlock()
	var texts [][]byte
	for size := 0; len(seqs) > 0 && size < maxBytes; {
		n := min(len(seqs), missingPage)
		records, err := d.log.Get(ctx, seqs[:n])
		if err != nil {
			return nil, fmt.Errorf("find operations: %w", err)
		}
		for _, r := range records {
			if size += len(r.Data); size > maxBytes && len(texts) > 0 {
				return texts, nil
			}
			texts = append(texts, r.Data)
		}
		seqs = seqs[n:]
	}
	return texts, nil
}

// Op returns an operation by its name; nil if it is not here.
func (d *Document) Op(ctx context.Context, dot crdt.Dot) (*config.Op, error) {
	d.mu.RLock()
	seq := d.places.of(dot)
	d.mu.RUnlock()
	if seq == 0 {
		return nil, nil
	}
	records, err := d.log.Get(ctx, []uint64{seq})
	if err != nil {
		return nil, fmt.Errorf("find operation %s: %w", dot, err)
	}
	return config.DecodeOp(records[0].Data)
}

// Ahead reports whether a time is further ahead of this copy's clock than Options.Drift allows.
func (d *Document) Ahead(t crdt.HLC) bool {
	return (&crdt.Clock{Now: d.opts.Now}).Observe(t, d.opts.Drift) != nil
}

// Rename gives this copy a new name, made here, which the log remembers. It is for one that was put back to an earlier state while others know what it
// has made since. All processes that have the document open must be opened again.
func (d *Document) Rename(ctx context.Context) (string, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	name := strings.ToLower(rand.Text()[:12])
	if err := d.log.SetMeta(ctx, metaNode, []byte(name)); err != nil {
		return "", fmt.Errorf("rename copy %s: %w", d.Node(), err)
	}
	d.node.Store(&name)
	return name, nil
}
