package auth_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/certs/certstest"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// TestClientCertificate: a certificate is a credential like others, and never a choice between two principals.
func TestClientCertificate(t *testing.T) {
	a, err := certstest.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	secret, h := auth.NewSecret()
	alice := policy.Principal{ID: "usr_alice", Scope: policy.ScopeWrite}
	known := tokens{h: alice}
	leaf := func(l certstest.Leaf) *x509.Certificate {
		c, err := a.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	var many []string
	for n := range 30 {
		many = append(many, fmt.Sprintf("n%d.example.org", n))
	}
	tests := []struct {
		name   string
		cert   *x509.Certificate
		secret string
		want   any // a principal's ID and scope, or an errkind.Kind
	}{
		{"its own", leaf(certstest.Leaf{Name: "ci"}), "", "usr_ci write"},
		{"nobody's", leaf(certstest.Leaf{Name: "mallory"}), "", errkind.Unauthorized},
		{"one without a name", leaf(certstest.Leaf{}), "", errkind.Unauthorized},
		{"the name in another case", leaf(certstest.Leaf{Name: "CI"}), "", errkind.Unauthorized},
		{"the name as a DNS name", leaf(certstest.Leaf{DNS: []string{"ci"}}), "", errkind.Unauthorized},
		{"expired since the handshake", leaf(certstest.Leaf{Name: "ci", Ends: -time.Minute}), "", errkind.Unauthorized},
		{"many names", leaf(certstest.Leaf{Name: "ci", DNS: many}), "", errkind.Unauthorized},
		{"while the database is away", leaf(certstest.Leaf{Name: "broken"}), "", errkind.Unavailable},

		{"with a token of the same principal", leaf(certstest.Leaf{Name: "alice"}), secret, "usr_alice write"},
		{"with a token of another", leaf(certstest.Leaf{Name: "ci"}), secret, errkind.Invalid},
		{"nobody's with a token", leaf(certstest.Leaf{Name: "mallory"}), secret, "usr_alice write"},
		{"with a token that is wrong", leaf(certstest.Leaf{Name: "ci"}), "skep_" + strings.Repeat("A", 43), errkind.Unauthorized},
		{"with a token while the database is away", leaf(certstest.Leaf{Name: "broken"}), secret, errkind.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{Header: http.Header{}, TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{tt.cert}}}
			if tt.secret != "" {
				r.Header.Set("Authorization", "Bearer "+tt.secret)
			}
			// What nobody has verified is no credential.
			got, err := auth.FromRequest(t.Context(), known, r)
			if tt.secret == "" && (err != nil || !got.Anonymous()) {
				t.Errorf("not verified: %+v, %v", got, err)
			}
			r.TLS.VerifiedChains = [][]*x509.Certificate{{tt.cert}}
			got, err = auth.FromRequest(t.Context(), known, r)
			if kind, ok := tt.want.(errkind.Kind); ok {
				if !errors.Is(err, kind) || !got.Anonymous() {
					t.Errorf("FromRequest = %+v, %v, want %v", got, err, kind)
				}
				return
			}
			if s := fmt.Sprint(got.ID, " ", got.Scope); err != nil || s != tt.want {
				t.Errorf("FromRequest = %s, %v, want %s", s, err, tt.want)
			}
		})
	}
}
