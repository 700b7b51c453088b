package server_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/server"
)

func TestParseGitPath(t *testing.T) {
	tests := []struct{ path, tenant, name, rest string }{
		{"/default/demo.git/info/refs", "default", "demo", "/info/refs"},
		{"/default/demo/info/refs", "default", "demo", "/info/refs"},
		{"/a/b/c/demo.git/git-upload-pack", "a/b/c", "demo", "/git-upload-pack"},
		{"/a/b/git-receive-pack", "a", "b", "/git-receive-pack"},
		{"/a/b.git.git/info/refs", "a", "b.git", "/info/refs"},
		{"/a/b.git/HEAD", "a", "b", "/HEAD"},
		{"/a/b.git/objects/info/packs", "a", "b", "/objects/info/packs"},
		{"/a/b", "", "", ""},
		{"/b.git/info/refs", "", "", ""},
		{"/info/refs", "", "", ""},
		{"//b/info/refs", "", "", ""},
		{"/a//info/refs", "", "", ""},
		{"/a/.git/info/refs", "", "", ""},
		{"", "", "", ""},
	}
	for _, tt := range tests {
		tenant, name, rest, ok := server.ParseGitPath(tt.path)
		if ok != (tt.tenant != "") || ok && (tenant != tt.tenant || name != tt.name || rest != tt.rest) {
			t.Errorf("ParseGitPath(%q) = %q, %q, %q, %v, want %q, %q, %q", tt.path, tenant, name, rest, ok, tt.tenant, tt.name, tt.rest)
		}
	}
}

// FuzzGitPath: whatever the path, the parts are parts of it, and the name has no slash.
func FuzzGitPath(f *testing.F) {
	for _, p := range []string{"/default/demo.git/info/refs", "/a/b/c/git-upload-pack", "/a/b/objects/../x", "//", "/.git/info/refs", "/a/\x00/HEAD"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tenant, name, rest, ok := server.ParseGitPath(path)
		if !ok {
			return
		}
		if tenant == "" || name == "" || strings.Contains(name, "/") {
			t.Errorf("ParseGitPath(%q) = %q, %q", path, tenant, name)
		}
		if path != "/"+tenant+"/"+name+rest && path != "/"+tenant+"/"+name+".git"+rest {
			t.Errorf("ParseGitPath(%q) = %q, %q, %q, which do not make the path", path, tenant, name, rest)
		}
	})
}

// FuzzMuxPath: whatever the path, what the mux gets is an encoding of it, and one that net/url leaves alone.
func FuzzMuxPath(f *testing.F) {
	for _, p := range []string{"/api/v2/repos/a%2Fb/commits/main^0", "/api/v2/repos/a%2Fb/refs/heads/x y", "/api/v2/repos/a/refs/", "/a%2f{}|\"<>\\", "/%25^", "/[^]%2F"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			return
		}
		got := server.MuxPath(u)
		if plain, err := url.PathUnescape(got); err != nil || plain != u.Path {
			t.Errorf("MuxPath(%q) = %q, which is %q, %v", raw, got, plain, err)
		}
		if again := (&url.URL{Path: u.Path, RawPath: got}).EscapedPath(); again != got {
			t.Errorf("MuxPath(%q) = %q, which net/url takes for %q", raw, got, again)
		}
	})
}

func TestParseTTL(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "30d": 30 * 24 * time.Hour, "3650d": 3650 * 24 * time.Hour,
		"": 0, "0s": 0, "-1h": 0, "1": 0, "d": 0, "-3d": 0, "3651d": 0, "99999999999999999999d": 0, "100000h": 0, "1ms": 0, "9223372036854775807d": 0,
	} {
		got, err := server.ParseTTL(in)
		if (err == nil) != (want != 0) || got != want {
			t.Errorf("ParseTTL(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
}

// FuzzRequestID: what is taken over from a client is safe in a header and in a log.
func FuzzRequestID(f *testing.F) {
	f.Add("abc-123")
	f.Add("a\r\nSet-Cookie: x")
	f.Fuzz(func(t *testing.T, s string) {
		if server.ValidRequestID(s) && (len(s) > 64 || strings.ContainsAny(s, " \t\r\n\"'<>\\\x00") || s == "") {
			t.Errorf("ValidRequestID(%q)", s)
		}
	})
}
