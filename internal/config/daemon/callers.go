package daemon

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
)

// wrongCredentials is how many an address may present before it has to wait, with right ones too: keys cannot be guessed, and who tries
// should not keep the daemon busy.
var wrongCredentials = limit.Quota{Events: 60, Per: time.Minute}

// anonymous is the name in the log of who has none.
const anonymous = "anonymous"

// The headers in which callers name themselves, where they are believed.
const (
	headerActor      = "X-Conflux-Actor"
	headerActorShort = "X-Actor"
	headerClass      = "X-Conflux-Actor-Class"
	headerKey        = "X-Api-Key"
)

const maxActorBytes = 256

// failure is a failure in words for people.
type failure struct {
	kind errkind.Kind
	text string
}

func (f failure) Error() string { return f.text }

// Unwrap returns the kind.
func (f failure) Unwrap() error { return f.kind }

var (
	errNoCredential = failure{errkind.Unauthorized, "authentication required: send an API key as X-API-Key or Bearer token, or a client certificate, as the daemon's config.toml says"}
	errTwoActors    = failure{errkind.Unauthorized, "the API key and the client certificate are those of two actors: send one of them"}
	errTwoNames     = failure{errkind.Invalid, "X-Conflux-Actor and X-Actor name two actors: send one of them"}
	errTwoKeys      = failure{errkind.Invalid, "there are several API keys: send one"}
)

// tooManyGuesses is the refusal of an address that has presented too many wrong credentials.
type tooManyGuesses struct{ retry time.Duration }

func (e tooManyGuesses) Error() string {
	return fmt.Sprintf("too many wrong credentials from this address: try again in %s", e.retry.Round(time.Second))
}

// Unwrap returns the kind.
func (tooManyGuesses) Unwrap() error { return errkind.RateLimited }

// caller finds out who makes a request.
func (d *Daemon) caller(r *http.Request) (config.Actor, error) {
	now := time.Now()
	var certificate, keyed config.Actor
	var err error
	if d.auth.Mode.Certificates() && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		if certificate, err = d.auth.MTLS.Actor(r.TLS.VerifiedChains[0][0], now); err != nil {
			return config.Actor{}, err //nolint:wrapcheck // it says all
		}
	}
	if d.auth.Mode.APIKeys() {
		key, err := presentedKey(r)
		if err != nil {
			return config.Actor{}, err
		}
		if key != "" {
			from := limit.KeyOf(address(r))
			if v := d.guesses.Peek(from); !v.Allowed {
				return config.Actor{}, tooManyGuesses{v.Retry}
			}
			if keyed, err = d.files.current().keys.Find(key, now); err != nil {
				d.guesses.Take(from)
				return config.Actor{}, err //nolint:wrapcheck // it says all
			}
		}
	}
	switch {
	case certificate.ID != "" && keyed.ID != "" && certificate.ID != keyed.ID:
		return config.Actor{}, errTwoActors
	case keyed.ID != "":
		return keyed, nil
	case certificate.ID != "":
		return certificate, nil
	case d.auth.Mode == "none" || d.auth.AllowUnauthenticated:
		return claimed(r)
	}
	return config.Actor{}, errNoCredential
}

// presentedKey returns the API key of a request; "" if it has none.
func presentedKey(r *http.Request) (string, error) {
	keys := r.Header[headerKey]
	if len(keys) > 1 {
		return "", errTwoKeys
	}
	key := ""
	if len(keys) == 1 {
		key = keys[0]
	}
	scheme, bearer, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return key, nil
	}
	if bearer = strings.TrimSpace(bearer); key != "" && bearer != key {
		return "", errTwoKeys
	}
	return bearer, nil
}

// claimed is who a caller says to be. Without a name it is anonymous.
func claimed(r *http.Request) (config.Actor, error) {
	name, short := r.Header.Get(headerActor), r.Header.Get(headerActorShort)
	if name != "" && short != "" && name != short {
		return config.Actor{}, errTwoNames
	}
	if name == "" {
		name = short
	}
	class, err := config.ParseClass(r.Header.Get(headerClass))
	if err != nil {
		return config.Actor{}, fmt.Errorf("%s: %w", headerClass, err)
	}
	if len(name) > maxActorBytes || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return config.Actor{}, fmt.Errorf("%s: a name has up to %d bytes of UTF-8 and no control characters: %w", headerActor, maxActorBytes, errkind.Invalid)
	}
	if name == "" {
		name = anonymous
	}
	return config.Actor{ID: name, Class: class}, nil
}

// address is where a request comes from.
func address(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a test's
	}
	return a.Addr().Unmap()
}
