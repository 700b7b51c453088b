package server

import "net/http"

// gitAnswer is the answer to git. Package protocol writes large pieces and says when to flush, so nothing is buffered
// here; what matters is whether anything has gone out: until then a failure can still have a status of its own.
type gitAnswer struct {
	c       *call
	started bool
}

// begin sets an answer's headers. Nothing goes out yet.
func (c *call) begin(contentType []string) *gitAnswer {
	h := c.w.Header()
	h["Content-Type"] = contentType
	h["Cache-Control"], h["Pragma"], h["Expires"] = noCache, pragma, longAgo
	return &gitAnswer{c: c}
}

// Write sends p.
func (a *gitAnswer) Write(p []byte) (int, error) {
	a.started = true
	return a.c.w.Write(p)
}

// Flush is called when a person may be waiting.
func (a *gitAnswer) Flush() {
	if a.started {
		a.c.w.Flush()
	}
}

// finish ends the answer. An err that came before anything went out is handed back for a status of its own; a later one
// was told in-band.
func (a *gitAnswer) finish(err error) error {
	if err == nil && !a.started {
		a.c.w.WriteHeader(http.StatusOK)
	}
	return err
}
