package sshd_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/sshd"
)

// quoted is a path as git's sq_quote_buf writes it.
func quoted(path string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(path) + "'"
}

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]sshd.Command{
		`git-upload-pack 'acme/api.git'`:      {"git-upload-pack", "acme/api.git"},
		`git-receive-pack '/acme/api'`:        {"git-receive-pack", "/acme/api"},
		`git-upload-archive '/acme/api.git/'`: {"git-upload-archive", "/acme/api.git/"},
		`git upload-pack 'acme/api.git'`:      {"git-upload-pack", "acme/api.git"},
		`git-upload-pack acme/api.git`:        {"git-upload-pack", "acme/api.git"},
		` git-upload-pack  'acme/api.git' `:   {"git-upload-pack", "acme/api.git"},
		`git-upload-pack 'it'\''s/a'\!'b c'`:  {"git-upload-pack", "it's/a!b c"},
		`git-upload-pack '$HOME/"x";y'`:       {"git-upload-pack", `$HOME/"x";y`},
		`git-upload-pack ''`:                  {"git-upload-pack", ""},
		`git-upload-pack 'acme/ünïcode'`:      {"git-upload-pack", "acme/ünïcode"},
	} {
		if got, err := sshd.ParseCommand(line); err != nil || got != want {
			t.Errorf("ParseCommand(%q) = %+v, %v, want %+v", line, got, err, want)
		}
	}
}

// TestParseCommandRefuses: what is not served, and what mallory would send.
func TestParseCommandRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":                                  "only git-upload-pack",
		"ls":                                "only git-upload-pack",
		"git":                               "only git-upload-pack",
		"git push":                          "only git-upload-pack",
		"git-shell -c x":                    "only git-upload-pack",
		"scp -t /tmp":                       "only git-upload-pack",
		"git-lfs-authenticate 'a/b' upload": "only git-upload-pack",
		"/usr/bin/git-upload-pack 'a/b'":    "only git-upload-pack",
		"GIT-UPLOAD-PACK 'a/b'":             "only git-upload-pack",
		"git-upload-pack":                   "one repository",
		"git-upload-pack 'a/b' 'c/d'":       "one repository",
		"git-upload-pack --strict 'a/b'":    "one repository",
		"git-upload-pack '--strict'":        "no options",
		"git-receive-pack -h":               "no options",
		"git-upload-pack 'a/b'; id":         "no shell",
		"git-upload-pack 'a/b' && id":       "no shell",
		"git-upload-pack $(id)":             "no shell",
		"git-upload-pack `id`":              "no shell",
		"git-upload-pack \"a/b\"":           "no shell",
		"git-upload-pack ~/a":               "no shell",
		"git-upload-pack a*":                "no shell",
		"git-upload-pack 'a/b' > /etc/x":    "no shell",
		"git-upload-pack 'a/b":              "within quotes",
		`git-upload-pack 'a/b'\`:            "backslash",
		`git-upload-pack a\b`:               "backslash",
		"git-upload-pack 'a\nb'":            "control character",
		"git-upload-pack 'a\x00b'":          "control character",
		"GIT_DIR=/x git-upload-pack 'a/b'":  "only git-upload-pack",
		"git-upload-pack '" + strings.Repeat("x", 10_000) + "'": "longer than",
	} {
		_, err := sshd.ParseCommand(line)
		if err == nil || errkind.Of(err) == errkind.Internal || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseCommand(%.60q): %v, want %q", line, err, want)
		}
	}
}

// TestQuotedPathsComeBack: whatever git quotes is understood as it was meant.
func TestQuotedPathsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringOfN(rapid.RuneFrom([]rune(`ab/.'!\"$ -ü~`)), 0, 40, -1).Draw(t, "path")
		got, err := sshd.ParseCommand("git-upload-pack " + quoted(path))
		if strings.HasPrefix(path, "-") {
			if err == nil {
				t.Errorf("path %q is an option, and was taken", path)
			}
			return
		}
		if err != nil || got.Path != path {
			t.Errorf("path %q came as %q, %v", path, got.Path, err)
		}
	})
}

// FuzzCommand: a line is refused with a kind, or is one of the three services with a path that means the same when it is quoted again.
func FuzzCommand(f *testing.F) {
	for _, line := range []string{
		`git-upload-pack 'acme/api.git'`, `git-receive-pack '/a/b'`, `git upload-archive 'x'`, `git-upload-pack 'it'\''s'`, `git-upload-pack 'a'; id`, `'git'-upload-pack a\!`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, err := sshd.ParseCommand(line)
		if err != nil {
			if errkind.Of(err) == errkind.Internal {
				t.Errorf("%q: %v has no kind", line, err)
			}
			return
		}
		again, err := sshd.ParseCommand(got.Service + " " + quoted(got.Path))
		if len(got.Path) < 2000 && (err != nil || again != got) {
			t.Errorf("%q is %+v, and written again %+v, %v", line, got, again, err)
		}
	})
}
