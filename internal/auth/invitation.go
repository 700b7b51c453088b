package auth

import (
	"crypto/rand"
	"encoding/base64"
)

// invitationPrefix is no token's: where tokens are taken, an invitation is refused without a look-up.
const invitationPrefix = "skep_inv_"

// NewInvitation makes an invitation's secret, of as many random bits as a token's. HashSecret is how it is looked up.
func NewInvitation() (secret string, h Hash) {
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	secret = invitationPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return secret, HashSecret(secret)
}
