package access_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/errkind"
)

var noon = time.Date(2024, 1, 23, 12, 0, 0, 0, time.UTC)

func hash(tb testing.TB, key string) string {
	tb.Helper()
	h, _, err := access.HashKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	keys, err := access.LoadAPIKeys([]byte(`# Conflux's example: the hash of "hello"
[[keys]]
key_hash = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
actor_id = "ci-pipeline"
actor_class = "pipeline"
display_name = "GitHub Actions CI"

[[keys]]
key_hash = "` + hash(t, "ends") + `"
actor_id = "alice"
actor_class = "human"
expires_at = "2024-01-23T13:00:00+01:00"

[[keys]]
key_hash = "` + hash(t, "ends-too") + `"
actor_id = "alice"
actor_class = "human"
expires_at = 2024-01-23T12:00:00Z

[[keys]]
key_hash = "` + hash(t, "gone") + `"
actor_id = "alice"
actor_class = "human"
revoked = true
`))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		key  string
		at   time.Time
		want config.Actor
		says string
	}{
		{"hello", noon, config.Actor{ID: "ci-pipeline", Class: config.Pipeline, Name: "GitHub Actions CI"}, ""},
		{"ends", noon.Add(-1), config.Actor{ID: "alice", Class: config.Human}, ""},
		{"ends", noon, config.Actor{}, "has expired"},
		{"ends-too", noon, config.Actor{}, "has expired"},
		{"gone", noon, config.Actor{}, "is revoked"},
		{"Hello", noon, config.Actor{}, "is not known"},
		{"", noon, config.Actor{}, "is not known"},
		{strings.Repeat("x", 1<<20), noon, config.Actor{}, "is not known"},
	}
	for _, tt := range tests {
		got, err := keys.Find(tt.key, tt.at)
		if got != tt.want || (err == nil) != (tt.says == "") {
			t.Errorf("Find(%.20s) = %+v, %v", tt.key, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.says) || errkind.Of(err) != errkind.Unauthorized || tt.key != "" && strings.Contains(err.Error(), tt.key)) {
			t.Errorf("Find(%.20s): %v, want %q", tt.key, err, tt.says)
		}
	}
}

func TestLoadAPIKeysRefuses(t *testing.T) {
	t.Parallel()
	good := "[[keys]]\nkey_hash = \"" + hash(t, "a") + "\"\nactor_id = \"a\"\nactor_class = \"human\"\n"
	tests := []struct{ name, text, want string }{
		{"no TOML", "[[keys]\n", "api-keys.toml: line 1, column"},
		{"unknown key", good + "expires = 1\n", "api-keys.toml: line 5, column 1: keys.expires is not a setting here"},
		{"the key itself", strings.Replace(good, "sha256:", "", 1), `line 2, column 1: write "sha256:" and 64 hexadecimal digits`},
		{"short hash", "[[keys]]\nkey_hash = \"sha256:2cf24dba5fb0a30e...\"\n", "64 hexadecimal digits"},
		{"the same twice", good + good, "line 6, column 1: it is the hash of the key in line 2 too"},
		{"nobody", strings.Replace(good, `"a"`, `""`, 1), "line 3, column 1: it names no actor"},
		{"odd name", strings.Replace(good, `"a"`, `"a\nb"`, 1), "no control characters"},
		{"no class", strings.Replace(good, "actor_class = \"human\"\n", "", 1), `line 1, column 3: "" is no class`},
		{"no zone", good + "expires_at = 2024-01-23T12:00:00\n", "line 5, column 1: write a time with its zone"},
		{"no time", good + "expires_at = \"tomorrow\"\n", "write a time with its zone"},
	}
	for _, tt := range tests {
		_, err := access.LoadAPIKeys([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// A hash is made of every key, and those that could be found by trying are warned of.
func TestHashKey(t *testing.T) {
	t.Parallel()
	if got, want := hash(t, "hello"), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; got != want {
		t.Errorf("HashKey(hello) = %s", got)
	}
	for key, weak := range map[string]bool{
		"your-secret-key":                                     true,
		"correct-horse-battery-staple":                        true,
		"Password1Password1Password1Password1":                true,
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1A":           true,
		"0123456789abcdef0123456789abcdef":                    true,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM01":           true,
		"9f86d081884c7d65":                                    true,
		"31415926535897932384626433832795":                    true,
		"9f86d081884c7d659a2feaa0c55ad015":                    false, // 32 hexadecimal digits
		"f47ac10b-58cc-4372-a567-0e02b2c3d479":                false,
		"ghp_x8Zq2LmW9vT4nR7sKd3Yb6Hc1Jf5Gp0A":                false,
		"jbswy3dpehpk3pxpjbswi2lmn5xgk4dsmu2":                 false, // base32
		"skepc_1xGSJcjSfq_bSCUpeiwgFvFdmF-xCqJHgvcajudMbzI":   false,
		"skepc_bxGSJcjSfq_bSCUpeiwgFvFdmF-xCqJHgvcajudMbzI":   false, // no digit by chance
		"CorrectHorseBatteryStapleWithMoreWordsToFillTheLine": true,
		"0Kp3tRk2X9yFv7mQzWc8Lh4Nd6Bs1Jg5Ta-Ue_oiPq0=":        false,
	} {
		_, warning, err := access.HashKey(key)
		if err != nil || (warning != "") != weak || strings.Contains(warning, key) {
			t.Errorf("HashKey(%s): %q, %v", key, warning, err)
		}
	}
	seen := map[string]bool{}
	for range 100 {
		key := access.GenerateKey()
		if _, _, err := access.HashKey(key); err != nil || !strings.HasPrefix(key, "skepc_") || len(key) != 49 || seen[key] {
			t.Errorf("GenerateKey() = %s, %v", key, err)
		}
		seen[key] = true
	}
	for _, key := range []string{"", "two words", "line\n", "schlüssel", strings.Repeat("x", 5000)} {
		if _, _, err := access.HashKey(key); errkind.Of(err) != errkind.Invalid {
			t.Errorf("HashKey(%.20q): %v", key, err)
		}
	}
}

const mtls = `
[server]
listen = "127.0.0.1:9400"

[auth]
mode = "both"

[auth.mtls]
ca_cert = "ca.pem"
server_cert = "server.pem"
server_key = "server-key.pem"
`

func TestLoadAuth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       access.Auth
	}{
		{"nothing", "", access.Auth{Mode: access.ModeNone}},
		{"others' tables", "[storage]\npath = \"x\"\n", access.Auth{Mode: access.ModeNone}},
		{"keys", "[auth]\nmode = \"api-key\"\nallow_unauthenticated = true\n", access.Auth{Mode: access.ModeAPIKey, AllowUnauthenticated: true, APIKeysFile: ".conflux/api-keys.toml"}},
		{
			"keys elsewhere", "[auth]\nmode = \"api-key\"\n[auth.api_keys]\nstorage = \"file\"\nfile = \"keys.toml\"\n",
			access.Auth{Mode: access.ModeAPIKey, APIKeysFile: "keys.toml"},
		},
		{"both", mtls, access.Auth{Mode: access.ModeBoth, APIKeysFile: ".conflux/api-keys.toml", MTLS: access.MTLS{CACert: "ca.pem", ServerCert: "server.pem", ServerKey: "server-key.pem"}}},
	}
	for _, tt := range tests {
		got, err := access.LoadAuth([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(access.MTLS{})); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	for m, want := range map[access.Mode][2]bool{access.ModeNone: {false, false}, access.ModeAPIKey: {true, false}, access.ModeMTLS: {false, true}, access.ModeBoth: {true, true}} {
		if got := [2]bool{m.APIKeys(), m.Certificates()}; got != want {
			t.Errorf("%s takes keys and certificates: %v", m, got)
		}
	}
}

func TestLoadAuthRefuses(t *testing.T) {
	t.Parallel()
	entry := "certificate_mapping = \"mapping\"\n[[auth.mtls.mapping]]\ncertificate = \"cn:a\"\nactor_id = \"a\"\n"
	tests := []struct{ name, text, want string }{
		{"mode", "[auth]\nmode = \"api_key\"\n", `config.toml: line 2, column 1: "api_key" is no mode: use none, api-key, mtls or both`},
		{"unknown key", "[other]\nx = 1\n[auth]\nca_cert = \"x\"\n", "line 4, column 1: auth.ca_cert is not a setting here"},
		{"storage", "[auth.api_keys]\nstorage = \"vault\"\n", `line 2, column 1: API keys are in a file`},
		{"no table", "[auth]\nmode = \"mtls\"\n", "line 2, column 1: mode mtls needs [auth.mtls]"},
		{"no key", strings.Replace(mtls, "server_key = \"server-key.pem\"\n", "", 1), "line 8, column 7: it has no server_key"},
		{"mapping", mtls + "certificate_mapping = \"dn\"\n", `line 12, column 1: "dn" is no mapping`},
		{"class", mtls + "actor_class = \"robot\"\n", `line 12, column 1: "robot" is no class`},
		{"nothing to map", mtls + "certificate_mapping = \"mapping\"\n", "line 12, column 1: [[auth.mtls.mapping]] goes with"},
		{"not asked for", mtls + strings.Replace(entry, `"mapping"`, `"cn"`, 1), "line 12, column 1: [[auth.mtls.mapping]] goes with"},
		{"kind of name", mtls + strings.Replace(entry, "cn:", "dn:", 1), `line 14, column 1: "dn:a" is no name of a certificate`},
		{"nobody", mtls + strings.Replace(entry, `"a"`, `""`, 1), `line 15, column 1: it names no actor`},
		{"twice", mtls + entry + strings.TrimPrefix(entry, "certificate_mapping = \"mapping\"\n"), `line 17, column 1: cn:a is there twice`},
	}
	for _, tt := range tests {
		_, err := access.LoadAuth([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	leaf := func(cn string, dns, email []string, uri string) *x509.Certificate {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: dns, EmailAddresses: email, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}
		if uri != "" {
			u, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		return c
	}
	const table = `certificate_mapping = "mapping"
actor_class = "operator"
[[auth.mtls.mapping]]
certificate = "uri:spiffe://acme/ci"
actor_id = "ci"
actor_class = "pipeline"
display_name = "CI"
[[auth.mtls.mapping]]
certificate = "dns:CI.acme.example"
actor_id = "ci"
actor_class = "pipeline"
display_name = "CI"
[[auth.mtls.mapping]]
certificate = "cn:alice"
actor_id = "alice"
`
	ci := config.Actor{ID: "ci", Class: config.Pipeline, Name: "CI"}
	tests := []struct {
		name, settings string
		cert           *x509.Certificate
		want           config.Actor
		says           string
	}{
		{"common name", "", leaf("ci", []string{"other"}, nil, ""), config.Actor{ID: "ci", Class: config.Pipeline}, ""},
		{"class", "certificate_mapping = \"cn\"\nactor_class = \"human\"\n", leaf("alice", nil, nil, ""), config.Actor{ID: "alice", Class: config.Human}, ""},
		{"no common name", "", leaf("", []string{"x"}, nil, ""), config.Actor{}, "names nobody"},
		{"odd common name", "", leaf("a\nb", nil, nil, ""), config.Actor{}, "names nobody"},
		{"alternative name", `certificate_mapping = "san"`, leaf("x", []string{"CI.acme.example"}, nil, ""), config.Actor{ID: "ci.acme.example", Class: config.Pipeline}, ""},
		{"address", `certificate_mapping = "san"`, leaf("x", nil, []string{"Alice@acme.example"}, ""), config.Actor{ID: "Alice@acme.example", Class: config.Pipeline}, ""},
		{"URI", `certificate_mapping = "san"`, leaf("x", nil, nil, "spiffe://acme/ci"), config.Actor{ID: "spiffe://acme/ci", Class: config.Pipeline}, ""},
		{"two of them", `certificate_mapping = "san"`, leaf("x", []string{"a", "b"}, nil, ""), config.Actor{}, "has 2 subject alternative names"},
		{"none", `certificate_mapping = "san"`, leaf("x", nil, nil, ""), config.Actor{}, "has 0 subject alternative names"},
		{"in the table", table, leaf("x", nil, nil, "spiffe://acme/ci"), ci, ""},
		{"twice there", table, leaf("x", []string{"ci.ACME.example"}, nil, "spiffe://acme/ci"), ci, ""},
		{"common name in the table", table, leaf("alice", nil, nil, ""), config.Actor{ID: "alice", Class: config.Operator}, ""},
		{"two actors", table, leaf("alice", nil, nil, "spiffe://acme/ci"), config.Actor{}, "those of 2 actors"},
		{"not in the table", table, leaf("bob", []string{"alice"}, nil, ""), config.Actor{}, "those of 0 actors"},
	}
	for _, tt := range tests {
		auth, err := access.LoadAuth([]byte(mtls + tt.settings))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got, err := auth.MTLS.Actor(tt.cert, noon)
		if got != tt.want || (err == nil) != (tt.says == "") || err != nil && (!strings.Contains(err.Error(), tt.says) || errkind.Of(err) != errkind.Unauthorized) {
			t.Errorf("%s: %+v, %v, want %q", tt.name, got, err, tt.says)
		}
		for _, at := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
			if got, err := auth.MTLS.Actor(tt.cert, noon.Add(at)); errkind.Of(err) != errkind.Unauthorized {
				t.Errorf("%s after %v: %+v, %v", tt.name, at, got, err)
			}
		}
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte(mtls), []byte("[[keys]]\nkey_hash = \""+hash(f, "a")+"\"\nactor_id = \"a\"\nactor_class = \"human\"\nexpires_at = 2024-01-23\n"), "a")
	f.Fuzz(func(t *testing.T, config, keys []byte, key string) {
		if _, err := access.LoadAuth(config); err != nil && errkind.Of(err) == errkind.Internal {
			t.Fatal(err)
		}
		k, err := access.LoadAPIKeys(keys)
		if err != nil {
			if errkind.Of(err) == errkind.Internal {
				t.Fatal(err)
			}
			return
		}
		if _, err := k.Find(key, noon); err != nil && errkind.Of(err) != errkind.Unauthorized {
			t.Fatal(err)
		}
	})
}
