package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// maxWait is how long a poll waits for a change.
	maxWait = time.Minute
	// pollPatience is how long a poll may take beyond that, to read what there is.
	pollPatience = 30 * time.Second
	// maxPolled is how many events a poll answers at most.
	maxPolled = 1000
)

// Watching chooses what is watched, and how.
type Watching struct {
	Cursor      string `query:"cursor" maxLength:"20" doc:"Go on after this one. Without a cursor the stream begins with what comes next"`
	LastEventID string `header:"Last-Event-ID" maxLength:"20" doc:"The same, as browsers say it when they connect again"`
	Initial     bool   `query:"initial" doc:"First the state as it is, as one event; with a cursor: go on after that"`
	Entity      string `query:"entity" maxLength:"512" doc:"Only this one, or this type"`
	Field       string `query:"field" maxLength:"256"`
	Environment string `query:"environment" maxLength:"256" doc:"All if empty"`
	Env         string `query:"env" maxLength:"256" doc:"The same as environment"`
	ValidOnly   bool   `query:"valid_only" doc:"Nothing as long as rules of the schema are broken; then what has changed, as one event"`
	Wait        string `query:"wait" maxLength:"16" doc:"Answer with what there is, waiting for up to so long, at most 1m, until there is something: 30s. Without it the answer is a stream"`
	Accept      string `header:"Accept" doc:"text/event-stream, or application/x-ndjson"`
}

func (w *Watching) query(c *Caller) (service.WatchQuery, error) {
	q := service.WatchQuery{Initial: w.Initial, Entity: w.Entity, Field: w.Field, Env: (&Reading{Environment: w.Environment, Env: w.Env}).env(), Valid: w.ValidOnly}
	text := w.LastEventID
	if text == "" {
		text = w.Cursor
	}
	if text == "" {
		q.Cursor = c.Service.Document().Head().Seq
		return q, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return q, fmt.Errorf("cursor %q is no number that this document gave: %w", clip(text), errkind.Invalid)
	}
	q.Cursor, q.Initial = n, false
	return q, c.Service.CheckCursor(n) //nolint:wrapcheck // it says all
}

func (a *routes) watch() {
	o := a.op(http.MethodGet, "/watch", "watch", "Follow what changes")
	o.Description = "A stream of events, as server-sent events or as lines of JSON; with wait, one answer. Each event has a cursor: who goes on after it misses nothing and gets nothing twice."
	o.Responses = map[string]*huma.Response{"200": {Description: "Events", Content: map[string]*huma.MediaType{
		"application/json":     {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[wire.Polled](), true, "")},
		"application/x-ndjson": {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[wire.Event](), true, "")},
		"text/event-stream":    {Schema: &huma.Schema{Type: huma.TypeString}},
	}}}
	handle(a, o, func(ctx context.Context, c *Caller, in *Watching) (*huma.StreamResponse, error) {
		q, err := in.query(c)
		if err != nil {
			return nil, err
		}
		if in.Wait != "" {
			return poll(ctx, c, in.Wait, q)
		}
		if q.Env != "" {
			if _, q.Env, err = c.Service.Version(q.Env); err != nil {
				return nil, err
			}
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humago.Unwrap(hc)
			s := &stream{w: w, sse: strings.Contains(in.Accept, "text/event-stream")}
			err := s.run(ctx, c, q)
			if err != nil && ctx.Err() == nil {
				a.mount.Failed(ctx, err)
			}
		}}, nil
	})
}

// errEnough ends a poll.
var errEnough = errors.New("enough")

func poll(ctx context.Context, c *Caller, wait string, q service.WatchQuery) (*huma.StreamResponse, error) {
	patience, err := time.ParseDuration(wait)
	if err != nil || patience < 0 {
		return nil, fmt.Errorf("wait %q: write a duration such as 30s: %w", clip(wait), errkind.Invalid)
	}
	waiting, cancel := context.WithTimeout(ctx, maxWait+pollPatience)
	defer cancel()
	head := c.Service.Document().Head().Seq
	out := &wire.Polled{Events: []*wire.Event{}, Cursor: q.Cursor}
	// What is there already is all answered at once; if that is nothing, the first that comes is.
	var patient *time.Timer
	reached := func(cursor uint64) error {
		if len(out.Events) == maxPolled || len(out.Events) > 0 && cursor >= head {
			return errEnough
		}
		if cursor >= head && patient == nil {
			patient = time.AfterFunc(min(patience, maxWait), cancel)
		}
		return nil
	}
	if !q.Initial {
		_ = reached(q.Cursor) // there is nothing yet
	}
	q.Passed = func(cursor uint64) {
		if out.Cursor = cursor; reached(cursor) != nil {
			cancel()
		}
	}
	defer func() {
		if patient != nil {
			patient.Stop()
		}
	}()
	err = c.Service.Watch(waiting, c.Actor, q, func(e *wire.Event) error {
		out.Events, out.Cursor = append(out.Events, e), e.Cursor
		return reached(e.Cursor)
	})
	if err != nil && !errors.Is(err, errEnough) && waiting.Err() == nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() //nolint:wrapcheck // the client has gone
	}
	if c.Again != nil { // it may have waited for long
		if err := c.Again(); err != nil {
			return nil, err
		}
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		hc.SetHeader("Cache-Control", "no-store")
		hc.SetStatus(http.StatusOK)
		_ = huma.DefaultJSONFormat.Marshal(hc.BodyWriter(), out) // the client may be gone
	}}, nil
}

// stream is a watcher's connection. One method is called at a time.
type stream struct {
	w   http.ResponseWriter
	sse bool
	buf bytes.Buffer
}

func (s *stream) run(ctx context.Context, c *Caller, q service.WatchQuery) error {
	h := s.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	if s.sse {
		h.Set("Content-Type", "text/event-stream")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	return c.Follow(ctx, q, s.event, s.beat) //nolint:wrapcheck // for the log
}

func (s *stream) beat(cursor uint64) error {
	s.buf.Reset()
	if s.sse {
		// An event without data is none, but its ID counts.
		fmt.Fprintf(&s.buf, ": heartbeat\nid: %d\n\n", cursor)
	} else {
		fmt.Fprintf(&s.buf, "{\"heartbeat\":true,\"cursor\":%d}\n", cursor)
	}
	return s.send()
}

func (s *stream) event(e *wire.Event) error {
	s.buf.Reset()
	if s.sse {
		fmt.Fprintf(&s.buf, "id: %d\nevent: change\ndata: ", e.Cursor)
	}
	text, err := e.Text()
	if err != nil {
		return err //nolint:wrapcheck // for the log
	}
	s.buf.Write(text)
	if s.sse {
		s.buf.WriteByte('\n')
	}
	return s.send()
}

// send writes what is in the buffer.
func (s *stream) send() error {
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return fmt.Errorf("write to watcher: %w", err)
	}
	if err := http.NewResponseController(s.w).Flush(); err != nil {
		return fmt.Errorf("write to watcher: %w", err)
	}
	return nil
}
