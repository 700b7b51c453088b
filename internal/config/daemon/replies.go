package daemon

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	maxKeyBytes  = 255      // two UUIDs fit
	maxReplies   = 10_000   // that are remembered; the oldest is forgotten for the newest
	maxReplyBody = 64 << 10 // of an answer that is remembered
	maxBody      = 4 << 20  // of a request that has a key, as package rest has it
	replyTTL     = 24 * time.Hour
)

var (
	errKeyMalformed = failure{errkind.Invalid, fmt.Sprintf("Idempotency-Key: one header of 1 to %d printable ASCII characters", maxKeyBytes)}
	errKeyRunning   = failure{errkind.Conflict, "a request with this Idempotency-Key is still being done"}
	errKeyReused    = failure{errkind.Invalid, "another request was made with this Idempotency-Key: its body was not the same"}
	errKeyNoAnswer  = failure{errkind.Conflict, "this request was done already; its answer was too large to be kept"}
)

// replies are the answers to requests that had an Idempotency-Key. They are in memory: after a new start a key is new.
type replies struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*kept // guarded by mu, as the next
	order [][sha256.Size]byte         // of known, the oldest first
}

// kept is an answer, once it is done.
type kept struct {
	sent   [sha256.Size]byte // the hash of the request's body
	at     time.Time
	done   bool
	status int
	header http.Header
	body   []byte
	over   bool // it was too large
}

func (k *kept) write(p []byte) {
	if k.over = k.over || len(k.body)+len(p) > maxReplyBody; k.over {
		k.body = nil
		return
	}
	k.body = append(k.body, p...)
}

// begin notes that a request is being done; it returns the one that was done under the same key.
func (s *replies) begin(key [sha256.Size]byte, fresh *kept) (known kept, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[key]; k != nil && time.Since(k.at) < replyTTL {
		if !k.done {
			return kept{sent: k.sent}, true // the rest is still being written
		}
		return *k, true
	}
	if s.known == nil {
		s.known = map[[sha256.Size]byte]*kept{}
	}
	if _, there := s.known[key]; !there {
		s.order = append(s.order, key)
	}
	for len(s.order) > maxReplies {
		delete(s.known, s.order[0])
		s.order = s.order[1:]
	}
	s.known[key] = fresh
	return kept{}, false
}

// end keeps an answer, or forgets a request that was refused and may be tried again.
func (s *replies) end(key [sha256.Size]byte, k *kept, status int, header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status/100 != 2 || grpcFailed(header) {
		// Its place in order stays: what is there under the key later goes a little early.
		delete(s.known, key)
		return
	}
	// All of it: gRPC says in headers how the body is compressed, and in trailers, which are here too, how the call ended.
	k.done, k.status, k.header = true, status, header.Clone()
	for _, own := range [...]string{"X-Request-Id", "Date"} {
		k.header.Del(own)
	}
}

// grpcFailed reports whether a call by gRPC failed, whose status as HTTP is 200 in any case.
func grpcFailed(header http.Header) bool {
	status := header.Get("Grpc-Status") + header.Get(http.TrailerPrefix+"Grpc-Status")
	return status != "" && status != "0"
}

// once does a POST that has an Idempotency-Key at most once (draft-ietf-httpapi-idempotency-key-header).
func (d *Daemon) once(w *answer, r *http.Request, api http.Handler) {
	keys := r.Header["Idempotency-Key"]
	if len(keys) == 0 || r.Method != http.MethodPost {
		api.ServeHTTP(w, r)
		return
	}
	if len(keys) > 1 || !validKey(keys[0]) {
		d.refuse(w, r, errKeyMalformed)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		d.refuse(w, r, fmt.Errorf("the body broke off, or has more than %d bytes: %w", maxBody, errkind.TooLarge))
		return
	}
	fresh := &kept{sent: sha256.Sum256(body), at: time.Now()}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", callOf(r.Context()).actor.ID, r.URL.RequestURI(), keys[0]))
	if k, ok := d.replies.begin(key, fresh); ok {
		d.again(w, r, &k, fresh.sent)
		return
	}
	finished := false
	defer func() {
		if !finished { // it panicked
			d.replies.end(key, fresh, http.StatusInternalServerError, nil)
		}
	}()
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.kept = fresh
	api.ServeHTTP(w, r)
	w.kept, finished = nil, true
	d.replies.end(key, fresh, w.call.status, w.Header())
}

// again answers a request whose key was used.
func (d *Daemon) again(w *answer, r *http.Request, k *kept, sent [sha256.Size]byte) {
	switch {
	case k.sent != sent:
		d.refuse(w, r, errKeyReused)
	case !k.done:
		d.refuse(w, r, errKeyRunning)
	case k.over:
		d.refuse(w, r, errKeyNoAnswer)
	default:
		maps.Copy(w.Header(), k.header)
		w.Header()["Idempotency-Replayed"] = []string{"true"}
		w.WriteHeader(k.status)
		_, _ = w.Write(k.body) // the client may be gone
	}
}

func validKey(s string) bool {
	if s == "" || len(s) > maxKeyBytes {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
