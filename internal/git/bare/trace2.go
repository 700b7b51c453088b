package bare

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/skep-dev/skep/internal/git/protocol"
)

// events write what git's programs tell of a conversation to GIT_TRACE2_EVENT (api-trace2): who the other side is, and which version of the
// protocol is spoken.
type events struct {
	path    string // "" when nobody listens
	session string
}

// newEvents names this process as git does: when it began, and which it is.
func newEvents() events {
	e := events{session: fmt.Sprintf("%s-P%08x", time.Now().UTC().Format("20060102T150405.000000Z"), os.Getpid())}
	if parent := os.Getenv("GIT_TRACE2_PARENT_SID"); parent != "" {
		e.session = parent + "/" + e.session
	}
	if path := os.Getenv("GIT_TRACE2_EVENT"); filepath.IsAbs(path) {
		e.path = path
	}
	return e
}

// data writes one event.
func (e events) data(key, value string) {
	if e.path == "" {
		return
	}
	line, err := json.Marshal(struct {
		Event    string `json:"event"`
		SID      string `json:"sid"`
		Thread   string `json:"thread"`
		Time     string `json:"time"`
		Nesting  int    `json:"nesting"`
		Category string `json:"category"`
		Key      string `json:"key"`
		Value    string `json:"value"`
	}{"data", e.session, "main", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), 1, "transfer", key, value})
	if err != nil {
		return
	}
	f, err := os.OpenFile(e.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666) //nolint:gosec // the user names it
	if err != nil {
		return
	}
	_, _ = f.Write(append(line, '\n')) // a trace that fails is no failure
	_ = f.Close()
}

// version tells which version is spoken.
func (e events) version(v protocol.Version) { e.data("negotiated-version", strconv.Itoa(int(v))) }

// said tells who the client says that it is.
func (e events) said(s protocol.Said) {
	if s.Session != "" {
		e.data("client-sid", s.Session)
	}
}
