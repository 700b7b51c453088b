package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// secretPrefix is that of a secret which is the base64 of its key.
const secretPrefix = "whsec_"

func checkSecret(secret string) error {
	if len(secret) < minSecret || len(secret) > maxSecret || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("secret: it has %d to %d printable characters of ASCII; without one a good one is made", minSecret, maxSecret)
	}
	if _, err := key(secret); err != nil {
		return err
	}
	return nil
}

// key returns what signatures of Standard Webhooks are made with.
func key(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return []byte(secret), nil
	}
	k, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("secret: what follows " + secretPrefix + " is not base64")
	}
	return k, nil
}

func sum(key []byte, parts ...string) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

// sign puts the signatures of a body into a request's header.
func sign(header http.Header, s *Subscription, id string, at time.Time, body string) error {
	k, err := key(s.Secret)
	if err != nil {
		return err
	}
	seconds := strconv.FormatInt(at.Unix(), 10)
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", seconds)
	header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(sum(k, id, ".", seconds, ".", body)))
	whole := "sha256=" + hex.EncodeToString(sum([]byte(s.Secret), body))
	header.Set("X-Conflux-Signature", whole)
	header.Set("X-Signature", whole) // Flux: Receiver of type generic-hmac
	if s.Format == GitHub {
		header.Set("X-Hub-Signature-256", whole)
		header.Set("X-GitHub-Event", "push")
		header.Set("X-GitHub-Delivery", id)
	}
	return nil
}

// maxAge is how old a request may be that Verify accepts, and how far in the future: as Standard Webhooks recommends.
const maxAge = 5 * time.Minute

// Verify checks the signature of Standard Webhooks of a request that somebody got.
func Verify(secret string, header http.Header, body []byte, now time.Time) error {
	k, err := key(secret)
	if err != nil {
		return err
	}
	id, seconds := header.Get("webhook-id"), header.Get("webhook-timestamp")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > maxAge {
		return errors.New("verify webhook: it has no time, or one that is too far from now")
	}
	want := sum(k, id, ".", seconds, ".", string(body))
	for part := range strings.FieldsSeq(header.Get("webhook-signature")) {
		text, ok := strings.CutPrefix(part, "v1,")
		if got, err := base64.StdEncoding.DecodeString(text); ok && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("verify webhook: no signature of it is right")
}
