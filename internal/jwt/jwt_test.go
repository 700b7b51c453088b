package jwt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/jwt"
	"github.com/skep-dev/skep/internal/jwt/jwttest"
)

const (
	issuer   = "https://platform.example.org"
	audience = "https://git.example.org"
)

var now = time.Unix(1_800_000_000, 0)

func newKey(tb testing.TB, alg, kid string) jwttest.Key {
	tb.Helper()
	k, err := jwttest.NewKey(alg, kid)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func parseKeys(tb testing.TB, text []byte) jwt.Keys {
	tb.Helper()
	keys, err := jwt.ParseKeys(text)
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// claims are those of a good token, with changes; nil takes one away.
func claims(changes jwttest.Claims) jwttest.Claims {
	c := jwttest.Claims{"iss": issuer, "aud": audience, "sub": "agent-7", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func sign(tb testing.TB, k jwttest.Key, c jwttest.Claims, headers ...jwttest.Claims) string {
	tb.Helper()
	text, err := k.Sign(c, headers...)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// check parses and verifies.
func check(text string, keys jwt.Keys) (jwt.Claims, bool, error) {
	token, err := jwt.Parse(text)
	if err != nil {
		return jwt.Claims{}, false, err
	}
	return token.Verify(keys, issuer, audience, now)
}

func TestEachAlgorithm(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			k := newKey(t, alg, "one")
			keys := parseKeys(t, jwttest.Set(newKey(t, "ES256", "other"), k))
			text := sign(t, k, claims(jwttest.Claims{"role": "writer", "scope": "read", "repo": "acme/api", "tenant": "acme"}))
			got, proven, err := check(text, keys)
			want := jwt.Claims{Subject: "agent-7", Expires: now.Add(time.Minute), Role: "writer", Scope: "read", Repo: "acme/api"}
			if err != nil || !proven || !got.Expires.Equal(want.Expires) || got.Subject != want.Subject || got.Role != want.Role || got.Scope != want.Scope || got.Repo != want.Repo {
				t.Errorf("Verify = %+v, %v, %v, want %+v", got, proven, err, want)
			}
			if token, err := jwt.Parse(text); err != nil || token.Issuer != issuer || token.Tenant != "acme" {
				t.Errorf("Parse = %+v, %v", token, err)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	k := newKey(t, "EdDSA", "one")
	keys := parseKeys(t, jwttest.Set(k))
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	tests := []struct {
		name    string
		changes jwttest.Claims
		want    string // in the error; "": it is good
	}{
		{"as it is", nil, ""},
		{"several audiences", jwttest.Claims{"aud": []string{"x", audience}}, ""},
		{"no iat", jwttest.Claims{"iat": nil}, ""},
		{"an iat within the skew", jwttest.Claims{"iat": at(60 * time.Second)}, ""},
		{"an nbf within the skew", jwttest.Claims{"nbf": at(60 * time.Second)}, ""},
		{"a day", jwttest.Claims{"exp": at(24 * time.Hour)}, ""},
		{"half a second left", jwttest.Claims{"exp": float64(now.Unix()) + 0.5}, ""},
		{"claims that nobody knows", jwttest.Claims{"admin": true, "roles": []string{"owner"}}, ""},

		{"no audience", jwttest.Claims{"aud": nil}, "its aud is not " + audience},
		{"an empty audience", jwttest.Claims{"aud": []string{}}, "its aud is not"},
		{"another audience", jwttest.Claims{"aud": "https://other.example.org"}, "its aud is not"},
		{"the beginning of the audience", jwttest.Claims{"aud": audience[:10]}, "its aud is not"},
		{"an audience that is no text", jwttest.Claims{"aud": 7}, "types of RFC 7519"},
		{"no sub", jwttest.Claims{"sub": nil}, "no sub"},
		{"a sub that is no text", jwttest.Claims{"sub": 7}, "types of RFC 7519"},
		{"no iss", jwttest.Claims{"iss": nil}, "no iss"},
		{"another iss", jwttest.Claims{"iss": issuer + "/"}, "its iss is another"},
		{"no exp", jwttest.Claims{"exp": nil}, "no exp"},
		{"expired", jwttest.Claims{"exp": at(0)}, "has expired"},
		{"expired, within the skew", jwttest.Claims{"exp": at(-time.Second), "iat": at(-time.Minute)}, "has expired"},
		{"a future nbf", jwttest.Claims{"nbf": at(61 * time.Second)}, "nbf is in the future"},
		{"a future iat", jwttest.Claims{"iat": at(61 * time.Second)}, "iat is in the future"},
		{"more than a day", jwttest.Claims{"exp": at(24*time.Hour + time.Second)}, "longer than 24 hours"},
		{"more than a day, without iat", jwttest.Claims{"iat": nil, "exp": at(25 * time.Hour)}, "longer than 24 hours"},
		{"more than a day, from an old iat", jwttest.Claims{"iat": at(-24 * time.Hour)}, "longer than 24 hours"},
		{"an exp that is text", jwttest.Claims{"exp": "tomorrow"}, "types of RFC 7519"},
		{"an nbf that overflows", jwttest.Claims{"nbf": 1e300}, "out of range"},
		{"an exp that overflows", jwttest.Claims{"exp": 1e18}, "out of range"},
		{"a negative time", jwttest.Claims{"nbf": -1}, "out of range"},
		{"a long claim", jwttest.Claims{"repo": strings.Repeat("x", 513)}, "longer than 512"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := check(sign(t, k, claims(tt.changes)), keys)
			wantRefused(t, err, tt.want)
		})
	}
}

func wantRefused(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (!errors.Is(err, errkind.Unauthorized) || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one of kind unauthorized with %q", err, want)
	}
}

// forge puts a token together from its parts, with a signature that mac makes.
func forge(header, payload string, mac func(input []byte) []byte) string {
	b64 := base64.RawURLEncoding.EncodeToString
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(mac([]byte(input)))
}

func nothing([]byte) []byte { return nil }

func payload(changes jwttest.Claims) string {
	b, _ := json.Marshal(claims(changes))
	return string(b)
}

// TestAttackNone: a token that says that it needs no signature.
func TestAttackNone(t *testing.T) {
	keys := parseKeys(t, jwttest.Set(newKey(t, "ES256", "one")))
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "null"} {
		for _, header := range []string{`{"alg":%q}`, `{"alg":%q,"kid":"one","typ":"JWT"}`} {
			_, _, err := check(forge(fmt.Sprintf(header, alg), payload(nil), nothing), keys)
			wantRefused(t, err, "algorithm")
		}
	}
	for _, header := range []string{`{}`, `{"kid":"one"}`, `{"alg":null}`, `{"alg":["ES256"]}`, `{"alg":{}}`, `null`, `[]`, `"ES256"`, ``} {
		_, _, err := check(forge(header, payload(nil), nothing), keys)
		wantRefused(t, err, "it") // in whichever words
	}
	good := sign(t, newKey(t, "ES256", "one"), claims(nil))
	cut := good[:strings.LastIndex(good, ".")+1]
	_, _, err := check(cut, keys)
	wantRefused(t, err, "signature is wrong")
}

// TestAttackPublicKeyAsSecret: HMAC with what everybody knows, the public key, as the secret.
func TestAttackPublicKeyAsSecret(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		k := newKey(t, alg, "one")
		keys := parseKeys(t, jwttest.Set(k))
		der, err := x509.MarshalPKIXPublicKey(k.Public().Key)
		if err != nil {
			t.Fatal(err)
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		for _, secret := range [][]byte{der, block, bytes.TrimSpace(block), jwttest.Set(k), {}} {
			for _, hs := range []string{"HS256", alg} {
				_, _, err := check(forge(fmt.Sprintf(`{"alg":%q,"kid":"one"}`, hs), payload(nil), func(input []byte) []byte {
					m := hmac.New(sha256.New, secret)
					m.Write(input)
					return m.Sum(nil)
				}), keys)
				wantRefused(t, err, "its ")
			}
		}
	}
}

// TestAttackOtherAlgorithms: what is signed well, but not by what we take.
func TestAttackOtherAlgorithms(t *testing.T) {
	rsaKey, ecKey := newKey(t, "RS256", "one"), newKey(t, "ES256", "one")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := parseKeys(t, jwttest.Set(rsaKey, ecKey))
	for _, k := range []jwttest.Key{
		{ID: "one", Alg: jose.PS256, Private: rsaKey.Private},
		{ID: "one", Alg: jose.RS512, Private: rsaKey.Private},
		{ID: "one", Alg: jose.ES384, Private: p384},
		{ID: "one", Alg: jose.HS256, Private: bytes.Repeat([]byte("k"), 32)},
	} {
		_, _, err := check(sign(t, k, claims(nil)), keys)
		wantRefused(t, err, "its algorithm is none of")
	}
}

// TestAttackConfusedKey: the header names one algorithm, the key with that kid is for another.
func TestAttackConfusedKey(t *testing.T) {
	ec, rs := newKey(t, "ES256", "one"), newKey(t, "RS256", "one")
	_, _, err := check(sign(t, rs, claims(nil)), parseKeys(t, jwttest.Set(ec)))
	wantRefused(t, err, "no such key")
	_, _, err = check(sign(t, ec, claims(nil)), parseKeys(t, jwttest.Set(rs)))
	wantRefused(t, err, "no such key")
	_, _, err = check(sign(t, newKey(t, "ES256", "one"), claims(nil)), parseKeys(t, jwttest.Set(ec)))
	wantRefused(t, err, "signature is wrong")
}

// TestAttackOwnKey: the token brings, or points to, the key by which it is to be checked.
func TestAttackOwnKey(t *testing.T) {
	mallory, ours := newKey(t, "ES256", "one"), newKey(t, "ES256", "one")
	keys := parseKeys(t, jwttest.Set(ours))
	public := mallory.Public()
	for name, header := range map[string]jwttest.Claims{
		"jwk":      {"jwk": &public},
		"jku":      {"jku": "https://mallory.example.org/keys"},
		"x5u":      {"x5u": "https://mallory.example.org/cert.pem"},
		"x5t":      {"x5t": "abc"},
		"x5t#S256": {"x5t#S256": "abc"},
	} {
		_, _, err := check(sign(t, mallory, claims(nil), header), keys)
		wantRefused(t, err, "signature is wrong")
		// They do no harm to a good token either: they are not looked at.
		_, _, err = check(sign(t, ours, claims(nil), header), keys)
		wantRefused(t, err, "")
		_ = name
	}
}

// TestAttackKeyID: a kid is a name in a set, never a path or a query.
func TestAttackKeyID(t *testing.T) {
	keys := parseKeys(t, jwttest.Set(newKey(t, "EdDSA", "one"), newKey(t, "EdDSA", "two")))
	for _, kid := range []string{
		"../../../dev/null", "/dev/null", "' OR '1'='1", "one' --", "%2e%2e%2f", "one\x00", "ONE", " one", "https://mallory.example.org/", "*", "",
	} {
		_, _, err := check(sign(t, newKey(t, "EdDSA", kid), claims(nil)), keys)
		wantRefused(t, err, "no such key")
	}
	_, _, err := check(sign(t, newKey(t, "EdDSA", strings.Repeat("k", 201)), claims(nil)), keys)
	wantRefused(t, err, "kid is longer")
	_, _, err = check(forge(`{"alg":"EdDSA","kid":["one"]}`, payload(nil), nothing), keys)
	wantRefused(t, err, "header cannot be read")
}

// TestOnlyKeyNeedsNoID: a token without a kid means the one key there is.
func TestOnlyKeyNeedsNoID(t *testing.T) {
	k := newKey(t, "EdDSA", "one")
	unnamed := k
	unnamed.ID = ""
	_, _, err := check(sign(t, unnamed, claims(nil)), parseKeys(t, jwttest.Set(k, newKey(t, "ES256", "two"))))
	wantRefused(t, err, "")
	_, _, err = check(sign(t, unnamed, claims(nil)), parseKeys(t, jwttest.Set(k, newKey(t, "EdDSA", "two"))))
	wantRefused(t, err, "no such key")
}

// TestAttackForms: what is no token is told from one without a look at any key.
func TestAttackForms(t *testing.T) {
	k := newKey(t, "EdDSA", "one")
	keys := parseKeys(t, jwttest.Set(k))
	good := sign(t, k, claims(nil))
	parts := strings.Split(good, ".")
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":           {"", "three parts"},
		"two parts":         {parts[0] + "." + parts[1], "three parts"},
		"four parts":        {good + ".x", "three parts"},
		"encrypted":         {good + ".x.y", "three parts"},
		"JSON":              {`{"payload":"` + parts[1] + `"}`, "three parts"},
		"padding":           {good + "=", "three parts"},
		"a line feed":       {parts[0] + "\n." + parts[1] + "." + parts[2], "three parts"},
		"too long":          {good + strings.Repeat("A", jwt.MaxBytes), "longer than"},
		"other claims":      {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(payload(jwttest.Claims{"sub": "root"}))) + "." + parts[2], "signature is wrong"},
		"claims: no object": {forge(`{"alg":"EdDSA","kid":"one"}`, `[]`, nothing), "JSON object"},
		"claims: a null":    {forge(`{"alg":"EdDSA","kid":"one"}`, `null`, nothing), "no iss"},
		"claims twice":      {forge(`{"alg":"EdDSA","kid":"one"}`, `{"iss":"a","iss":"b"}`, nothing), "JSON object"},
		"header twice":      {forge(`{"alg":"EdDSA","alg":"none","kid":"one"}`, payload(nil), nothing), "header cannot be read"},
		"other case":        {forge(`{"ALG":"EdDSA","kid":"one"}`, payload(nil), nothing), "header cannot be read"},
		"crit":              {sign(t, k, claims(nil), jwttest.Claims{"crit": []string{"exp"}, "exp": 1}), "crit"},
		"crit, unencoded":   {sign(t, k, claims(nil), jwttest.Claims{"crit": []string{"b64"}, "b64": true}), "crit"},
		"typ":               {sign(t, k, claims(nil), jwttest.Claims{"typ": "secevent+jwt"}), "typ is not JWT"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := check(tt.text, keys)
			wantRefused(t, err, tt.want)
		})
	}
	if _, proven, _ := check(sign(t, k, claims(jwttest.Claims{"exp": now.Unix() - 1})), keys); !proven {
		t.Error("an expired token of the issuer's is not known as its own")
	}
	if _, proven, _ := check(sign(t, newKey(t, "EdDSA", "one"), claims(nil)), keys); proven {
		t.Error("a stranger's token is taken for proven")
	}
}

func TestParseKeys(t *testing.T) {
	ec, rs := newKey(t, "ES256", "e"), newKey(t, "RS256", "r")
	public := func(k jose.JSONWebKey) string { b, _ := k.MarshalJSON(); return string(b) }
	private, _ := (jose.JSONWebKey{Key: ec.Private, KeyID: "e"}).MarshalJSON()
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	enc := ec.Public()
	enc.Use = "enc"
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	tests := []struct {
		name, text string
		want       string // the names, or a part of the error
	}{
		{"two", set(public(ec.Public()), public(rs.Public())), "ES256 e,RS256 r"},
		{"others beside them", set(public(enc), `{"kty":"AKP","alg":"ML-DSA-44"}`, public(jose.JSONWebKey{Key: &p384.PublicKey}), public(rs.Public())), "RS256 r"},
		{"one that is short", set(public(jose.JSONWebKey{Key: &short.PublicKey}), public(rs.Public())), "RS256 r"},
		{"none", set(), "has none for ES256"},
		{"none of ours", set(public(enc)), "has none for ES256"},
		{"secret", set(string(private)), "is secret"},
		{"a shared secret", set(public(ec.Public()), `{"kty":"oct","k":"AAAA"}`), "is secret"},
		{"twice the same kid", set(public(ec.Public()), public(ec.Public())), "second ES256 key"},
		{"not on the curve", set(`{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}`), "has none for ES256"},
		{"no list", `{"keys":{}}`, "no JSON object"},
		{"a single key", public(ec.Public()), "has none for ES256"},
		{"not JSON", `-----BEGIN PUBLIC KEY-----`, "no JSON object"},
		{"many", set(strings.TrimSuffix(strings.Repeat(`{"kty":"x"},`, 51), ",")), "more than 50"},
		{"long", set(`{"kty":"` + strings.Repeat("x", jwt.MaxKeySetBytes) + `"}`), "more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := jwt.ParseKeys([]byte(tt.text))
			got := strings.Join(keys.Names(), ",")
			if err != nil {
				got = err.Error()
				if k := errkind.Of(err); k != errkind.Invalid && k != errkind.TooLarge {
					t.Errorf("error %v wraps no kind", err)
				}
			}
			if !strings.Contains(got, tt.want) || err == nil && got != tt.want {
				t.Errorf("ParseKeys = %s, want %s", got, tt.want)
			}
		})
	}
}

// FuzzJWT: whatever the text, nothing but what the key has signed is taken, and refusals are of one kind.
func FuzzJWT(f *testing.F) {
	k := newKey(f, "EdDSA", "one")
	keys := parseKeys(f, jwttest.Set(k))
	good := sign(f, k, claims(nil))
	for _, s := range []string{
		"", "..", "a.b.c", good, good[:len(good)-1], forge(`{"alg":"none"}`, payload(nil), nothing), forge(`{"alg":"EdDSA","kid":"one"}`, `{}`, nothing),
		forge(`{"alg":"EdDSA","crit":[]}`, payload(nil), nothing), forge(`{"alg":"EdDSA","jwk":{}}`, payload(nil), nothing),
	} {
		f.Add(s)
	}
	signed := good[:strings.LastIndex(good, ".")]
	f.Fuzz(func(t *testing.T, text string) {
		_, proven, err := check(text, keys)
		if (err == nil || proven) && !strings.HasPrefix(text, signed+".") {
			t.Errorf("token %q was taken", text)
		}
		if err != nil && !errors.Is(err, errkind.Unauthorized) {
			t.Errorf("token %q: %v wraps no kind", text, err)
		}
	})
}

// FuzzKeys: whatever the text, there is a set or an error with a kind.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Add(jwttest.Set(newKey(f, "ES256", "one"), newKey(f, "EdDSA", "two")))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := jwt.ParseKeys(text)
		if err == nil && len(keys.Names()) == 0 {
			t.Errorf("%q: an empty set", text)
		}
		if k := errkind.Of(err); err != nil && k != errkind.Invalid && k != errkind.TooLarge {
			t.Errorf("%q: %v wraps no kind", text, err)
		}
	})
}
