package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Problem is the server's explanation of a failure (RFC 9457). It wraps an errkind.
type Problem struct {
	Type   string          `json:"type"`
	Title  string          `json:"title"`
	Status int             `json:"status"`
	Detail string          `json:"detail"`
	Errors []ProblemDetail `json:"errors"`

	RequestID string `json:"-"` // for the server's log

	raw []byte // the answer, which may be something else
}

// ProblemDetail says what is wrong with one part of a request.
type ProblemDetail struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if text == "" {
		text = fmt.Sprintf("the server answered %d", p.Status)
	}
	for i, d := range p.Errors {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		text += sep + d.Message
		if d.Location != "" {
			text += " (" + d.Location + ")"
		}
	}
	return text
}

// problemType is what a problem's type starts with; the rest is the kind's text, with dashes.
const problemType = "urn:skep:problem:"

// ProblemType is the type under which the server explains a failure of kind k.
func ProblemType(k errkind.Kind) string {
	return problemType + strings.ReplaceAll(k.Error(), " ", "-")
}

// Unwrap returns the errkind that the server meant.
func (p *Problem) Unwrap() error {
	for k := errkind.Internal; k <= errkind.Unsupported; k++ {
		if p.Type == ProblemType(k) {
			return k
		}
	}
	return KindOf(p.Status)
}

// KindOf is the kind of an answer that says no more than its status: a proxy's, or that of the API's own validation.
func KindOf(status int) errkind.Kind {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType, http.StatusRequestTimeout:
		return errkind.Invalid
	case http.StatusUnauthorized:
		return errkind.Unauthorized
	case http.StatusForbidden:
		return errkind.Forbidden
	case http.StatusNotFound:
		return errkind.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return errkind.Conflict
	case http.StatusRequestEntityTooLarge:
		return errkind.TooLarge
	case http.StatusTooManyRequests:
		return errkind.RateLimited
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return errkind.Unavailable
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return errkind.Unsupported
	}
	return errkind.Internal
}

// readProblem makes a Problem of an answer that is not 2xx, whatever wrote it.
func readProblem(resp *http.Response) error {
	const most = 64 << 10 // of an explanation; the rest is of no use
	p := &Problem{}
	b, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil || json.Unmarshal(b, p) != nil {
		*p = Problem{}
	}
	p.raw = b
	p.Status, p.RequestID = resp.StatusCode, resp.Header.Get("X-Request-Id")
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	return p
}
