package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/skep-dev/skep/internal/errkind"
)

// Limits on a set of keys.
const (
	MaxKeySetBytes = 64 << 10 // what the largest public issuers publish has some 10 KiB
	maxKeys        = 50       // several at a time for each of a few algorithms
	maxKeyIDBytes  = 200
	minRSABits     = 2048 // RFC 7518 section 3.3
	maxRSABits     = 4096 // more takes milliseconds for each check
)

// algorithms are the ones that count: each fixes the type of its keys. HMAC is not among them, since who checks it could sign.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA}

// Keys are the public keys by which an issuer's tokens are checked. The zero Keys has none.
type Keys struct{ list []key }

// key is a public key and the one algorithm that it is for.
type key struct {
	id     string
	alg    jose.SignatureAlgorithm
	public any
}

// ParseKeys reads a JWK set (RFC 7517). Keys for encryption and of other algorithms are passed over, as issuers may publish such
// for others; a secret key is refused with all the set, since nobody should have sent it.
func ParseKeys(text []byte) (Keys, error) {
	if len(text) > MaxKeySetBytes {
		return Keys{}, fmt.Errorf("set of keys has more than %d bytes: %w", MaxKeySetBytes, errkind.TooLarge)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return Keys{}, fmt.Errorf("set of keys is no JSON object with a list \"keys\": %w", errkind.Invalid)
	}
	if len(set.Keys) > maxKeys {
		return Keys{}, fmt.Errorf("set of keys has more than %d: %w", maxKeys, errkind.TooLarge)
	}
	var out Keys
	for i, raw := range set.Keys {
		k, ok, err := parseKey(raw)
		switch {
		case err != nil:
			return Keys{}, fmt.Errorf("key %d of the set %w", i+1, err)
		case !ok:
			continue
		case out.find(k.id, k.alg) != nil:
			return Keys{}, fmt.Errorf("key %d of the set is the second %s key with the kid %q: %w", i+1, k.alg, k.id, errkind.Invalid)
		}
		out.list = append(out.list, k)
	}
	if len(out.list) == 0 {
		return Keys{}, fmt.Errorf("set of keys has none for ES256, RS256 (%d to %d bits) or EdDSA (Ed25519): %w", minRSABits, maxRSABits, errkind.Invalid)
	}
	return out, nil
}

// parseKey reads one key, or passes it over. The type of the key says for which algorithm it is, never a token.
func parseKey(raw []byte) (k key, ok bool, err error) {
	var head struct {
		Kty string   `json:"kty"`
		Use string   `json:"use"`
		Ops []string `json:"key_ops"`
		Alg string   `json:"alg"`
		Kid string   `json:"kid"`
		D   *string  `json:"d"`
		K   *string  `json:"k"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return key{}, false, fmt.Errorf("is no JWK: %w", errkind.Invalid)
	}
	switch {
	case head.D != nil || head.K != nil || head.Kty == "oct":
		return key{}, false, fmt.Errorf("is secret: send the public ones only, and make a new one in its place: %w", errkind.Invalid)
	case head.Kty != "EC" && head.Kty != "RSA" && head.Kty != "OKP", head.Use != "" && head.Use != "sig", len(head.Ops) > 0 && !slices.Contains(head.Ops, "verify"):
		return key{}, false, nil
	case len(head.Kid) > maxKeyIDBytes:
		return key{}, false, fmt.Errorf("has a kid over %d bytes: %w", maxKeyIDBytes, errkind.Invalid)
	}
	var parsed jose.JSONWebKey
	if err := json.Unmarshal(raw, &parsed); err != nil || !parsed.Valid() || !parsed.IsPublic() {
		return key{}, false, nil //nolint:nilerr // a curve or type that we do not use may be unknown to the library as well
	}
	k = key{id: head.Kid, public: parsed.Key}
	switch public := parsed.Key.(type) {
	case *ecdsa.PublicKey:
		k.alg, ok = jose.ES256, public.Curve == elliptic.P256()
	case *rsa.PublicKey:
		k.alg, ok = jose.RS256, public.N.BitLen() >= minRSABits && public.N.BitLen() <= maxRSABits && public.E >= 3
	case ed25519.PublicKey:
		k.alg, ok = jose.EdDSA, len(public) == ed25519.PublicKeySize
	}
	return k, ok && (head.Alg == "" || head.Alg == string(k.alg)), nil
}

// find returns the key with an identifier for an algorithm, or nil.
func (k Keys) find(id string, alg jose.SignatureAlgorithm) *key {
	for i := range k.list {
		if k.list[i].id == id && k.list[i].alg == alg {
			return &k.list[i]
		}
	}
	return nil
}

// choose returns the key that a token names. A token that names none means the only one for its algorithm.
func (k Keys) choose(id string, alg jose.SignatureAlgorithm) *key {
	if id != "" {
		return k.find(id, alg)
	}
	var only *key
	for i := range k.list {
		if k.list[i].alg == alg {
			if only != nil {
				return nil
			}
			only = &k.list[i]
		}
	}
	return only
}

// Names lists the keys for people: algorithm and kid.
func (k Keys) Names() []string {
	names := make([]string, len(k.list))
	for i, one := range k.list {
		names[i] = string(one.alg) + " " + one.id
	}
	return names
}

// Equal reports whether two sets have the same keys, in whatever order.
func (k Keys) Equal(other Keys) bool {
	if len(k.list) != len(other.list) {
		return false
	}
	for _, one := range k.list {
		same := other.find(one.id, one.alg)
		public, ok := one.public.(interface{ Equal(x crypto.PublicKey) bool })
		if same == nil || !ok || !public.Equal(same.public) {
			return false
		}
	}
	return true
}
