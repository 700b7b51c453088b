package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// silence is how long a stream may say nothing: heartbeats come every 15 seconds.
	silence = 50 * time.Second
	// firstPause and longestPause are between attempts to connect again. Each is up to twice as long as the one before.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	// maxEvent bounds an event: that with the whole state is the largest.
	maxEvent = maxAnswer
)

const streamType = "application/x-ndjson"

// WatchQuery chooses what is watched. The zero one asks for all that comes next.
type WatchQuery struct {
	Cursor  *uint64 // go on after this one; nil: with what comes next
	Initial bool    // without a cursor: first the state as it is, as one event
	Entity  string  // only this one, or this type
	Field   string
	Env     string // "" is all
	Valid   bool   // nothing as long as rules of the schema are broken; then what has changed, as one event
	// Passed is called with the cursors of heartbeats: who goes on after such a one misses nothing. nil: it is not.
	Passed func(cursor uint64)
	// Lost is called when a connection broke, before the next attempt; nil: it is not.
	Lost func(err error)
}

func (q *WatchQuery) values() url.Values {
	v := values("entity", q.Entity, "field", q.Field, "env", q.Env)
	if q.Valid {
		v.Set("valid_only", "true")
	}
	switch {
	case q.Cursor != nil:
		v.Set("cursor", strconv.FormatUint(*q.Cursor, 10))
	case q.Initial:
		v.Set("initial", "true")
	}
	return v
}

// Watch follows what changes. When a connection breaks, it goes on with the next one: nothing is missed, and nothing comes twice. It ends with
// the context, when the server refuses it, and if there is no server at the beginning; the last item is the error.
func (d *Configuration) Watch(ctx context.Context, q WatchQuery) iter.Seq2[*wire.Event, error] {
	return func(yield func(*wire.Event, error) bool) {
		q := q // it moves on
		connected, pause := false, firstPause
		for {
			heard := false
			err := d.stream(ctx, &q, func(e *wire.Event) bool {
				if connected, heard = true, true; e == nil {
					return true
				}
				return yield(e, nil)
			})
			switch {
			case errors.Is(err, errEnough):
				return
			case ctx.Err() != nil:
				yield(nil, ctx.Err())
				return
			case !connected || !passing(err):
				yield(nil, err)
				return
			}
			if q.Lost != nil {
				q.Lost(err)
			}
			if heard {
				pause = firstPause
			}
			// All watchers of a server that has started anew should not come at the same moment.
			wait := time.NewTimer(pause/2 + rand.N(pause/2)) //nolint:gosec // no secret
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
			}
			pause = min(2*pause, longestPause)
		}
	}
}

// errEnough says that nobody wants more events.
var errEnough = errors.New("enough")

// passing reports whether a failure is of the connection, or of a server that is busy or starts anew.
func passing(err error) bool {
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		return errkind.Of(err) == errkind.Internal
	}
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// stream reads events from one connection until it breaks, and keeps in q where to go on. It calls fn with each, and with nil for a heartbeat.
func (d *Configuration) stream(ctx context.Context, q *WatchQuery, fn func(*wire.Event) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(silence, cancel)
	defer silent.Stop()
	resp, err := d.c.send(ctx, call{method: http.MethodGet, path: d.path + "/watch", query: q.values(), accept: streamType})
	if err != nil {
		return err
	}
	defer closeBody(resp)
	if t := resp.Header.Get("Content-Type"); !strings.HasPrefix(t, streamType) {
		return fmt.Errorf("watch: the server answers with %q and not with events: %w", t, errkind.Unsupported)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	lines.Split(wholeLines)
	for lines.Scan() {
		silent.Reset(silence)
		in := struct {
			Heartbeat bool `json:"heartbeat"`
			*wire.Event
		}{Event: new(wire.Event)}
		if err := json.Unmarshal(lines.Bytes(), &in); err != nil {
			return fmt.Errorf("watch: what the server sent is no event: %w: %w", err, errkind.Unsupported)
		}
		cursor := in.Cursor
		if in.Heartbeat {
			if !fn(nil) {
				return errEnough
			}
			if q.Cursor == nil && q.Initial {
				continue // the state is still to come
			}
			q.Cursor = &cursor
			if q.Passed != nil {
				q.Passed(cursor)
			}
			continue
		}
		q.Cursor = &cursor
		if !fn(in.Event) {
			return errEnough
		}
	}
	err = lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("watch: an event has more than %d bytes: %w", maxEvent, errkind.TooLarge)
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("watch: the connection broke: %w", err)
}

// wholeLines splits a stream at line ends. What has none is the rest of a connection that broke.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF {
		return len(data), nil, nil
	}
	return 0, nil, nil
}

// Poll answers with the events that there are, waiting for up to a minute until there is one: for who cannot hold a stream open. The cursor of
// the answer is that to go on after.
func (d *Configuration) Poll(ctx context.Context, q WatchQuery, wait time.Duration) (wire.Polled, error) {
	v := q.values()
	v.Set("wait", wait.String())
	return get[wire.Polled](ctx, d.c, d.path+"/watch", v)
}
