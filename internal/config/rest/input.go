package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/errkind"
)

// Payload is a request's body as it came, decoded by us: a misspelt name must not be passed over, since what was meant for one environment
// would go to another.
type Payload struct {
	ContentType string `header:"Content-Type"`
	RawBody     []byte `contentType:"application/json"`
}

func (p *Payload) raw() *Payload { return p }

// maxDepth is how deep values are nested in a request, to which those of fields add.
const maxDepth = 64

// decode reads the body into v.
func (p *Payload) decode(v any) error {
	if t, _, err := mime.ParseMediaType(p.ContentType); err != nil || t != "application/json" && !strings.HasSuffix(t, "+json") {
		return notJSON(p.ContentType)
	}
	if len(bytes.TrimSpace(p.RawBody)) == 0 {
		return problemError{errkind.Invalid, "the body is empty, and should be JSON"}
	}
	if deep(p.RawBody) {
		return problemError{errkind.Invalid, fmt.Sprintf("the body is nested deeper than %d", maxDepth)}
	}
	d := json.NewDecoder(bytes.NewReader(p.RawBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", plainly(err), errkind.Invalid)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return problemError{errkind.Invalid, "after the body's JSON there is more"}
	}
	return nil
}

func deep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// plainly says what encoding/json means, without its names of Go's types.
func plainly(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("the body's %q is a %s, which it should not be", e.Field, e.Value)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("the body is not JSON: at byte %d: %s", e.Offset, e)
	}
	return "the body: " + strings.TrimPrefix(err.Error(), "json: ")
}

// handleBody declares an operation whose body is a B.
func handleBody[B, I, O any, P interface {
	*I
	raw() *Payload
}](a *routes, o huma.Operation, h func(ctx context.Context, c *Caller, in *I, b *B) (*O, error)) {
	handle(a, o, func(ctx context.Context, c *Caller, in *I) (*O, error) {
		b := new(B)
		if err := P(in).raw().decode(b); err != nil {
			return nil, err
		}
		return h(ctx, c, in, b)
	})
	// What huma says of a body that it does not read is that it is bytes.
	item := a.OpenAPI().Paths[o.Path]
	for _, declared := range []*huma.Operation{item.Post, item.Put} {
		if declared != nil && declared.OperationID == o.OperationID {
			declared.RequestBody.Content["application/json"].Schema = a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[B](), true, "")
		}
	}
}
