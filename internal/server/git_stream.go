package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/usage"
)

// Service is what git runs on the other side of a connection.
type Service string

// The services.
const (
	UploadPack    Service = uploadPack
	ReceivePack   Service = receivePack
	UploadArchive Service = "git-upload-archive"
)

func (s Service) route() route {
	switch s {
	case UploadPack:
		return routeStreamUpload
	case ReceivePack:
		return routeStreamReceive
	case UploadArchive:
		return routeStreamArchive
	}
	panic("bug: there is no service " + string(s))
}

// Stream is one run of a service over a transport that is not HTTP: a conversation in both directions with somebody who is known.
type Stream struct {
	Service   Service
	Path      string // TENANT/NAME, with or without a slash before it and .git behind it
	Version   protocol.Version
	Principal policy.Principal
	Peer      netip.Addr // invalid: unknown
	Remote    string     // who the log says that is, if Peer does not
	In        io.Reader
	Out       io.Writer
}

// maxConversation bounds what a client says that fetches, in all of its requests. One may have maxUploadRequest.
const maxConversation = 4 * maxUploadRequest

// ServeStream serves a stream to its end, with the rules, limits, counters and log lines of HTTP. A failure that it returns was told to the
// client if anything was written to Out, else it is the caller's to tell.
func (s *Server) ServeStream(ctx context.Context, st Stream) (err error) {
	s.running.Add(1)
	defer s.running.Add(-1)
	c := &call{started: time.Now(), id: newRequestID(), route: st.Service.route(), peer: st.Peer, remote: st.Remote, principal: st.Principal}
	if c.peer.IsValid() {
		c.remote = c.peer.String()
	}
	c.exempt = s.rates.exempts(c.peer)
	if s.opts.Tracer != nil {
		ctx, c.span = s.opts.Tracer.Request(ctx, http.Header{})
	}
	defer func() {
		p := recover()
		if p != nil {
			s.metrics.panics.Inc()
			s.log.ErrorContext(ctx, "stream panicked", "request_id", c.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("stream panicked")
		}
		if c.w.status = http.StatusOK; err != nil {
			s.logFailure(ctx, c, err)
			c.w.status = s.countRefusal(err)
		}
		s.record(ctx, c, "SSH", st.Path, p)
	}()
	st.In, st.Out = &streamReader{st.In, c}, &streamWriter{st.Out, c}
	p, ok := parseStreamPath(st.Path)
	return s.admitted(ctx, c, s.transfers, func(ctx context.Context) error {
		if !ok { // it is answered for as what is missing, when that would be
			p = gitPath{tenant: "-", name: "-"}
		}
		ctx = context.WithValue(ctx, callKey{}, c)
		switch st.Service {
		case ReceivePack:
			return s.receiveStream(ctx, c, p, st)
		case UploadArchive:
			c.op = usage.Archive
		case UploadPack:
			c.next = usage.Fetch
		}
		return s.sendStream(ctx, c, p, st)
	})
}

// parseStreamPath reads a path as git sends it: ssh://host/acme/api.git has a slash before it, host:acme/api.git has none.
func parseStreamPath(path string) (gitPath, bool) {
	if len(path) > maxPathBytes {
		return gitPath{}, false
	}
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	if n := len(path) - 1; n > 0 && path[n] == '/' {
		path = path[:n]
	}
	return splitRepoPath(path, "")
}

// sendStream serves those who fetch.
func (s *Server) sendStream(ctx context.Context, c *call, p gitPath, st Stream) error {
	cell, repo, err := s.gitCell(ctx, c, p)
	if err != nil {
		return err
	}
	defer cell.Release()
	c.body.limit = maxConversation
	if st.Service == UploadArchive {
		return protocol.UploadArchive(ctx, cell.View(), st.In, st.Out)
	}
	o := s.uploadOver(ctx, c, st.Version)
	o.MayFetch = func() error { return s.mayFetch(ctx, c, repo) }
	return cell.UploadPack(ctx, st.In, st.Out, o)
}

// mayFetch makes a conversation a fetch once objects are asked for, and counts each time that they are: over HTTP these are requests.
func (s *Server) mayFetch(ctx context.Context, c *call, repo control.Repo) error {
	if c.op == usage.Fetch {
		return s.rates.caller(c)
	}
	standing, err := s.control.Standing(ctx, repo.Tenant)
	if err != nil {
		return err
	}
	c.op = usage.Fetch
	return c.charge(s.mayUse(ctx, c, standing.Quotas))
}

// receiveStream serves those who push.
func (s *Server) receiveStream(ctx context.Context, c *call, p gitPath, st Stream) error {
	c.next = usage.Push
	r := &streamReceiver{server: s, call: c, path: p, seen: nothingYet()}
	defer r.release()
	repo, err := s.gitRepo(ctx, c, p, policy.RepoWrite)
	switch {
	case err == nil:
		if err := r.take(ctx, repo); err != nil {
			return err
		}
	case errkind.Of(err) == errkind.NotFound:
		if _, err := s.mayCreate(ctx, c.principal, p, err); err != nil {
			return err
		}
	default:
		return err
	}
	c.body.limit = s.opts.MaxPackBytes
	return protocol.ReceivePack(ctx, r, st.In, st.Out, s.receiveOver(ctx, c, p, st.Version))
}

// streamReceiver is the repository that a stream pushes to. Until the client says what it pushes, the repository need not be there.
type streamReceiver struct {
	server *Server
	call   *call
	path   gitPath

	repo   control.Repo
	cell   *router.Repo  // nil: it is not there yet
	seen   protocol.View // until it is
	writer protocol.Writer
	begun  bool
}

// View is what the client is told of.
func (r *streamReceiver) View() protocol.View {
	if r.cell == nil {
		return r.seen
	}
	return r.cell.View()
}

func (r *streamReceiver) take(ctx context.Context, repo control.Repo) (err error) {
	r.repo = repo
	if err := r.call.narrow(ctx, repo); err != nil {
		return err
	}
	r.cell, err = r.server.open(ctx, repo)
	return err
}

func (r *streamReceiver) release() {
	if r.cell != nil {
		r.cell.Release()
	}
}

// begin makes the conversation a push, and the repository if it is missing.
func (r *streamReceiver) begin(ctx context.Context) error {
	if r.begun {
		return nil
	}
	s, c := r.server, r.call
	c.op = usage.Push
	repo, err := s.gitRepoOrNew(ctx, c, r.path)
	switch {
	case err != nil:
		return err
	case r.cell == nil:
		err = r.take(ctx, repo)
	case repo.ID != r.repo.ID: // it was deleted, or renamed, and another has its name
		err = errMissing
	}
	if err != nil {
		return err
	}
	r.writer, err = s.writer(ctx, c.principal, r.repo)
	r.begun = err == nil
	return err
}

// Quarantine reads a push's pack, if it may be kept.
func (r *streamReceiver) Quarantine(ctx context.Context, in io.Reader, progress func(stage string, done, total int)) (*odb.Quarantine, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	if err := r.server.mayStore(ctx, r.repo.Tenant); err != nil {
		return nil, err
	}
	return r.cell.Quarantine(ctx, in, progress)
}

// Update moves references.
func (r *streamReceiver) Update(ctx context.Context, q *odb.Quarantine, updates []git.RefUpdate, opts protocol.UpdateOptions) ([]error, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	opts.Writer = r.writer
	return r.cell.Update(ctx, q, updates, opts)
}

// streamReader counts what comes.
type streamReader struct {
	r io.Reader
	c *call
}

func (s *streamReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.c.body.bytes += int64(n); s.c.body.limit > 0 && s.c.body.bytes > s.c.body.limit {
		return 0, denial{errkind.TooLarge, "this is more than the server accepts"}
	}
	return n, err //nolint:wrapcheck // io.EOF and the connection's errors, as a reader gives them
}

// streamWriter counts what goes. Several goroutines write, one at a time.
type streamWriter struct {
	w io.Writer
	c *call
}

func (s *streamWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.c.w.bytes += int64(n)
	return n, err //nolint:wrapcheck // the connection's errors
}
