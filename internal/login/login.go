// Package login finds out from an OpenID Connect provider who somebody with a browser is.
//
//	p, err := login.New(login.Config{ID: "corp", Issuer: "https://id.example.org", ClientID: "skep", ClientSecret: secret}, outbound.HTTP())
//	to, ticket, err := p.Begin(ctx, "https://git.example.org/login/callback/corp") // send the browser there; keep the ticket in a cookie
//	who, err := p.Finish(ctx, ticket, callback, r.URL.Query())                // when it comes back
//
// It is the authorisation code flow with PKCE (RFC 7636, S256), state and nonce (OpenID Connect Core 1.0 section 3.1, RFC 9700). All
// three are in the ticket, which the browser that began keeps: an answer that comes through another browser, twice, for another
// login or from another provider is refused.
package login

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/skep-dev/skep/internal/errkind"
)

// discoveryLife is how long what a provider says of itself is taken for true.
const discoveryLife = time.Hour

// maxAnswer bounds what a browser brings back from a provider: codes have some hundred bytes.
const maxAnswer = 4 << 10

// Config is a provider as the operator names it.
type Config struct {
	ID           string // in the callback's address: lower-case letters, digits and dashes
	Issuer       string // its URL, exactly as it calls itself
	ClientID     string // what it calls this server
	ClientSecret string // what this server shows it; "": a public client, which PKCE alone protects
	Name         string // for people; "": the issuer's host
	Create       bool   // whoever it knows becomes a principal, without rights; else only who is linked with one may log in
}

func (c Config) check() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("issuer %q is not a URL like https://id.example.org: %w", c.Issuer, errkind.Invalid)
	case !validID(c.ID):
		return fmt.Errorf("provider %q: its id is not of lower-case letters, digits and dashes, 40 at most: %w", c.ID, errkind.Invalid)
	case c.ClientID == "":
		return fmt.Errorf("issuer %s has no client ID: %w", c.Issuer, errkind.Invalid)
	}
	return nil
}

// Provider is one OpenID Connect provider. It is safe for concurrent use.
type Provider struct {
	config Config
	http   *http.Client
	asking singleflight.Group
	known  atomic.Pointer[discovery]
}

type discovery struct {
	provider *oidc.Provider
	at       time.Time
}

// New makes a provider, which is asked with client. It need not answer yet.
func New(c Config, client *http.Client) (*Provider, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Name == "" {
		u, _ := url.Parse(c.Issuer) // check has
		c.Name = u.Host
	}
	return &Provider{config: c, http: client}, nil
}

// ID is the provider's place in addresses.
func (p *Provider) ID() string { return p.config.ID }

// Create reports whether whoever the provider knows becomes a principal.
func (p *Provider) Create() bool { return p.config.Create }

// Name is what people know the provider by.
func (p *Provider) Name() string { return p.config.Name }

// Issuer is who the provider says that it is.
func (p *Provider) Issuer() string { return p.config.Issuer }

// Ticket is what a browser must show when it comes back.
type Ticket struct {
	State    string `json:"s"` // the provider gives it back: it ties the answer to this browser
	Nonce    string `json:"n"` // in what the provider signs: it ties the signature to this login
	Verifier string `json:"v"` // RFC 7636: who has the code alone has nothing
}

// Person is somebody whom the provider knows.
type Person struct {
	Issuer  string
	Subject string // of all names, the only one that stays theirs
	Name    string // a name for a new principal; "": it has none that could be taken
}

// Begin returns where the browser is to be sent, and what it must keep.
func (p *Provider) Begin(ctx context.Context, callback string) (to string, t Ticket, err error) {
	at, err := p.discover(ctx)
	if err != nil {
		return "", Ticket{}, err
	}
	t = Ticket{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()}
	return p.oauth(at, callback).AuthCodeURL(t.State, oidc.Nonce(t.Nonce), oauth2.S256ChallengeOption(t.Verifier)), t, nil
}

func (p *Provider) oauth(at *oidc.Provider, callback string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Endpoint: at.Endpoint(), RedirectURL: callback,
		Scopes: []string{oidc.ScopeOpenID, "profile", "email"},
	}
}

// Finish takes what a browser brings back. What is wrong with that is errkind.Invalid; that the provider refused,
// errkind.Forbidden; that it does not answer, errkind.Unavailable.
func (p *Provider) Finish(ctx context.Context, t Ticket, callback string, answer url.Values) (Person, error) {
	if t.State == "" || subtle.ConstantTimeCompare([]byte(t.State), []byte(answer.Get("state"))) != 1 {
		return Person{}, fmt.Errorf("the answer is to no login that this browser began: %w", errkind.Invalid)
	}
	if iss := answer.Get("iss"); iss != "" && iss != p.config.Issuer { // RFC 9207
		return Person{}, fmt.Errorf("the answer is another provider's: %w", errkind.Invalid)
	}
	if e := answer.Get("error"); e != "" {
		return Person{}, fmt.Errorf("the provider refused: %s: %w", word(e), errkind.Forbidden)
	}
	code := answer.Get("code")
	if code == "" || len(code) > maxAnswer {
		return Person{}, fmt.Errorf("the answer has no code: %w", errkind.Invalid)
	}
	at, err := p.discover(ctx)
	if err != nil {
		return Person{}, err
	}
	ctx = oidc.ClientContext(ctx, p.http)
	token, err := p.oauth(at, callback).Exchange(ctx, code, oauth2.VerifierOption(t.Verifier))
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok && e.Response != nil && e.Response.StatusCode < 500 {
		return Person{}, fmt.Errorf("the provider does not take the code: %s: %w", word(e.ErrorCode), errkind.Forbidden)
	}
	if err != nil {
		return Person{}, fmt.Errorf("the provider gives no token: %w", errkind.Unavailable) // err may quote the answer
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return Person{}, fmt.Errorf("the provider's answer has no ID token: %w", errkind.Forbidden)
	}
	return p.verify(ctx, at, raw, t.Nonce)
}

// verify looks at what the provider signed. go-oidc checks signature, algorithm, issuer, audience and expiry.
func (p *Provider) verify(ctx context.Context, at *oidc.Provider, raw, nonce string) (Person, error) {
	signed, err := at.Verifier(&oidc.Config{ClientID: p.config.ClientID}).Verify(ctx, raw)
	if err != nil {
		return Person{}, fmt.Errorf("the ID token is not good: %s: %w", err.Error(), errkind.Forbidden)
	}
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(signed.Nonce)) != 1 {
		return Person{}, fmt.Errorf("the ID token is of another login: %w", errkind.Forbidden)
	}
	var claims struct {
		Username string `json:"preferred_username"`
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	if err := signed.Claims(&claims); err != nil {
		return Person{}, fmt.Errorf("read the ID token: %w", errkind.Forbidden)
	}
	who := Person{Issuer: signed.Issuer, Subject: signed.Subject, Name: claims.Username}
	if who.Name == "" && claims.Verified {
		who.Name = claims.Email
	}
	return who, nil
}

// discover finds out what the provider says of itself. Requests that come together ask once.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	if known := p.known.Load(); known != nil && time.Since(known.at) < discoveryLife {
		return known.provider, nil
	}
	// The request goes on when the browser that caused it goes away: others wait for it. The client has its time limit.
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), p.http)
	found, err, _ := p.asking.Do("", func() (any, error) {
		at := time.Now()
		provider, err := oidc.NewProvider(ctx, p.config.Issuer)
		if err != nil {
			return nil, err
		}
		p.known.Store(&discovery{provider, at})
		return provider, nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask provider %s: %s: %w", p.config.Issuer, err.Error(), errkind.Unavailable) // whatever kind err has
	}
	provider, ok := found.(*oidc.Provider)
	if !ok {
		panic("bug: another type of provider")
	}
	return provider, nil
}

// word makes of a provider's error code, which came through a browser, something that can be shown.
func word(s string) string {
	const most = 60
	if s == "" || len(s) > most || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return "no reason that could be shown"
	}
	return s
}

// LocalPath returns to if it is a path on this server and else "/": a login must not end on somebody else's page. Browsers take
// //host, /\host and what has control characters in it for more than a path.
func LocalPath(to string) string {
	const most = 500
	u, err := url.Parse(to)
	switch {
	case err != nil, len(to) > most, u.IsAbs(), u.Host != "", u.User != nil, u.Opaque != "":
		return "/"
	case !strings.HasPrefix(to, "/"), strings.HasPrefix(to, "//"), strings.Contains(to, `\`), strings.HasPrefix(u.Path, "//"):
		return "/"
	}
	for i := range len(to) {
		if to[i] <= ' ' || to[i] >= 0x7f {
			return "/"
		}
	}
	return to
}
