package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// tokens is the smallest auth.Tokens; the real one is tested in package control.
type tokens map[auth.Hash]policy.Principal

func (t tokens) Principal(_ context.Context, h auth.Hash) (policy.Principal, error) {
	p, ok := t[h]
	if !ok {
		return p, fmt.Errorf("no such token: %w", errkind.Unauthorized)
	}
	return p, nil
}

// Signed takes one text.
func (t tokens) Signed(_ context.Context, text string) (policy.Principal, error) {
	if text != signed {
		return policy.Principal{}, auth.Refusal("this JWT is not valid")
	}
	return policy.Principal{ID: "iss_platform:agent", Scope: policy.ScopeRead}, nil
}

// Presented takes what is named ci, and the certificate of a broken database.
func (t tokens) Presented(_ context.Context, _ auth.Hash, names []auth.Name) (policy.Principal, error) {
	for _, n := range names {
		switch n {
		case auth.Name{Kind: auth.CommonName, Value: "ci"}:
			return policy.Principal{ID: "usr_ci", Scope: policy.ScopeWrite}, nil
		case auth.Name{Kind: auth.CommonName, Value: "alice"}:
			return policy.Principal{ID: "usr_alice", Scope: policy.ScopeAdmin}, nil
		case auth.Name{Kind: auth.CommonName, Value: "broken"}:
			return policy.Principal{}, errkind.Unavailable
		}
	}
	return policy.Principal{}, auth.Refusal("the client certificate is nobody's")
}

const signed = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl"

func TestNewSecret(t *testing.T) {
	form := regexp.MustCompile(`^skep_[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 100 {
		secret, h := auth.NewSecret()
		if !form.MatchString(secret) {
			t.Errorf("NewSecret() = %q, want the form %s", secret, form)
		}
		if h != auth.HashSecret(secret) {
			t.Errorf("NewSecret's hash is not the secret's")
		}
		if seen[secret] {
			t.Errorf("NewSecret() = %q, a second time", secret)
		}
		seen[secret] = true
	}
}

func basic(userPassword string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userPassword))
}

func TestFromRequest(t *testing.T) {
	secret, h := auth.NewSecret()
	unknown, _ := auth.NewSecret()
	alice := policy.Principal{ID: "usr_alice", Scope: policy.ScopeWrite}
	known := tokens{h: alice}

	agent := policy.Principal{ID: "iss_platform:agent", Scope: policy.ScopeRead}

	const authorization, apiKey = "Authorization", "X-Api-Key"
	long := strings.Repeat("x", 6000)
	tests := []struct {
		name    string
		headers [][2]string
		want    any // a policy.Principal or an errkind.Kind
	}{
		{"nothing", nil, policy.Principal{}},
		{"bearer", [][2]string{{authorization, "Bearer " + secret}}, alice},
		{"bearer in lower case", [][2]string{{authorization, "bearer " + secret}}, alice},
		{"bearer with more blanks", [][2]string{{authorization, " Bearer   " + secret + " "}}, alice},
		{"api key", [][2]string{{apiKey, secret}}, alice},
		{"basic password", [][2]string{{authorization, basic("any:" + secret)}}, alice},
		{"basic password, no user", [][2]string{{authorization, basic(":" + secret)}}, alice},
		{"basic user", [][2]string{{authorization, basic(secret + ":")}}, alice},
		{"basic user, oauth", [][2]string{{authorization, basic(secret + ":x-oauth-basic")}}, alice},
		{"basic without padding", [][2]string{{authorization, strings.TrimRight(basic("a:"+secret), "=")}}, alice},

		{"JWT as bearer", [][2]string{{authorization, "Bearer " + signed}}, agent},
		{"JWT as password", [][2]string{{authorization, basic("any:" + signed)}}, agent},
		{"JWT as API key", [][2]string{{apiKey, signed}}, agent},
		{"another JWT", [][2]string{{authorization, "Bearer " + signed + "A"}}, errkind.Unauthorized},
		{"a JWT in five parts", [][2]string{{authorization, "Bearer " + signed + ".x.y"}}, errkind.Unauthorized},

		{"unknown bearer", [][2]string{{authorization, "Bearer " + unknown}}, errkind.Unauthorized},
		{"unknown api key", [][2]string{{apiKey, unknown}}, errkind.Unauthorized},
		{"unknown password", [][2]string{{authorization, basic("any:" + unknown)}}, errkind.Unauthorized},
		{"the password decides", [][2]string{{authorization, basic(secret + ":" + unknown)}}, errkind.Unauthorized},
		{"cut short", [][2]string{{authorization, "Bearer " + secret[:47]}}, errkind.Unauthorized},
		{"one more", [][2]string{{authorization, "Bearer " + secret + "A"}}, errkind.Unauthorized},
		{"two secrets", [][2]string{{authorization, "Bearer " + secret + " " + secret}}, errkind.Unauthorized},
		{"other case", [][2]string{{authorization, "Bearer " + strings.ToUpper(secret)}}, errkind.Unauthorized},
		{"the hash itself", [][2]string{{authorization, fmt.Sprintf("Bearer %x", h)}}, errkind.Unauthorized},
		{"empty header", [][2]string{{authorization, ""}}, errkind.Unauthorized},
		{"empty key", [][2]string{{apiKey, ""}}, errkind.Unauthorized},
		{"bearer alone", [][2]string{{authorization, "Bearer"}}, errkind.Unauthorized},
		{"other scheme", [][2]string{{authorization, "Digest username=x"}}, errkind.Unauthorized},
		{"no scheme", [][2]string{{authorization, secret}}, errkind.Unauthorized},
		{"NUL", [][2]string{{authorization, basic("a:" + secret[:47] + "\x00")}}, errkind.Unauthorized},

		{"not base64", [][2]string{{authorization, "Basic !!!" + secret}}, errkind.Invalid},
		{"no colon", [][2]string{{authorization, basic(secret)}}, errkind.Invalid},
		{"basic alone", [][2]string{{authorization, "Basic"}}, errkind.Invalid},
		{"nobody", [][2]string{{authorization, basic(":")}}, errkind.Unauthorized},
		{"two headers", [][2]string{{authorization, "Bearer " + secret}, {authorization, "Bearer " + secret}}, errkind.Invalid},
		{"two kinds", [][2]string{{authorization, "Bearer " + secret}, {apiKey, secret}}, errkind.Invalid},
		{"long bearer", [][2]string{{authorization, "Bearer " + long}}, errkind.Invalid},
		{"long key", [][2]string{{apiKey, long}}, errkind.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://skep.invalid/", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range tt.headers {
				r.Header.Add(h[0], h[1])
			}
			got, err := auth.FromRequest(t.Context(), known, r)
			switch want := tt.want.(type) {
			case errkind.Kind:
				if !errors.Is(err, want) {
					t.Fatalf("FromRequest = %+v, %v, want the error %v", got, err, want)
				}
				if !got.Anonymous() || got.Scope != "" {
					t.Errorf("FromRequest returned %+v with the error", got)
				}
				for _, s := range []string{secret[5:25], unknown[5:25]} {
					if strings.Contains(err.Error(), s) {
						t.Errorf("the error tells the secret: %v", err)
					}
				}
			case policy.Principal:
				if err != nil || got.ID != want.ID || got.Scope != want.Scope {
					t.Errorf("FromRequest = %+v, %v, want %+v", got, err, want)
				}
			}
		})
	}
}

// FuzzAuthorization: whatever the header, only a known secret authenticates, and the answer is one of the three.
func FuzzAuthorization(f *testing.F) {
	secret, h := auth.NewSecret()
	known := tokens{h: policy.Principal{ID: "usr_alice"}}
	for _, s := range []string{"", "Bearer x", "Basic Og==", "Basic " + secret, basic("a:b"), basic(secret), "Basic =", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := &http.Request{Header: http.Header{"Authorization": {header}}}
		p, err := auth.FromRequest(t.Context(), known, r)
		if err == nil && p.Anonymous() {
			t.Errorf("header %q: neither a principal nor an error", header)
		}
		if err == nil && !strings.Contains(header, secret) && !strings.Contains(header, signed) && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(header)), "basic ") {
			t.Errorf("header %q was let in", header)
		}
		if err != nil && !errors.Is(err, errkind.Unauthorized) && !errors.Is(err, errkind.Invalid) {
			t.Errorf("header %q: %v wraps no kind", header, err)
		}
	})
}
