package protocol

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// A signed push (git push --signed) sends its commands inside a certificate: text with headers, an empty line, the commands, and
// a signature over all of that. The nonce in it was given out by this side a moment ago, so that a certificate that somebody
// kept cannot be used for another push (https://git-scm.com/docs/gitprotocol-pack, "Push Certificate").

const (
	// maxCertBytes bounds a certificate: room for some 100,000 references.
	maxCertBytes = 16 << 20
	// nonceSlop is how old a nonce may be that another request gave out, unless receive.certNonceSlop says otherwise: between
	// the two requests of a push over HTTP a person may be asked for the passphrase of a key.
	nonceSlop = 5 * time.Minute
)

// NonceStatus says what is to be thought of a certificate's nonce, in git's words.
type NonceStatus string

// The states of a nonce.
const (
	NonceOK          NonceStatus = "OK"
	NonceSlop        NonceStatus = "SLOP" // ours, but too old
	NonceBad         NonceStatus = "BAD"  // not ours
	NonceMissing     NonceStatus = "MISSING"
	NonceUnsolicited NonceStatus = "UNSOLICITED" // we give out none
)

// PushCert is the certificate of a signed push. That it came says nothing yet: whoever cares looks at NonceStatus and Signature.
type PushCert struct {
	Text        []byte // what came, payload and signature: git keeps it as a blob
	Payload     []byte // what is signed
	Pusher      string // who says to have signed: a key's name or ID, and a time
	Pushee      string // the repository's address as the pusher knows it
	Nonce       string
	NonceStatus NonceStatus
	Slop        time.Duration // with NonceSlop: how old it is
	Signature   Signature
}

// Signed returns the signature's text.
func (c *PushCert) Signed() []byte { return c.Text[len(c.Payload):] }

// Signature is what came out of checking one.
type Signature struct {
	Status SignatureStatus
	Signer string // who signed, if that is known
	Key    string // a key's fingerprint
}

// SignatureStatus is one of git's letters (git-log(1), %G?).
type SignatureStatus byte

// The states of a signature.
const (
	SignatureGood    SignatureStatus = 'G'
	SignatureUnknown SignatureStatus = 'U' // good, but the key is not one of the signer's
	SignatureBad     SignatureStatus = 'B'
	SignatureError   SignatureStatus = 'E' // it cannot be checked here
	SignatureNone    SignatureStatus = 'N'
)

// String returns the letter.
func (s SignatureStatus) String() string { return string(rune(s)) }

// certLines reads a certificate up to its end. It is one byte for byte, line feeds included.
func (c *commands) certLines(pr *PktReader) error {
	for {
		k, b, err := pr.Next()
		switch {
		case err != nil:
			return cutShort(err)
		case k != PktData:
			return refuse(errkind.Invalid, "receive-pack: protocol error: a push certificate without an end")
		case string(b) == "push-cert-end\n", string(b) == "push-cert-end":
			return c.takeCert()
		case len(c.certText)+len(b) > maxCertBytes:
			return refuse(errkind.TooLarge, "receive-pack: a push certificate of more than %d bytes", maxCertBytes)
		}
		c.certText = append(c.certText, b...)
	}
}

// takeCert reads the certificate's headers and commands.
func (c *commands) takeCert() error {
	if len(c.list) > 0 {
		return refuse(errkind.Invalid, "receive-pack: commands beside a push certificate, which does not sign them")
	}
	cert := &PushCert{Text: c.certText, Payload: c.certText[:signatureAt(c.certText)], NonceStatus: NonceMissing}
	head, body, ok := bytes.Cut(cert.Payload, []byte("\n\n"))
	if !ok {
		return refuse(errkind.Invalid, "receive-pack: malformed push certificate")
	}
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "pusher":
			cert.Pusher = clip(value, maxReasonBytes)
		case "pushee":
			cert.Pushee = clip(value, maxReasonBytes)
		case "nonce":
			cert.Nonce = value
		case "push-option":
			if len(c.certOptions) >= maxPushOptions {
				return refuse(errkind.TooLarge, "receive-pack: more than %d push options", maxPushOptions)
			}
			c.certOptions = append(c.certOptions, value)
		}
	}
	for line := range bytes.Lines(body) {
		if err := c.command(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return err
		}
	}
	c.cert = cert
	return nil
}

// signatureAt finds where the signature begins: at the last line that begins one. Without one, the end.
func signatureAt(text []byte) int {
	at, found := 0, len(text)
	for line := range bytes.Lines(text) {
		for _, begin := range []string{
			"-----BEGIN SSH SIGNATURE-----", "-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP MESSAGE-----", "-----BEGIN SIGNED MESSAGE-----",
		} {
			if bytes.HasPrefix(line, []byte(begin)) {
				found = at
			}
		}
		at += len(line)
	}
	return found
}

// newNonce makes the nonce of a moment: its time, and a code that only we can make.
func (o ReceiveOptions) newNonce(at time.Time) string {
	if len(o.NonceSeed) == 0 {
		return ""
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, o.NonceSeed)
	mac.Write([]byte(o.Place + ":" + stamp))
	return stamp + "-" + hex.EncodeToString(mac.Sum(nil))
}

// judgeNonce says what is to be thought of a certificate's nonce. given is the one that this connection gave out; a Stateless
// request knows of none, and its own moment counts.
func (c *PushCert) judgeNonce(opts ReceiveOptions, given string, slop time.Duration) {
	stamp, _, _ := strings.Cut(c.Nonce, "-")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	equal := func(nonce string) bool { return hmac.Equal([]byte(nonce), []byte(c.Nonce)) }
	switch {
	case c.Nonce == "":
		c.NonceStatus = NonceMissing
	case given == "":
		c.NonceStatus = NonceUnsolicited
	case equal(given):
		c.NonceStatus = NonceOK
	case !opts.Stateless || err != nil || seconds < 0 || seconds > maxTime || !equal(opts.newNonce(time.Unix(seconds, 0))):
		c.NonceStatus = NonceBad
	default:
		c.NonceStatus, c.Slop = NonceOK, time.Since(time.Unix(seconds, 0)).Truncate(time.Second)
		if c.Slop.Abs() > slop {
			c.NonceStatus = NonceSlop
		}
	}
	c.Nonce = clip(c.Nonce, maxReasonBytes)
}

// checkCert finds out what is to be thought of the push's certificate, if it has one. It refuses a push whose options are not
// those that are signed.
func (p *push) checkCert(ctx context.Context) error {
	c := p.cmds.cert
	if c == nil {
		return nil
	}
	slop := p.rc.View().config().nonceSlop
	if slop == 0 {
		slop = nonceSlop
	}
	given := p.nonce
	if p.opts.Stateless {
		given = p.opts.newNonce(time.Now())
	}
	c.judgeNonce(p.opts, given, slop)
	c.Signature.Status = SignatureError
	switch {
	case len(c.Signed()) == 0:
		c.Signature.Status = SignatureNone
	case p.opts.Verify != nil:
		var err error
		if c.Signature, err = p.opts.Verify(ctx, c); err != nil {
			return fmt.Errorf("check a push certificate: %w", err)
		}
	}
	if !slices.Equal(p.cmds.certOptions, p.cmds.options) {
		p.cmds.refuseAll("inconsistent push options")
	}
	return nil
}

// Blob returns the ID that the certificate has as a blob: git's GIT_PUSH_CERT.
func (c *PushCert) Blob() git.OID { return git.Hash(git.Blob, c.Text) }

// Environment returns what git tells its hooks of a certificate (githooks(5), pre-receive).
func (c *PushCert) Environment() []string {
	env := []string{
		"GIT_PUSH_CERT=" + c.Blob().String(), "GIT_PUSH_CERT_SIGNER=" + c.Signature.Signer, "GIT_PUSH_CERT_KEY=" + c.Signature.Key,
		"GIT_PUSH_CERT_STATUS=" + c.Signature.Status.String(),
	}
	if c.NonceStatus == NonceUnsolicited {
		return env
	}
	env = append(env, "GIT_PUSH_CERT_NONCE="+c.Nonce, "GIT_PUSH_CERT_NONCE_STATUS="+string(c.NonceStatus))
	if c.NonceStatus == NonceSlop {
		env = append(env, "GIT_PUSH_CERT_NONCE_SLOP="+strconv.FormatInt(int64(c.Slop/time.Second), 10))
	}
	return env
}
