package server

import (
	"bytes"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/usage"
)

// count notes what a request used, for those whose it was.
func (s *Server) count(c *call, took time.Duration) {
	if c.used.Tenant == "" {
		return
	}
	if c.op != usage.None {
		s.metrics.operations[c.op].Inc()
	}
	if s.opts.Meter == nil {
		return
	}
	for _, b := range c.owes {
		b.out.Add(c.w.bytes)
	}
	s.opts.Meter.Count(c.used, usage.Use{Op: c.op, In: c.body.bytes, Out: c.w.bytes, Took: took})
}

// charge makes a request that is refused with err no operation: what it took counts, and nothing else.
func (c *call) charge(err error) error {
	if err != nil {
		c.op = usage.None
	}
	return err
}

// operationOf says as what a call of the API counts.
func operationOf(r route, path string) usage.Kind {
	switch {
	case strings.HasSuffix(path, "/fetch"):
		return usage.Fetch
	case strings.HasSuffix(path, "/push"):
		return usage.Push
	case strings.HasSuffix(path, "/archive"):
		return usage.Archive
	case r == routeAPIWrite:
		return usage.APIWrite
	}
	return usage.APIRead
}

// listsRefs reports whether a request of upload-pack asks for references and for no objects, as each fetch does first
// (https://git-scm.com/docs/protocol-v2).
func listsRefs(early []byte) bool {
	const pktLength = 4
	return len(early) > pktLength && bytes.HasPrefix(early[pktLength:], []byte("command=ls-refs"))
}
