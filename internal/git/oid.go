package git

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/skep-dev/skep/internal/errkind"
)

// OIDSize is the length of an object ID in bytes. Skep speaks the sha1 object format.
const OIDSize = 20

// OID is an object's ID: the SHA-1 of its header and content. The zero OID names no object; in a ref update it stands
// for "does not exist".
type OID [OIDSize]byte

// ZeroOID names no object.
var ZeroOID OID

// ParseOID reads 40 hexadecimal digits, in lower case as git writes them.
func ParseOID[T string | []byte](s T) (OID, error) {
	var o OID
	if len(s) != 2*OIDSize {
		return o, fmt.Errorf("object ID %q has %d digits, not %d: %w", clip(s), len(s), 2*OIDSize, errkind.Invalid)
	}
	for i := range o {
		hi, lo := hexDigit(s[2*i]), hexDigit(s[2*i+1])
		if hi > 15 || lo > 15 {
			return OID{}, fmt.Errorf("object ID %q is not hexadecimal: %w", clip(s), errkind.Invalid)
		}
		o[i] = hi<<4 | lo
	}
	return o, nil
}

// MustParseOID is ParseOID for constants.
func MustParseOID(s string) OID {
	o, err := ParseOID(s)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return o
}

// String returns the 40 hexadecimal digits.
func (o OID) String() string { return hex.EncodeToString(o[:]) }

// AppendHex appends the 40 hexadecimal digits to b.
func (o OID) AppendHex(b []byte) []byte { return hex.AppendEncode(b, o[:]) }

// IsZero reports whether o names no object.
func (o OID) IsZero() bool { return o == OID{} }

// Compare orders object IDs by their bytes, as pack indexes do.
func (o OID) Compare(p OID) int { return bytes.Compare(o[:], p[:]) }

// MarshalText writes the hexadecimal form, for JSON.
func (o OID) MarshalText() ([]byte, error) { return o.AppendHex(nil), nil }

// UnmarshalText reads the hexadecimal form.
func (o *OID) UnmarshalText(b []byte) (err error) {
	*o, err = ParseOID(b)
	return err
}

func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// clip keeps what a peer sent short enough for an error message.
func clip[T string | []byte](s T) string {
	const most = 80
	if len(s) > most {
		return string(s[:most]) + "…"
	}
	return string(s)
}
