package rest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// etag is the strong ETag of what an actor sees of a version: "VERSION;VIEW". The view tells apart who asks, by which rules, and what is
// asked for: the same version looks different to others, and to the same actor when the rules have changed.
func etag(c *Caller, version string, asked ...string) string {
	view := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", c.Actor.ID, c.Actor.Class, c.Service.Revision(), asked))
	return `"` + version + ";" + base64.RawURLEncoding.EncodeToString(view[:9]) + `"`
}

// matches reports whether a client has what an ETag names (RFC 9110, section 13.1.2).
func matches(ifNoneMatch, tag string) bool {
	if strings.TrimSpace(ifNoneMatch) == "*" {
		return true
	}
	for one := range strings.SplitSeq(ifNoneMatch, ",") {
		// Versions of several nodes have commas themselves: what stands between quotes is put together again by looking for the whole.
		if strings.TrimPrefix(strings.TrimSpace(one), "W/") == tag {
			return true
		}
	}
	return strings.Contains(ifNoneMatch, tag)
}

// versionOf returns the version that If-Match names: an ETag of an answer, or a version alone.
func versionOf(ifMatch string) (string, error) {
	text := strings.TrimSpace(ifMatch)
	if strings.HasPrefix(text, "W/") {
		return "", fmt.Errorf("If-Match: %s is a weak ETag, and there are none here: %w", clip(text), errkind.Invalid)
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`)
	version, _, _ := strings.Cut(text, ";")
	if _, err := crdt.ParseDots(version); err != nil || version == "" {
		return "", fmt.Errorf("If-Match: %s is no version of this document: send the ETag of what you read: %w", clip(text), errkind.Invalid)
	}
	return version, nil
}

func clip(s string) string {
	const most = 100
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
