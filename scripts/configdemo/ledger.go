package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// write is something that a writer decided. It is to be in the log exactly once, or, if it was refused, not at all.
type write struct {
	op      operation
	decided time.Time
	sent    time.Time // the attempt that came through
	done    time.Time // zero: nobody knows what became of it
	tries   int
	result  result
	refused error
}

// tag names a write in the log, by its via.
func (w *write) tag() string { return w.op.Via }

// seen is the number of the last operation that its maker had seen.
func (w *write) seen() uint64 { return versionNumber(w.op.Base) }

// ledger has what one writer decided, and what it was told.
type ledger struct {
	actor string

	mu     sync.Mutex
	writes []*write // guarded by mu, and what is in them
}

// decide notes a decision, before anybody is asked about it.
func (l *ledger) decide(op operation) *write {
	l.mu.Lock()
	defer l.mu.Unlock()
	op.Via = fmt.Sprintf("queue:%s-%06d", l.actor, len(l.writes)+1)
	w := &write{op: op, decided: time.Now()}
	l.writes = append(l.writes, w)
	return w
}

// acknowledged notes what became of a write.
func (l *ledger) acknowledged(w *write, sent time.Time, r result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.result, w.sent, w.done = r, sent, time.Now()
}

// refuse notes that a write will never be done.
func (l *ledger) refuse(w *write, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.refused, w.done = why, time.Now()
}

// tried notes an attempt.
func (l *ledger) tried(list []*write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range list {
		w.tries++
	}
}

// summary is a ledger in a line.
type summary struct {
	actor                                                       string
	decided, acknowledged, unchanged, retried, refused, unknown int
	p50, p99, longest                                           time.Duration // of an answer; from the decision to the answer
}

func (l *ledger) summary() summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := summary{actor: l.actor, decided: len(l.writes)}
	var took []time.Duration
	for _, w := range l.writes {
		s.longest = max(s.longest, w.done.Sub(w.decided))
		if w.tries > 1 {
			s.retried++
		}
		switch {
		case w.done.IsZero():
			s.unknown++
		case w.refused != nil:
			s.refused++
		default:
			s.acknowledged++
			if w.result.Seq == 0 {
				s.unchanged++
			}
			took = append(took, w.done.Sub(w.sent))
		}
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		s.p50, s.p99 = took[n/2], took[n*99/100]
	}
	return s
}

// versionNumber reads a version of the document. There is one copy of it, so that it is NODE:NUMBER.
func versionNumber(version string) uint64 {
	_, number, _ := strings.Cut(version, ":")
	n, _ := strconv.ParseUint(number, 10, 64)
	return n
}

// idNumber reads the name of an operation, NODE#NUMBER.
func idNumber(id string) uint64 {
	_, number, _ := strings.Cut(id, "#")
	n, _ := strconv.ParseUint(number, 10, 64)
	return n
}

// bySeq orders writes as the log has them.
func bySeq(a, b *write) int { return cmp.Compare(a.result.Seq, b.result.Seq) }
