package login_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/login"
)

// What a provider answers is tested against a real one, in e2e.

// TestLocalPath is an attack: a link to the login page that ends on another site.
func TestLocalPath(t *testing.T) {
	for _, s := range []string{"/", "/login/done", "/login/device?user_code=BCDF-GHJK", "/acme/demo?x=//y", "/a%20b", "/@evil.example"} {
		if got := login.LocalPath(s); got != s {
			t.Errorf("LocalPath(%q) = %q", s, got)
		}
	}
	for _, s := range []string{
		"", "x", "login/done", "https://evil.example", "HTTPS://evil.example", "https:evil.example", "https:/evil.example", "//evil.example", "///evil.example",
		"////evil.example", `/\evil.example`, `\/evil.example`, `\\evil.example`, "/\t/evil.example", "/\n/evil.example", "\t//evil.example", " /x", "/x y",
		"javascript:alert(1)", "data:text/html,x", "/\u2028/evil.example", "/ä", "//", "/\x7f/evil.example", "/\x00", "/%zz", "?x", "#x", ":", "@evil.example",
		"/" + strings.Repeat("a", 500),
	} {
		if got := login.LocalPath(s); got != "/" {
			t.Errorf("LocalPath(%q) = %q, want /", s, got)
		}
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/login/done", "//evil.example", `/\evil.example`, "/%2f/evil.example", "https://evil.example"} {
		f.Add(s)
	}
	base, err := url.Parse("https://git.example.org/login")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		to := login.LocalPath(s)
		// As browsers resolve it: they take a backslash for a slash, and drop tabs and line feeds (https://url.spec.whatwg.org).
		seen := strings.NewReplacer(`\`, "/", "\t", "", "\n", "", "\r", "").Replace(to)
		at, err := base.Parse(seen)
		if err != nil || at.Host != base.Host || at.Scheme != base.Scheme {
			t.Errorf("LocalPath(%q) = %q leads to %v, %v", s, to, at, err)
		}
		if login.LocalPath(to) != to {
			t.Errorf("LocalPath(%q) = %q, which is not a fixed point", s, to)
		}
	})
}

func TestParseConfigs(t *testing.T) {
	secrets := func(file string) (string, error) { return "secret of " + file, nil }
	got, err := login.ParseConfigs([]byte(`
[[provider]]
id = "corp"
issuer = "https://id.example.org"
client_id = "skep"
client_secret_file = "/etc/skep/corp"
name = "Example Corp"
create = true

[[provider]]
id = "guests-2"
issuer = "https://guests.example.org/realm"
client_id = "git"
`), secrets)
	want := []login.Config{
		{ID: "corp", Issuer: "https://id.example.org", ClientID: "skep", ClientSecret: "secret of /etc/skep/corp", Name: "Example Corp", Create: true},
		{ID: "guests-2", Issuer: "https://guests.example.org/realm", ClientID: "git"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	const good = "[[provider]]\nid = \"a\"\nissuer = \"https://id.example.org\"\nclient_id = \"c\"\n"
	for name, text := range map[string]string{
		"no TOML":           "[[",
		"another key":       good + "secret = \"x\"\n",
		"no id":             strings.Replace(good, "id = \"a\"", "", 1),
		"an id with slash":  strings.Replace(good, "\"a\"", "\"a/b\"", 1),
		"an id in capitals": strings.Replace(good, "\"a\"", "\"A\"", 1),
		"no client id":      strings.Replace(good, "\"c\"", "\"\"", 1),
		"no URL":            strings.Replace(good, "https://id.example.org", "id.example.org", 1),
		"another scheme":    strings.Replace(good, "https:", "file:", 1),
		"a query":           strings.Replace(good, "example.org", "example.org?x=y", 1),
		"a password":        strings.Replace(good, "https://", "https://a:b@", 1),
		"an id twice":       good + strings.Replace(good, "id.example", "ib.example", 1),
		"an issuer twice":   good + strings.Replace(good, "\"a\"", "\"b\"", 1),
	} {
		if _, err := login.ParseConfigs([]byte(text), secrets); !errors.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v, want errkind.Invalid", name, err)
		}
	}
	if _, err := login.ParseConfigs([]byte(strings.Repeat("#", 65<<10)), secrets); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("a file without end: %v", err)
	}
}

func FuzzConfigs(f *testing.F) {
	f.Add("[[provider]]\nid = \"a\"\nissuer = \"https://id.example.org\"\nclient_id = \"c\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := login.ParseConfigs([]byte(text), func(string) (string, error) { return "s", nil })
		if err != nil {
			return
		}
		for _, c := range list {
			if _, err := login.New(c, http.DefaultClient); err != nil {
				t.Errorf("a provider that was accepted cannot be made: %v", err)
			}
		}
	})
}
