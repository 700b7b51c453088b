package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Issuer is somebody whose signed tokens (JWTs) count in a tenant, and in those below it.
type Issuer struct {
	ID            id.Issuer       `json:"id" example:"iss_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Name          string          `json:"name" example:"platform"`
	FullName      string          `json:"full_name" example:"acme/platform" doc:"Principals of its own are named FULL_NAME:SUB"`
	Iss           string          `json:"iss" example:"https://platform.example.org"`
	Audience      string          `json:"audience" example:"https://git.example.com"`
	Role          policy.Role     `json:"role" enum:"guest,reader,writer,owner" doc:"The most that its tokens give in the tenant"`
	Listed        bool            `json:"listed" doc:"It speaks for its subjects only; otherwise any sub is a principal of its own"`
	JWKSURL       string          `json:"jwks_url,omitempty" doc:"Where its keys are; missing when they were sent"`
	Keys          []string        `json:"keys" example:"[\"ES256 2026-11\"]" doc:"Algorithm and kid of each"`
	KeysFetchedAt time.Time       `json:"keys_fetched_at"`
	Subjects      []IssuerSubject `json:"subjects,omitempty" doc:"Not in lists"`
	CreatedAt     time.Time       `json:"created_at"`
	LastUsedAt    *time.Time      `json:"last_used_at,omitempty" doc:"When one of its tokens was used last, to the minute. Missing: never yet"`
}

// IssuerSubject is a sub that means a principal.
type IssuerSubject struct {
	Subject   string    `json:"subject" example:"repo:acme/api:ref:refs/heads/main"`
	Principal Principal `json:"principal"`
}

// CreateIssuer asks for a tenant's trust in an issuer. It has either JWKS or JWKSURL.
type CreateIssuer struct {
	Name     string         `json:"name" minLength:"1" maxLength:"100" example:"platform"`
	Iss      string         `json:"iss" minLength:"1" maxLength:"500" example:"https://platform.example.org" doc:"The iss claim of its tokens"`
	Audience string         `json:"audience,omitempty" maxLength:"500" doc:"The aud claim that its tokens must have. Default: the server's public address, if its operator has set one"`
	Role     policy.Role    `json:"role,omitempty" enum:"guest,reader,writer,owner" default:"writer" doc:"The most that its tokens give in the tenant"`
	Listed   bool           `json:"listed,omitempty" doc:"It speaks for the subjects only that are mapped to principals"`
	JWKS     map[string]any `json:"jwks,omitempty" doc:"Its public keys, as a JWK set (RFC 7517) for ES256, RS256 or EdDSA"`
	JWKSURL  string         `json:"jwks_url,omitempty" maxLength:"2000" example:"https://platform.example.org/jwks.json" doc:"Or where that set is"`
}

// SetIssuerKeys replaces an issuer's keys.
type SetIssuerKeys struct {
	JWKS map[string]any `json:"jwks,omitempty" doc:"The new set. Missing: it is fetched again from the issuer's jwks_url"`
}

// MapSubject says which principal a sub means.
type MapSubject struct {
	Principal string `json:"principal" minLength:"1" maxLength:"200" doc:"ID or name: you yourself; another one only if you administer the server"`
}

func issuerPath(tenant, issuer string) string {
	return "/tenants/" + segment(tenant) + "/issuers/" + segment(issuer)
}

// CreateIssuer makes a tenant trust an issuer.
func (c *Client) CreateIssuer(ctx context.Context, tenant string, i CreateIssuer) (Issuer, error) {
	return send[Issuer](ctx, c, http.MethodPost, "/tenants/"+segment(tenant)+"/issuers", i)
}

// Issuers lists whom a tenant itself trusts.
func (c *Client) Issuers(ctx context.Context, tenant string) ([]Issuer, error) {
	p, err := get[Page[Issuer]](ctx, c, "/tenants/"+segment(tenant)+"/issuers", nil)
	return p.Items, err
}

// Issuer finds one of a tenant's issuers by its name, with its subjects.
func (c *Client) Issuer(ctx context.Context, tenant, issuer string) (Issuer, error) {
	return get[Issuer](ctx, c, issuerPath(tenant, issuer), nil)
}

// SetIssuerKeys replaces an issuer's keys.
func (c *Client) SetIssuerKeys(ctx context.Context, tenant, issuer string, k SetIssuerKeys) error {
	return c.do(ctx, call{method: http.MethodPut, path: issuerPath(tenant, issuer) + "/keys", in: k}, nil)
}

// MapSubject makes an issuer's sub mean a principal.
func (c *Client) MapSubject(ctx context.Context, tenant, issuer, subject, principal string) error {
	return c.do(ctx, call{method: http.MethodPut, path: issuerPath(tenant, issuer) + "/subjects/" + segment(subject), in: MapSubject{Principal: principal}}, nil)
}

// UnmapSubject makes an issuer's sub mean no principal any more.
func (c *Client) UnmapSubject(ctx context.Context, tenant, issuer, subject string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: issuerPath(tenant, issuer) + "/subjects/" + segment(subject)}, nil)
}

// RemoveIssuer makes a tenant trust an issuer no longer: its tokens are refused at once.
func (c *Client) RemoveIssuer(ctx context.Context, tenant, issuer string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: issuerPath(tenant, issuer)}, nil)
}
