package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// maxIdempotencyKey bounds a key: two UUIDs fit.
const maxIdempotencyKey = 255

// What a client learns that used a key twice.
var (
	errKeyMalformed = denial{errkind.Invalid, fmt.Sprintf("Idempotency-Key: one header of 1 to %d printable ASCII characters", maxIdempotencyKey)}
	errKeyRunning   = denial{errkind.Conflict, "a request with this Idempotency-Key is still being done, or was cut off: look what is there before you try another key"}
	errKeyReused    = denial{errkind.Invalid, "another request was made with this Idempotency-Key: its body was not the same"}
)

// Why an answer is not kept.
const (
	hasSecret = "it has a secret"
	tooLarge  = "it was too large"
)

// once does a POST that has an Idempotency-Key at most once (draft-ietf-httpapi-idempotency-key-header). The same request
// under the same key gets the first one's answer. Only what succeeded is remembered: what was refused changed nothing and may be
// tried again. do answers the request.
func (s *Server) once(c *call, r *http.Request, do func()) {
	keys := r.Header["Idempotency-Key"]
	if len(keys) == 0 || r.Method != http.MethodPost || openToAll(r.URL.Path) { // it only reads, or is done once anyway
		do()
		return
	}
	if len(keys) > 1 || !validIdempotencyKey(keys[0]) {
		s.refuse(c, r, errKeyMalformed)
		return
	}
	k := control.ReplyKey{Principal: c.principal.ID, Hash: sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", c.principal.Token, c.principal.Session, r.URL.RequestURI(), keys[0]))}
	known, err := s.control.BeginReply(r.Context(), k)
	switch {
	case err != nil: // nobody would know that it is done
		s.refuse(c, r, err)
		return
	case known != nil:
		s.again(c, r, known)
		return
	}
	// What was done is remembered also when the client has gone.
	ctx, finished := context.WithoutCancel(r.Context()), false
	defer func() {
		if !finished { // refused, failed, or panicked
			s.remembered(ctx, c, s.control.ForgetReply(ctx, k))
		}
	}()
	rec := &recording{sent: sha256.New()}
	c.body.hash, c.w.recording = rec.sent, rec
	do()
	if c.w.status/100 == 2 && c.body.finish() {
		finished = true
		reply := rec.reply(c, r)
		reply.Share = s.shareOf(ctx, c)
		s.remembered(ctx, c, s.control.FinishReply(ctx, k, reply))
	}
}

// shareOf is among whose answers one is counted. A tenant's administrators may make many principals: those count as the tenant, whose
// they are or in which they have done something.
func (s *Server) shareOf(ctx context.Context, c *call) string {
	for _, t := range [...]id.Tenant{c.used.Tenant, c.principal.Within, c.principal.Home} {
		if t == "" {
			continue
		}
		if standing, err := s.control.Standing(ctx, t); err == nil {
			return string(standing.Lineage[len(standing.Lineage)-1])
		}
	}
	return string(c.principal.ID)
}

// remembered notes that the key of a request stays taken, as if it had been cut off.
func (s *Server) remembered(ctx context.Context, c *call, err error) {
	if err != nil {
		s.log.WarnContext(ctx, "idempotency key stays taken for a day", "request_id", c.id, "error", err)
	}
}

// again answers a request whose key is taken.
func (s *Server) again(c *call, r *http.Request, known *control.Reply) {
	if !known.Done {
		s.refuse(c, r, errKeyRunning)
		return
	}
	h := sha256.New()
	c.body.hash, c.body.limit = h, max(s.opts.MaxPackBytes, maxCommitJSON)
	if c.body.rc != nil {
		if _, err := io.Copy(io.Discard, &c.body); err != nil {
			s.refuse(c, r, err)
			return
		}
	}
	switch {
	case [sha256.Size]byte(h.Sum(nil)) != known.Sent:
		s.refuse(c, r, errKeyReused)
	case known.Status == 0:
		s.refuse(c, r, denial{errkind.Conflict, "this request was done already; its answer is not kept, because " + known.Why})
	default:
		header := c.w.Header()
		maps.Copy(header, known.Answer.Header)
		header["Idempotency-Replayed"] = []string{"true"}
		c.w.WriteHeader(known.Status)
		_, _ = c.w.Write(known.Answer.Body) // the client may be gone
	}
}

func validIdempotencyKey(s string) bool {
	if s == "" || len(s) > maxIdempotencyKey {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// recording is what goes by of a request and its answer.
type recording struct {
	sent hash.Hash
	body []byte
	over bool // there was more than is kept
}

func (rec *recording) write(p []byte) {
	if rec.over = rec.over || len(rec.body)+len(p) > control.MaxReplyBody; rec.over {
		rec.body = nil
		return
	}
	rec.body = append(rec.body, p...)
}

// answersSecret reports whether a call's answer has a secret, which is shown once and kept nowhere.
func answersSecret(path string) bool {
	return path == client.Base+"/tokens" || path == client.Base+"/tokens/rotate" || path == acceptPath || strings.HasSuffix(path, "/invitations") || strings.HasSuffix(path, "/webhooks")
}

// reply is what is kept of a request that was done.
func (rec *recording) reply(c *call, r *http.Request) control.Reply {
	out := control.Reply{Sent: [sha256.Size]byte(rec.sent.Sum(nil))}
	switch {
	case answersSecret(r.URL.Path):
		out.Why = hasSecret
	case rec.over:
		out.Why = tooLarge
	default:
		out.Status, out.Answer.Body = c.w.status, rec.body
		// What says something of the answer, not of this way of getting it.
		out.Answer.Header = map[string][]string{}
		for _, k := range [...]string{"Content-Type", "Location", "Etag", "X-Next-Cursor", "Link"} {
			if v, ok := c.w.Header()[k]; ok {
				out.Answer.Header[k] = v
			}
		}
	}
	return out
}
