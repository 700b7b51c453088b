package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Certificate lets in client certificates that have a name, as a principal.
type Certificate struct {
	ID           id.Certificate `json:"id" example:"crt_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Kind         string         `json:"kind" enum:"cn,dns,email,uri,fingerprint"`
	Value        string         `json:"value" example:"spiffe://example.org/ci"`
	Principal    id.Principal   `json:"principal"`
	Scope        policy.Scope   `json:"scope" enum:"read,write,admin"`
	CreatedAt    time.Time      `json:"created_at"`
	LastUsedAt   *time.Time     `json:"last_used_at,omitempty" doc:"To the minute. Missing: never yet"`
	LastUsedFrom string         `json:"last_used_from,omitempty" doc:"An address"`
}

// CreateCertificate lets client certificates in.
type CreateCertificate struct {
	Principal string       `json:"principal" minLength:"1" maxLength:"200" doc:"ID or name: as whom"`
	Kind      string       `json:"kind" enum:"cn,dns,email,uri,fingerprint" doc:"By what: the subject's common name, a subject alternative name, or the SHA-256 of the certificate in hexadecimal digits"`
	Value     string       `json:"value" minLength:"1" maxLength:"500" example:"spiffe://example.org/ci"`
	Scope     policy.Scope `json:"scope,omitempty" enum:"read,write,admin" default:"write" doc:"What it lets its principal do"`
}

// CreateCertificate lets client certificates with a name in.
func (c *Client) CreateCertificate(ctx context.Context, r CreateCertificate) (Certificate, error) {
	return send[Certificate](ctx, c, http.MethodPost, "/certificates", r)
}

// Certificates lists which client certificates are let in.
func (c *Client) Certificates(ctx context.Context, cursor string, limit int) (Page[Certificate], error) {
	return get[Page[Certificate]](ctx, c, "/certificates", paging(cursor, limit))
}

// RemoveCertificate lets client certificates with a name in no longer.
func (c *Client) RemoveCertificate(ctx context.Context, r id.Certificate) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/certificates/" + segment(string(r))}, nil)
}
