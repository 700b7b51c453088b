package server

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// maxAuthorizedKey bounds a key's line: RSA of 16384 bits takes below 4 KiB.
	maxAuthorizedKey = 16 << 10
	// maxComment is what is kept of a comment as the key's title.
	maxComment = 100
)

// sshKey is a public key as it was read.
type sshKey struct {
	kind        string
	wire        []byte
	fingerprint string // as ssh-keygen -l prints it
	comment     string
}

// parseAuthorizedKey reads one line of an authorized_keys file (sshd(8)). Options are refused rather than dropped: whoever wrote
// them meant them to count.
func parseAuthorizedKey(text string) (sshKey, error) {
	bad := func(why string) (sshKey, error) { return sshKey{}, fmt.Errorf("SSH key: %s: %w", why, errkind.Invalid) }
	text = strings.TrimSpace(text)
	switch {
	case len(text) > maxAuthorizedKey:
		return bad(fmt.Sprintf("its line is longer than %d bytes", maxAuthorizedKey))
	case strings.Contains(text, "PRIVATE KEY"):
		return bad("this is a private key: keep it to yourself, and give the file that ends with .pub")
	case strings.ContainsAny(text, "\r\n"):
		return bad("it is more than one line")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return bad("it is not a line like ssh-ed25519 AAAA… name, as in a file that ends with .pub")
	case len(options) > 0:
		return bad("it has options, which do not count here: leave them out")
	}
	if err := auth.CheckSSHKey(key); err != nil {
		return sshKey{}, err
	}
	comment = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, comment)
	if len(comment) > maxComment {
		comment = strings.ToValidUTF8(comment[:maxComment], "")
	}
	return sshKey{kind: key.Type(), wire: key.Marshal(), fingerprint: ssh.FingerprintSHA256(key), comment: comment}, nil
}

// authorizedLine is what parseAuthorizedKey reads.
func authorizedLine(kind string, wire []byte) string {
	return kind + " " + base64.StdEncoding.EncodeToString(wire)
}
