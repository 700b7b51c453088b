package publish

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// Auto says when milestones are made by themselves. The zero Auto says never.
type Auto struct {
	Every        time.Duration // so long after the last one, and each time so much later, if something has changed; 0: not by time
	After        uint64        // operations since the last one; 0: not by their number
	Quiet        time.Duration // wait until nobody has written for so long, though at most ten times that
	Environments []string      // none: all
	Message      string        // "": Automatic milestone
}

// The limits of Auto.
const (
	MinEvery = time.Minute
	MaxQuiet = time.Hour
)

// Check refuses settings that make no sense.
func (a *Auto) Check() error {
	switch {
	case a.Every != 0 && a.Every < MinEvery:
		return fmt.Errorf("every: %s is less than %s: %w", a.Every, MinEvery, errkind.Invalid)
	case a.Quiet < 0 || a.Quiet > MaxQuiet:
		return fmt.Errorf("quiet: %s is not between 0 and %s: %w", a.Quiet, MaxQuiet, errkind.Invalid)
	case !a.on() && (a.Quiet != 0 || len(a.Environments) > 0 || a.Message != ""):
		return fmt.Errorf("neither every nor after says when milestones are made: %w", errkind.Invalid)
	case a.Message != "":
		return milestone.CheckSubject(a.Message)
	}
	return nil
}

func (a *Auto) on() bool { return a.Every > 0 || a.After > 0 }

// patience is how often Quiet has to pass until a milestone is made although somebody still writes.
const patience = 10

// How long a refused milestone waits to be tried again: it may be another matter when the document has changed, and somebody may have done
// something in Git when it has not.
const (
	againChanged   = time.Minute
	againUnchanged = 10 * time.Minute
)

// leaseTime is how long a process may take for a milestone before another one tries. The repository sees to it that only one is made then.
const leaseTime = 5 * time.Minute

// lookEvery is how often Run looks at the document.
const lookEvery = time.Second

// keyState names the document's value that has state.
const keyState = "milestones/state"

// state is what all processes know of a document's milestones.
type state struct {
	Seq    uint64    `json:"seq"` // the last operation that needs no automatic milestone any more
	At     time.Time `json:"at"`  // since when
	Commit string    `json:"commit,omitempty"`

	Refused    string    `json:"refused,omitempty"` // why the last attempt made none
	RefusedAt  time.Time `json:"refused_at,omitzero"`
	RefusedSeq uint64    `json:"refused_seq,omitempty"` // the document's last operation then

	Owner string    `json:"owner,omitempty"` // the process that makes one just now
	Until time.Time `json:"until,omitzero"`
}

// state returns what is known, and its text. The zero state is that of a document of which nothing is.
func (p *Publisher) state(ctx context.Context) (s state, text []byte, err error) {
	text, err = p.doc.Meta().Meta(ctx, keyState)
	switch {
	case errors.Is(err, errkind.NotFound):
		return state{}, nil, nil
	case err == nil:
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, nil, fmt.Errorf("read what is known of milestones: %w", err)
	}
	return s, text, nil
}

// change has fn change the state, and keeps it if fn says so.
func (p *Publisher) change(ctx context.Context, fn func(s *state) bool) (s state, err error) {
	for {
		var old []byte
		if s, old, err = p.state(ctx); err != nil || !fn(&s) {
			return s, err
		}
		text, err := json.Marshal(&s)
		if err != nil {
			return s, fmt.Errorf("encode what is known of milestones: %w", err)
		}
		if err = p.doc.Meta().SwapMeta(ctx, keyState, old, text); !errors.Is(err, errkind.Conflict) {
			return s, err
		}
	}
}

// made notes a milestone that has all operations up to one.
func (s *state) made(commit string, seq uint64, at time.Time) {
	*s = state{Seq: max(seq, s.Seq), At: at.UTC(), Commit: commit, Owner: s.Owner, Until: s.Until}
}

// sight is what a process has seen of a document.
type sight struct {
	seq     uint64    // its last operation
	from    uint64    // the last one that needs no milestone
	changed time.Time // when seq came
	pending time.Time // since when there is one that is in no milestone; zero: there is none
	due     time.Time // since when a milestone is due; zero: it is not
}

// see takes notice of the document's last operation.
func (v *sight) see(s *state, seq uint64, now time.Time) {
	if seq != v.seq {
		v.seq, v.changed = seq, now
	}
	if v.from != s.Seq { // there was a milestone
		v.from, v.pending, v.due = s.Seq, time.Time{}, time.Time{}
	}
	if seq > s.Seq && v.pending.IsZero() {
		v.pending = now
	}
}

// begin is for a process that has seen nothing yet: what there is did not come just now.
func begin(s *state, seq uint64, now time.Time) sight {
	v := sight{seq: seq, from: s.Seq, changed: now}
	if seq > s.Seq {
		v.pending = s.At
	}
	return v
}

// due reports whether a milestone has to be made now.
func (a *Auto) due(s *state, v *sight, now time.Time) bool {
	enough := a.After > 0 && v.seq >= s.Seq+a.After
	late := a.Every > 0 && !now.Before(a.next(s, v.pending))
	if v.pending.IsZero() || !enough && !late {
		v.due = time.Time{}
		return false
	}
	if v.due.IsZero() {
		v.due = now
	}
	if now.Sub(v.changed) < a.Quiet && now.Sub(v.due) < patience*a.Quiet {
		return false
	}
	pause := againChanged
	if s.RefusedSeq == v.seq {
		pause = againUnchanged
	}
	return s.Refused == "" || now.Sub(s.RefusedAt) >= pause
}

// next is the first of the times of Every that is after an operation, or after the last milestone.
func (a *Auto) next(s *state, pending time.Time) time.Time {
	rounds := max(0, pending.Sub(s.At)) / a.Every
	return s.At.Add((rounds + 1) * a.Every)
}

// Run makes milestones by themselves until ctx ends. What stands in the way of one is logged once, and told by Automatic until there is one.
func (p *Publisher) Run(ctx context.Context) error {
	if !p.opts.Auto.on() {
		return nil
	}
	w := p.worker()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := w.step(ctx); err != nil && ctx.Err() == nil {
			w.log(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// worker makes milestones by themselves. It is owned by Run.
type worker struct {
	*Publisher
	owner string
	known state // as it was when it was last read
	sight
	told string // what was logged last
}

func (p *Publisher) worker() *worker { return &worker{Publisher: p, owner: rand.Text()} }

// log tells once of what goes on being wrong.
func (w *worker) log(ctx context.Context, err error) {
	if text := err.Error(); text != w.told {
		w.told = text
		w.opts.Logger.WarnContext(ctx, "no automatic milestone", "error", err)
	}
}

// step looks at the document, and makes a milestone if one is due.
//
//  1. What this process knows says that one is due.
//  2. So does what all know, which it reads then; and it says there that it makes one. Only one process can.
//  3. It makes the milestone. Another process does so too if this one takes very long, or has ended: then the second one finds nothing to
//     do, or is refused by the repository.
//  4. It notes what came of it.
func (w *worker) step(ctx context.Context) error {
	now := w.opts.Now()
	if w.changed.IsZero() {
		var err error
		if w.known, err = w.change(ctx, func(s *state) bool {
			unknown := s.At.IsZero()
			if unknown {
				s.At = now.UTC() // milestones count from here on
			}
			return unknown
		}); err != nil {
			return err
		}
		w.sight = begin(&w.known, w.doc.Head().Seq, now)
	}
	w.see(&w.known, w.doc.Head().Seq, now)
	if !w.opts.Auto.due(&w.known, &w.sight, now) {
		return nil
	}
	mine := false
	known, err := w.change(ctx, func(s *state) bool {
		w.see(s, w.seq, now)
		if mine = w.opts.Auto.due(s, &w.sight, now) && (s.Owner == "" || !now.Before(s.Until)); mine {
			s.Owner, s.Until = w.owner, now.Add(leaseTime).UTC()
		}
		return mine
	})
	if w.known = known; err != nil || !mine {
		return err
	}
	seq := w.doc.Head().Seq
	made, failed := w.automatic(ctx)
	if ctx.Err() != nil {
		failed = nil // nothing is wrong with the document: another process, or the next one, goes on
	}
	w.known, err = w.change(context.WithoutCancel(ctx), func(s *state) bool {
		switch {
		case made != nil:
			s.made(made.ID, seq, now)
		case errors.Is(failed, milestone.ErrNothing):
			s.made(s.Commit, seq, now)
		case failed != nil:
			s.Refused, s.RefusedAt, s.RefusedSeq = failed.Error(), now.UTC(), seq
		}
		if s.Owner == w.owner {
			s.Owner, s.Until = "", time.Time{}
		}
		return true
	})
	if made != nil {
		w.told = ""
		w.opts.Logger.InfoContext(ctx, "automatic milestone made", "commit", made.ID, "operations", made.Operations)
	}
	if errors.Is(failed, milestone.ErrNothing) {
		failed = nil
	}
	return errors.Join(failed, err)
}

// automaticActor makes the milestones that nobody asks for.
var automaticActor = config.Actor{ID: "skep", Class: config.System}

func (p *Publisher) automatic(ctx context.Context) (made *wire.Milestone, err error) {
	n := wire.NewMilestone{Message: p.opts.Auto.Message, Environments: p.opts.Auto.Environments}
	if n.Message == "" {
		n.Message = "Automatic milestone"
	}
	err = p.work(ctx, true, func(t *Target) error {
		made, err = p.create(ctx, t, &n, milestone.Options{Author: p.opts.Author(ctx, automaticActor)})
		return err
	})
	return made, err
}

// Automatic says how the milestones do that are made by themselves; nil if none are.
func (p *Publisher) Automatic(ctx context.Context) (*wire.Automatic, error) {
	a := &p.opts.Auto
	if !a.on() {
		return nil, nil
	}
	s, _, err := p.state(ctx)
	if err != nil {
		return nil, err
	}
	out := &wire.Automatic{Commit: s.Commit, Refused: s.Refused, After: a.After}
	if seq := p.doc.Head().Seq; seq > s.Seq {
		out.Operations = seq - s.Seq
	}
	if a.Every > 0 {
		out.Every = a.Every.String()
		if now := p.opts.Now(); out.Operations > 0 && s.Refused == "" && !s.At.IsZero() {
			out.Next = a.next(&s, now).UTC().Format(time.RFC3339)
		}
	}
	if s.Refused != "" {
		out.RefusedAt = s.RefusedAt.Format(time.RFC3339)
	}
	return out, nil
}
