package sign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/skep-dev/skep/internal/errkind"
)

// MaxBodyBytes bounds a body: the largest value, with what is around it.
const MaxBodyBytes = 512 << 10

// Canonical brings JSON into the form of RFC 8785. It refuses what two readers could understand differently: keys that are there twice,
// halves of surrogate pairs, numbers that no double holds, and -0, which RFC 8785 would make 0.
func Canonical(text []byte) ([]byte, error) {
	if len(text) > MaxBodyBytes {
		return nil, fmt.Errorf("canonical JSON: it has %d bytes, and %d are allowed: %w", len(text), MaxBodyBytes, errkind.TooLarge)
	}
	out, err := jcs.Transform(append([]byte{}, text...)) // Transform tells nil from empty
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w: %w", err, errkind.Invalid)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("canonical JSON: %w: %w", err, errkind.Invalid)
		}
		if n, ok := t.(json.Number); ok && negativeZero(n.String()) {
			return nil, fmt.Errorf("canonical JSON: %s is a zero with a sign: write 0: %w", clip(n.String()), errkind.Invalid)
		}
	}
}

func negativeZero(number string) bool {
	if !strings.HasPrefix(number, "-") {
		return false
	}
	f, err := strconv.ParseFloat(number, 64)
	return err == nil && f == 0
}

// clip keeps what was sent short enough for an error message.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
