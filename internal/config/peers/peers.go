// Package peers carries what the copies of a document say to each other over HTTP.
//
//	r := replica.New(doc, peers.NewTransport(key), addresses, replica.Options{})
//	mux.Handle("POST "+peers.Path, peers.Handler(r, status, permit))
//
// A peer is named by the address of its daemon, https://config.example:9400. It has to be one that the operator wrote down: nobody else can
// make a copy ask anything of anybody.
package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/problem"
)

// Path is where a daemon takes messages. GET says how its copy does.
const Path = "/v1/replication"

// maxMessage is what a message may have: operations of replica.MaxBytes, or one that is larger, and versions.
const maxMessage = 8 << 20

// patience is how long a peer may take to begin an answer.
const patience = 20 * time.Second

// Transport sends messages to daemons. It is a replica.Transport.
type Transport struct {
	client *http.Client
	key    string
}

// NewTransport returns a transport that shows peers an API key; "" shows none.
func NewTransport(key string) *Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // it is one
	t.ResponseHeaderTimeout = patience
	return &Transport{key: key, client: &http.Client{
		Transport: t,
		// The key is for the address that the operator wrote down.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close releases idle connections.
func (t *Transport) Close() { t.client.CloseIdleConnections() }

// Exchange sends a message and returns the answer.
func (t *Transport) Exchange(ctx context.Context, peer string, m *replica.Message) (*replica.Message, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	answer := new(replica.Message)
	return answer, t.do(ctx, http.MethodPost, peer, Path, bytes.NewReader(text), answer)
}

func (t *Transport) do(ctx context.Context, method, peer, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(peer, "/")+path, body)
	if err != nil {
		return fmt.Errorf("peer %s: %w: %w", peer, err, errkind.Invalid)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if t.key != "" {
		req.Header.Set("X-API-Key", t.key)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errkind.Unavailable)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w: %w", err, errkind.Unavailable)
	case len(text) > maxMessage:
		return fmt.Errorf("the answer has more than %d bytes: %w", maxMessage, errkind.TooLarge)
	case resp.StatusCode != http.StatusOK:
		var p huma.ErrorModel
		if json.Unmarshal(text, &p) == nil && p.Detail != "" {
			return fmt.Errorf("%s: %s: %w", resp.Status, p.Detail, errkind.Unavailable)
		}
		return fmt.Errorf("it answers %s: %w", resp.Status, errkind.Unavailable)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the answer: %w: %w", err, errkind.Invalid)
	}
	return nil
}

// Handler takes messages for a copy, from whoever permit lets through: what a peer sends is not asked again whether its actor may do that.
// status is what GET answers.
func Handler(r *replica.Replica, status func() any, permit func(*http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer, err := any(nil), permit(req)
		switch {
		case err != nil:
		case req.Method == http.MethodGet:
			answer = status()
		default:
			m := new(replica.Message)
			if err = read(w, req, m); err == nil {
				answer, err = r.Handle(req.Context(), m)
			}
		}
		if err != nil {
			problem.Write(w, problem.Status(err), err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // the peer may be gone
	})
}

func read(w http.ResponseWriter, req *http.Request, m *replica.Message) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxMessage))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return fmt.Errorf("the message has more than %d bytes: %w", maxMessage, errkind.TooLarge)
	}
	if err == nil {
		err = json.Unmarshal(text, m)
	}
	if err != nil {
		return fmt.Errorf("read message: %w: %w", err, errkind.Invalid)
	}
	return nil
}
