package protocol

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/skep-dev/skep/internal/errkind"
)

// refusal is an error whose text is written for the client: it is said as it is.
type refusal struct {
	text  string
	kind  errkind.Kind
	cause error // may be nil
}

func (r *refusal) Error() string { return r.text }

// Unwrap gives the kind, and the cause where there is one.
func (r *refusal) Unwrap() []error {
	if r.cause == nil {
		return []error{r.kind}
	}
	return []error{r.kind, r.cause}
}

// refuse makes an error that the client is told word for word.
func refuse(kind errkind.Kind, format string, args ...any) error {
	return &refusal{text: fmt.Sprintf(format, args...), kind: kind}
}

// publicText is what a client may hear of an error: the text of one that wraps a kind, and nothing of one that wraps none.
// The kind's own words at its end are left out where they say no more than that there was a refusal.
func publicText(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return clip(r.text, maxReasonBytes)
	}
	text := err.Error()
	switch k := errkind.Of(err); k {
	case errkind.Internal:
		text = k.Error()
	case errkind.Invalid, errkind.Forbidden, errkind.Conflict, errkind.QuotaExceeded:
		text = strings.TrimSuffix(text, ": "+k.Error())
	case errkind.Unauthorized, errkind.NotFound, errkind.Exists, errkind.TooLarge, errkind.Unavailable, errkind.RateLimited,
		errkind.Unsupported:
	}
	return clip(text, maxReasonBytes)
}

// clip makes one printable line of at most limit bytes of what came from the other side, or goes there.
func clip[T string | []byte](s T, limit int) string {
	t := string(s)
	if len(t) > limit {
		t = strings.ToValidUTF8(t[:limit], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, t)
}
