// Package jwttest is an issuer of JSON Web Tokens for tests.
package jwttest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Key signs tokens.
type Key struct {
	ID      string
	Alg     jose.SignatureAlgorithm
	Private any
}

// NewKey makes a key for ES256, RS256 or EdDSA.
func NewKey(alg, kid string) (k Key, err error) {
	k = Key{ID: kid, Alg: jose.SignatureAlgorithm(alg)}
	switch k.Alg {
	case jose.ES256:
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.RS256:
		k.Private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.EdDSA:
		_, k.Private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no key for %s", alg)
	}
	return k, err
}

// Public is the key without its secret.
func (k Key) Public() jose.JSONWebKey {
	own := jose.JSONWebKey{Key: k.Private, KeyID: k.ID, Algorithm: string(k.Alg), Use: "sig"}
	return own.Public()
}

// Set is the JWK set of keys.
func Set(keys ...Key) []byte {
	var set jose.JSONWebKeySet
	for _, k := range keys {
		set.Keys = append(set.Keys, k.Public())
	}
	return encode(set)
}

// Claims are a token's.
type Claims = map[string]any

// Sign makes a token. headers come on top of alg, kid and typ.
func (k Key) Sign(claims Claims, headers ...Claims) (string, error) {
	opts := (&jose.SignerOptions{}).WithType("JWT")
	for _, h := range headers {
		for name, v := range h {
			opts.WithHeader(jose.HeaderKey(name), v)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.Alg, Key: jose.JSONWebKey{Key: k.Private, KeyID: k.ID}}, opts)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(encode(claims))
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return b
}
