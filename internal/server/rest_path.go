package server

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/skep-dev/skep/internal/client"
)

// encodedPath is a path as it came, in which a slash that is written %2F is a part of a name. What clients should encode
// and often do not (curl sends main^0 as it stands) is encoded here: for net/url such a path is not one, and it would
// encode the decoded path instead, where every slash looks the same.
func encodedPath(u *url.URL) string {
	const bare = "-._~!$&'()*+,;=:@[]/%"
	if u.RawPath == "" {
		return u.EscapedPath()
	}
	var b strings.Builder
	for _, c := range []byte(u.RawPath) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(bare, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// redirectToClean answers a request whose encoded path has empty or dot segments with the path without them. ServeMux would
// do the same, but encode what is encoded already.
func redirectToClean(w http.ResponseWriter, r *http.Request, encoded string) bool {
	clean := path.Clean(encoded)
	if clean != "/" && strings.HasSuffix(encoded, "/") {
		clean += "/"
	}
	if clean == encoded {
		return false
	}
	if r.URL.RawQuery != "" {
		clean += "?" + r.URL.RawQuery
	}
	w.Header()["Location"] = []string{clean}
	w.WriteHeader(http.StatusTemporaryRedirect)
	return true
}

// refAsSegment makes a reference's name, which may have slashes as they stand, one segment of an encoded path: the pattern of
// its operation has one there.
func refAsSegment(encoded string) string {
	rest, ok := strings.CutPrefix(encoded, client.Base+"/repos/")
	repo, name, isRef := strings.Cut(rest, "/refs/")
	if !ok || !isRef || strings.Contains(repo, "/") {
		return encoded
	}
	return client.Base + "/repos/" + repo + "/refs/" + strings.ReplaceAll(name, "/", "%2F")
}
