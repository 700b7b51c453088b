package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/usage"
)

// maxUploadRequest bounds a fetch's request, inflated. Package protocol has the same bound and reasons; this one ends the
// reading of what is beyond.
const maxUploadRequest = 33 << 20

var errContentType = denial{errkind.Invalid, "this is not a request of git's smart HTTP protocol: wrong Content-Type"}

// checkPost checks what must hold of a service's request before anything is read of it. It answers when it does not.
func (s *Server) checkPost(c *call, r *http.Request, service string) bool {
	switch {
	case r.Method != http.MethodPost:
		c.w.Header()["Allow"] = onlyPosts
		s.text(c, http.StatusMethodNotAllowed, service+" is called with POST")
	case r.Header.Get("Content-Type") != "application/x-"+service+"-request":
		s.text(c, http.StatusUnsupportedMediaType, errContentType.text)
	default:
		switch r.Header.Get("Content-Encoding") {
		case "", "identity", "gzip", "x-gzip":
			return true
		}
		s.text(c, http.StatusUnsupportedMediaType, "requests may be compressed with gzip only")
	}
	return false
}

func (s *Server) serveUploadPack(c *call, r *http.Request, p gitPath) {
	if !s.checkPost(c, r, uploadPack) {
		return
	}
	c.body.ahead()
	if !listsRefs(c.body.early) {
		c.op = usage.Fetch
	}
	err := s.enter(c, r, s.transfers, func(ctx context.Context) error {
		cell, _, err := s.gitCell(ctx, c, p)
		if err != nil {
			return err
		}
		defer cell.Release()
		in, err := openBody(c, r, maxUploadRequest)
		if err != nil {
			return err
		}
		defer in.giveBack()
		out := c.begin(uploadResult)
		return out.finish(cell.UploadPack(ctx, in, out, s.uploadOptions(c, r)))
	})
	if err != nil {
		s.refuse(c, r, err)
	}
}

func (s *Server) serveReceivePack(c *call, r *http.Request, p gitPath) {
	if !s.checkPost(c, r, receivePack) {
		return
	}
	err := s.enter(c, r, s.transfers, func(ctx context.Context) error { return s.receivePack(ctx, c, r, p) })
	if err != nil {
		s.refuse(c, r, err)
	}
}

func (s *Server) receivePack(ctx context.Context, c *call, r *http.Request, p gitPath) error {
	if c.principal.Anonymous() {
		return errAnonymous
	}
	in, err := openBody(c, r, s.opts.MaxPackBytes)
	if err != nil {
		return err
	}
	defer in.giveBack()
	probe, err := startsPush(in)
	if err != nil {
		return err
	}
	if probe {
		// Before a big push git sends a request that asks for nothing, to see whether it is let in.
		return s.answerProbe(c, r, p)
	}
	c.op = usage.Push
	repo, err := s.gitRepoOrNew(ctx, c, p)
	if err != nil {
		return err
	}
	w, err := s.writer(context.WithValue(ctx, callKey{}, c), c.principal, repo)
	if err != nil {
		return err
	}
	if err := c.narrow(ctx, repo); err != nil {
		return err
	}
	cell, err := s.open(ctx, repo)
	if err != nil {
		return err
	}
	defer cell.Release()

	// Progress goes out while the pack still comes in. Without full duplex net/http would throw away what it has not read
	// of the request when the first byte of the answer leaves.
	if err := http.NewResponseController(&c.w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	out := c.begin(receiveResult)
	opts := s.receiveOptions(c, r, w)
	opts.MayStore = func() error { return s.mayStore(ctx, repo.Tenant) }
	return out.finish(cell.ReceivePack(ctx, in, out, opts))
}

// startsPush looks at a push's first bytes: is it a probe, or the length of a pkt-line? Anything else must not create a
// repository.
func startsPush(in *gitBody) (probe bool, err error) {
	b, err := in.Peek(4)
	if err != nil {
		return false, denial{errkind.Invalid, "the request ends before its first line"}
	}
	for _, d := range b {
		if (d < '0' || d > '9') && (d < 'a' || d > 'f') && (d < 'A' || d > 'F') {
			return false, denial{errkind.Invalid, "the request does not start with a pkt-line"}
		}
	}
	if string(b) != "0000" {
		return false, nil
	}
	_, err = in.Peek(5)
	return err != nil, nil
}

func (s *Server) answerProbe(c *call, r *http.Request, p gitPath) error {
	_, err := s.gitRepo(r.Context(), c, p, policy.RepoWrite)
	if err != nil && errkind.Of(err) == errkind.NotFound {
		_, err = s.mayCreate(r.Context(), c.principal, p, err)
	}
	if err != nil {
		return err
	}
	return c.begin(receiveResult).finish(nil)
}

// gitBody is a request's body: inflated, bounded, buffered.
type gitBody struct {
	*bufio.Reader
	gz *gzip.Reader
}

var (
	bodyBuffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 16<<10) }}
	inflaters   = sync.Pool{New: func() any { return new(gzip.Reader) }}
)

// openBody bounds the body twice: as it comes, and inflated.
func openBody(c *call, r *http.Request, limit int64) (*gitBody, error) {
	c.body.limit = limit
	if r.ContentLength > limit {
		return nil, denial{errkind.TooLarge, "the request is larger than this server accepts"}
	}
	b := &gitBody{}
	var src io.Reader = r.Body
	if enc := r.Header["Content-Encoding"]; len(enc) > 0 && enc[0] != "identity" && enc[0] != "" {
		b.gz = inflaters.Get().(*gzip.Reader) //nolint:errcheck,forcetypeassert // the pool's New makes no other
		if err := b.gz.Reset(r.Body); err != nil {
			return nil, denial{errkind.Invalid, "the request is not compressed as its Content-Encoding says"}
		}
		b.gz.Multistream(false)
		src = &boundedReader{r: b.gz, left: limit}
	}
	b.Reader = bodyBuffers.Get().(*bufio.Reader) //nolint:errcheck,forcetypeassert // the pool's New makes no other
	b.Reset(src)
	return b, nil
}

// giveBack gives the buffers back. The body itself is net/http's.
func (b *gitBody) giveBack() {
	b.Reset(nil)
	bodyBuffers.Put(b.Reader)
	if b.gz != nil {
		inflaters.Put(b.gz)
	}
	*b = gitBody{}
}

// boundedReader fails, rather than ends, past its limit.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, denial{errkind.TooLarge, "the request is larger than this server accepts"}
	}
	return n, err
}
