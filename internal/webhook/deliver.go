package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// Delivery is one attempt.
type Delivery struct {
	Event   string    `json:"event"` // its ID
	Type    string    `json:"type"`
	Cursor  uint64    `json:"cursor,omitempty"`    // of the Source
	Number  uint64    `json:"published,omitempty"` // of Publish
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"`
	Status  int       `json:"status,omitempty"` // of the answer; 0: there was none
	Error   string    `json:"error,omitempty"`  // "": it was taken
	TookMS  int64     `json:"took_ms"`
	Again   bool      `json:"again,omitempty"` // somebody asked for it
}

// state is what became of a subscription.
type state struct {
	Cursor    uint64     `json:"cursor"`
	Published uint64     `json:"published"`
	Missed    uint64     `json:"missed,omitempty"`
	Failing   *time.Time `json:"failing,omitempty"` // since when, without a success
	Attempts  int        `json:"attempts,omitempty"`
	Next      time.Time  `json:"next,omitzero"` // the next attempt
	Disabled  string     `json:"disabled,omitempty"`
	Last      []Delivery `json:"last,omitempty"`
	// Owner is the process that delivers, until it has not said so for a while.
	Owner string    `json:"owner,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// Status is how a subscription does.
type Status struct {
	Cursor     uint64     `json:"cursor"`               // of the Source: what was taken
	Missed     uint64     `json:"missed,omitempty"`     // published events that were dropped before they could be delivered
	Failing    *time.Time `json:"failing,omitempty"`    // since when
	Attempts   int        `json:"attempts,omitempty"`   // for the event that is next
	Next       time.Time  `json:"next,omitzero"`        // when that is tried again
	Disabled   string     `json:"disabled,omitempty"`   // why nothing is sent any more; "": it is
	Deliveries []Delivery `json:"deliveries,omitempty"` // the last ones, the latest at the end
}

// leaseTime is how long a process that delivers may be silent before another one takes over: longer than a request takes.
const leaseTime = 2 * time.Minute

// unsavedEvents is how many events that a subscription does not want it passes before its place is kept.
const unsavedEvents = 1000

// Status returns how a subscription does.
func (h *Hooks) Status(ctx context.Context, id string) (Status, error) {
	var st state
	if _, err := h.get(ctx, id); err != nil {
		return Status{}, err
	}
	if _, err := h.read(ctx, keyState+id, &st); err != nil {
		return Status{}, fmt.Errorf("webhook %s: %w", id, err)
	}
	return Status{st.Cursor, st.Missed, st.Failing, st.Attempts, st.Next, st.Disabled, st.Last}, nil
}

// Enable has a subscription that failed tried again at once, from where it stopped.
func (h *Hooks) Enable(ctx context.Context, id string) error {
	if _, err := h.get(ctx, id); err != nil {
		return err
	}
	for {
		var st state
		old, err := h.read(ctx, keyState+id, &st)
		if err != nil {
			return fmt.Errorf("webhook %s: %w", id, err)
		}
		st.Disabled, st.Failing, st.Attempts, st.Next, st.Owner = "", nil, 0, time.Time{}, ""
		if err = h.put(ctx, keyState+id, old, &st); errors.Is(err, errkind.Conflict) {
			continue
		}
		h.wake()
		return err
	}
}

// Run delivers until ctx ends.
func (h *Hooks) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	running := map[string]bool{} // guarded by mu
	for ctx.Err() == nil {
		changed := h.changes()
		ids, err := h.ids(ctx)
		if err != nil && ctx.Err() == nil {
			h.opts.Logger.Warn("could not list webhooks", "error", err)
		}
		for _, id := range ids {
			mu.Lock()
			begin := !running[id]
			running[id] = true
			mu.Unlock()
			if !begin {
				continue
			}
			wg.Go(func() {
				again, err := h.serve(ctx, id)
				if err != nil && ctx.Err() == nil {
					h.opts.Logger.Warn("could not go on with a webhook", "webhook", id, "error", err)
				}
				mu.Lock()
				delete(running, id)
				mu.Unlock()
				if again {
					h.wake()
				}
			})
		}
		h.sleep(ctx, h.opts.Poll, changed)
	}
	return nil
}

// sleep waits for a time, or until something changes.
func (h *Hooks) sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// worker delivers to one subscription.
type worker struct {
	*Hooks
	sub Subscription
	st  state

	text  []byte // the state as it is kept
	saved uint64 // its cursor
}

// serve delivers to a subscription until it is disabled or another process's, or somebody changed it: then serve is to be called again.
func (h *Hooks) serve(ctx context.Context, id string) (again bool, err error) {
	w := &worker{Hooks: h}
	if w.sub, err = h.get(ctx, id); err != nil {
		return false, ignoreGone(err)
	}
	if w.text, err = h.read(ctx, keyState+id, &w.st); err != nil {
		return false, err
	}
	if w.st.Disabled != "" || w.st.Owner != h.owner && w.st.Owner != "" && h.opts.Now().Before(w.st.Until) {
		return false, nil
	}
	if err := w.save(ctx); err != nil {
		return false, ignoreGone(err)
	}
	for ctx.Err() == nil && w.st.Disabled == "" {
		changed := h.changes()
		if wait := w.st.Next.Sub(h.opts.Now()); wait > 0 {
			h.sleep(ctx, min(wait, h.opts.Poll), changed)
			err = w.renew(ctx)
		} else {
			err = w.round(ctx, changed)
		}
		if errors.Is(err, errkind.Conflict) {
			return true, nil
		}
		if err != nil {
			break
		}
	}
	w.release(ctx)
	return false, ignoreGone(err)
}

// ignoreGone is for what was removed meanwhile, or taken by another process.
func ignoreGone(err error) error {
	if errors.Is(err, errkind.NotFound) || errors.Is(err, errkind.Conflict) {
		return nil
	}
	return err
}

// save keeps the state, and says that this process goes on.
func (w *worker) save(ctx context.Context) error {
	w.st.Owner, w.st.Until = w.owner, w.opts.Now().Add(leaseTime).UTC()
	return w.keep(ctx)
}

// renew finds out whether somebody else has changed the state, and says from time to time that this process goes on.
func (w *worker) renew(ctx context.Context) error {
	text, err := w.store.Meta(ctx, keyState+w.sub.ID)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(text, w.text):
		return fmt.Errorf("webhook %s: it was changed: %w", w.sub.ID, errkind.Conflict)
	case w.st.Cursor >= w.saved+unsavedEvents || w.st.Until.Sub(w.opts.Now()) < leaseTime/2:
		return w.save(ctx)
	}
	return nil
}

func (w *worker) keep(ctx context.Context) error {
	text, err := json.Marshal(&w.st)
	if err != nil {
		return fmt.Errorf("encode the state of a webhook: %w", err)
	}
	if err := w.store.SwapMeta(ctx, keyState+w.sub.ID, w.text, text); err != nil {
		return err
	}
	w.text, w.saved = text, w.st.Cursor
	return nil
}

// release lets another process go on at once.
func (w *worker) release(ctx context.Context) {
	w.st.Owner, w.st.Until = "", time.Time{}
	_ = w.keep(context.WithoutCancel(ctx)) // else the lease ends by itself
}

// round delivers what was published, then what the source has next.
func (w *worker) round(ctx context.Context, changed <-chan struct{}) error {
	numbers, err := w.published(ctx, w.st.Published)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		var e Event
		if _, err := w.read(ctx, eventKey(n), &e); errors.Is(err, errkind.NotFound) {
			continue // dropped just now: the next one counts it
		} else if err != nil {
			return err
		}
		if ok, err := w.event(ctx, &e, n); !ok || err != nil {
			return err
		}
		w.st.Missed += n - w.st.Published - 1
		w.st.Published = n
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	if w.source == nil {
		w.sleep(ctx, w.opts.Poll, changed)
		return w.renew(ctx)
	}
	return w.fromSource(ctx, changed)
}

func (w *worker) fromSource(ctx context.Context, changed <-chan struct{}) error {
	until, cancel := context.WithTimeout(ctx, w.opts.Poll)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-until.Done():
		}
	}()
	begin := w.st.Cursor
	for w.st.Cursor < begin+unsavedEvents {
		list, next, err := w.source.Next(until, w.st.Cursor, w.sub.wants)
		if err != nil && until.Err() != nil && ctx.Err() == nil {
			break // nothing came
		}
		if err != nil {
			return err
		}
		for i := range list {
			if !w.sub.matches(&list[i]) {
				continue
			}
			if ok, err := w.event(ctx, &list[i], 0); !ok || err != nil {
				return err
			}
			w.st.Cursor = list[i].Cursor
			if err := w.save(ctx); err != nil {
				return err
			}
		}
		w.st.Cursor = max(next, w.st.Cursor)
	}
	return w.renew(ctx)
}

// event tries to deliver an event, and reports whether it was taken or not wanted. If not, the state says when it is tried again.
func (w *worker) event(ctx context.Context, e *Event, number uint64) (bool, error) {
	if !w.sub.matches(e) {
		return true, nil
	}
	if err := w.opts.May(&w.sub); err != nil {
		return false, w.disable(ctx, err.Error())
	}
	w.st.Attempts++
	d := w.attempt(ctx, &w.sub, e)
	if ctx.Err() != nil && d.Error != "" {
		return false, ctx.Err() // not its fault
	}
	d.Attempt, d.Number = w.st.Attempts, number
	w.st.Last = append(w.st.Last, d)
	w.st.Last = w.st.Last[max(0, len(w.st.Last)-MaxDeliveries):]
	if d.Error == "" {
		w.st.Failing, w.st.Attempts, w.st.Next = nil, 0, time.Time{}
		return true, nil
	}
	now := w.opts.Now().UTC()
	if w.st.Failing == nil {
		w.st.Failing = &now
	}
	switch {
	case d.Status == http.StatusGone:
		return false, w.disable(ctx, "it answered 410 Gone: nothing is wanted any more")
	case now.Sub(*w.st.Failing) >= w.opts.GiveUp:
		return false, w.disable(ctx, fmt.Sprintf("it failed for %s: %s", w.opts.GiveUp, d.Error))
	}
	pause := w.opts.MaxPause
	if n := w.st.Attempts - 1; n < 20 { // beyond that it is more than any MaxPause
		pause = min(pause, w.opts.FirstPause<<n)
	}
	w.st.Next = now.Add(pause/2 + rand.N(pause/2+1)) //nolint:gosec // it spreads load and is no secret
	return false, w.save(ctx)
}

// disable ends deliveries until somebody enables the subscription again.
func (w *worker) disable(ctx context.Context, reason string) error {
	w.st.Disabled = fmt.Sprintf("%.*s", maxReason, reason)
	w.opts.Logger.WarnContext(ctx, "a webhook is disabled", "webhook", w.sub.ID, "reason", w.st.Disabled)
	return w.save(ctx)
}

// attempt sends an event once.
func (h *Hooks) attempt(ctx context.Context, s *Subscription, e *Event) Delivery {
	begin := h.opts.Now()
	d := Delivery{Event: e.ID, Type: e.Type, Cursor: e.Cursor, At: begin.UTC().Truncate(time.Millisecond)}
	status, err := h.send(ctx, s, e, begin)
	d.Status, d.TookMS = status, h.opts.Now().Sub(begin).Milliseconds()
	switch {
	case err != nil:
		d.Error = fmt.Sprintf("%.*s", maxErrorText, err.Error())
	case status < 200 || status > 299:
		d.Error = fmt.Sprintf("it answered %d", status)
	}
	return d
}

func (h *Hooks) send(ctx context.Context, s *Subscription, e *Event, at time.Time) (status int, err error) {
	body := e.Bodies[s.Format]
	if len(body) > maxBody {
		return 0, fmt.Errorf("the event has %d bytes, and %d are sent at most", len(body), maxBody)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := sign(req.Header, s, e.ID, at, string(body)); err != nil {
		return 0, err
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection can be used again; what it says is not of interest
	return resp.StatusCode, resp.Body.Close()
}

// Redeliver sends an event of the Source again that a subscription had, by the cursor of its delivery; of Publish by its number.
func (h *Hooks) Redeliver(ctx context.Context, id string, again Delivery) (Delivery, error) {
	s, err := h.get(ctx, id)
	if err != nil {
		return Delivery{}, err
	}
	if err := h.opts.May(&s); err != nil {
		return Delivery{}, fmt.Errorf("redeliver to webhook %s: %w", id, err)
	}
	e, err := h.find(ctx, again)
	if err != nil {
		return Delivery{}, fmt.Errorf("redeliver to webhook %s: %w", id, err)
	}
	d := h.attempt(ctx, &s, e)
	d.Again, d.Attempt, d.Number = true, 1, again.Number
	return d, nil
}

// find returns the event of a delivery.
func (h *Hooks) find(ctx context.Context, d Delivery) (*Event, error) {
	gone := fmt.Errorf("event %.100q is not there any more: %w", d.Event, errkind.NotFound)
	if d.Number > 0 {
		var e Event
		_, err := h.read(ctx, eventKey(d.Number), &e)
		if err == nil && e.ID != d.Event {
			err = gone
		}
		return &e, err
	}
	if h.source == nil || d.Cursor > h.source.Head() {
		return nil, gone
	}
	// An event's cursor is that of the place after it, or, where several have one place, before it.
	for _, from := range []uint64{max(d.Cursor, 1) - 1, d.Cursor} {
		if from >= h.source.Head() {
			continue
		}
		list, _, err := h.source.Next(ctx, from, func(event string) bool { return event == d.Type })
		if err != nil {
			return nil, err
		}
		for i := range list {
			if list[i].ID == d.Event {
				return &list[i], nil
			}
		}
	}
	return nil, gone
}
