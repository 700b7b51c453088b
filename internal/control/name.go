package control

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

const (
	maxNameBytes = 100 // of one part of a path: fits any file name and any screen
	// maxTenantDepth bounds how deep tenants lie in each other: a decision looks at each.
	maxTenantDepth = 16
	// maxPathBytes bounds a tenant's path as the API does.
	maxPathBytes = 400
)

// reservedTop are the first parts of paths that the server answers itself, or may want to.
var reservedTop = map[string]bool{
	"-": true, "admin": true, "api": true, "assets": true, "debug": true, "docs": true, "favicon.ico": true,
	"conflux.v1.confluxservice": true, "healthz": true, "login": true, "logout": true, "metrics": true, "readyz": true, "robots.txt": true, "static": true,
}

// reservedPart are what Git's protocol puts behind a repository's path.
var reservedPart = map[string]bool{
	"git-receive-pack": true, "git-upload-archive": true, "git-upload-pack": true, "head": true, "info": true, "objects": true,
}

// checkName judges a repository's name or one part of a tenant's path.
func checkName(what, s string) error {
	bad := func(why string) error {
		return fmt.Errorf("%s %q %s: %w", what, clip(s), why, errkind.Invalid)
	}
	lower := strings.ToLower(s)
	switch {
	case s == "":
		return fmt.Errorf("%s is empty: %w", what, errkind.Invalid)
	case len(s) > maxNameBytes:
		return bad(fmt.Sprintf("is longer than %d bytes", maxNameBytes))
	case s[0] == '.' || s[0] == '-':
		return bad("starts with a dot or a dash")
	case strings.HasSuffix(s, "."):
		return bad("ends with a dot")
	case strings.Contains(s, ".."):
		return bad("contains two dots in a row")
	case strings.HasSuffix(lower, ".git"), strings.HasSuffix(lower, ".lock"):
		return bad("ends with .git or .lock")
	case reservedPart[lower]:
		return bad("is reserved")
	}
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return bad("contains something other than letters, digits, dot, underscore and dash")
		}
	}
	return nil
}

// CheckRepoName judges a repository's name before anything is made of it.
func CheckRepoName(name string) error { return checkName("repository name", name) }

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// fold is the key of a name: what lower() makes of it in both databases.
func fold(s string) string { return policy.Fold(s) }

// checkTenantPath judges a whole path, and cuts it into the parent's path (empty at the top) and the last part.
func checkTenantPath(path string) (parent, last string, err error) {
	if len(path) > maxTenantDepth*(maxNameBytes+1) || strings.Count(path, "/") >= maxTenantDepth {
		return "", "", fmt.Errorf("tenant path %q is deeper than %d: %w", clip(path), maxTenantDepth, errkind.Invalid)
	}
	first := true
	for part := range strings.SplitSeq(path, "/") {
		if err := checkName("tenant name", part); err != nil {
			return "", "", err
		}
		if first && reservedTop[strings.ToLower(part)] {
			return "", "", fmt.Errorf("tenant name %q is reserved: %w", part, errkind.Invalid)
		}
		first, last = false, part
	}
	return strings.TrimSuffix(strings.TrimSuffix(path, last), "/"), last, nil
}

// checkPrincipalName lets e-mail addresses through as well.
func checkPrincipalName(s string) error {
	if s == "" || len(s) > maxNameBytes {
		return fmt.Errorf("principal name has %d bytes, not 1 to %d: %w", len(s), maxNameBytes, errkind.Invalid)
	}
	for i := range len(s) {
		if c := s[i]; !isNameByte(c) && c != '@' && c != '+' || i == 0 && (c == '-' || c == '.') {
			return fmt.Errorf("principal name %q contains something other than letters, digits and ._-@+: %w", s, errkind.Invalid)
		}
	}
	return nil
}

// checkTokenName: a token's name is a note to its owner; it only must not spoil a terminal.
func checkTokenName(s string) error {
	if len(s) > maxNameBytes {
		return fmt.Errorf("token name is longer than %d bytes: %w", maxNameBytes, errkind.Invalid)
	}
	if !printableText(s) {
		return fmt.Errorf("token name %q is not printable text: %w", s, errkind.Invalid)
	}
	return nil
}

func printableText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// noteText makes of what a stranger's program says of itself at most so many bytes that can be stored and shown.
func noteText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// clip keeps what a caller sent short enough for an error message.
func clip(s string) string {
	if len(s) > maxNameBytes {
		return s[:maxNameBytes] + "…"
	}
	return s
}
