package service

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// CheckSigned returns an Options.Check: what is signed must be just what is asked for, by a key of its actor. required refuses what is not signed.
// That a request counts once is for the document to see.
func CheckSigned(doc string, keys *sign.Registry, required bool, now func() time.Time) func(op *config.Op, asked *wire.Operation) error {
	return func(op *config.Op, asked *wire.Operation) error {
		if op.Signature == nil {
			if required {
				return fmt.Errorf("check signature: operations have to be signed here, with a key in keys.json: %w", errkind.Unauthorized)
			}
			return nil
		}
		signature, err := base64.StdEncoding.Strict().DecodeString(op.Signature.Sig)
		if err != nil {
			return fmt.Errorf("check signature: it is not base64: %w", errkind.Invalid)
		}
		body, err := sign.Verify(keys, sign.Signed{Body: []byte(op.Signature.Body), Signature: signature}, doc, now())
		if err != nil {
			return err
		}
		request, err := Request(asked)
		if err != nil {
			return err
		}
		want := body
		want.Request = *request
		text, err := sign.Encode(want)
		if err != nil {
			return err
		}
		if string(text) != op.Signature.Body || body.KeyID != op.Signature.Key || body.Actor.ID != op.Actor.ID || body.Actor.Class != op.Actor.Class {
			return fmt.Errorf("check signature: what was signed is another request, or another actor's: %w", errkind.Forbidden)
		}
		return nil
	}
}
