package rest

import "github.com/skep-dev/skep/internal/config/wire"

// DecodeOperation reads an operation as a POST does.
func DecodeOperation(text []byte) ([]wire.Operation, error) {
	p := &Payload{ContentType: "application/json", RawBody: text}
	ops := make([]wire.Operation, 1)
	if err := p.decode(&ops[0]); err != nil {
		return nil, err
	}
	tellNulls(p, ops)
	return ops, nil
}

// VersionOf and Matches are what ETags go through.
var (
	VersionOf = versionOf
	Matches   = matches
)
