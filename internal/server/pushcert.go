package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/policy"
)

// newNonces makes the secret behind the nonces of signed pushes. It need not outlive the server: a push that is under way
// when the server restarts has to be made again anyhow.
func newNonces() []byte {
	seed := make([]byte, sha256.Size)
	_, _ = rand.Read(seed) // which never fails
	return seed
}

// noncePlace is the repository that a nonce is good for: that of the path, whether it exists or not.
func (p gitPath) noncePlace() string { return strings.ToLower(p.tenant + "/" + p.name) }

// logSaid writes down what a client says of itself, for whoever looks for one request.
func (s *Server) logSaid(ctx context.Context, c *call) func(protocol.Said) {
	if !s.log.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return func(said protocol.Said) {
		s.log.DebugContext(ctx, "git client", "request_id", c.id, "agent", said.Agent, "session", said.Session, "options", said.Options)
	}
}

// verifyPush checks the signatures of p's pushes. A signature is good if it was made with one of the pusher's own SSH keys; one
// of another key is only known to be whole. There is no keyring for OpenPGP.
func (s *Server) verifyPush(p policy.Principal) func(context.Context, *protocol.PushCert) (protocol.Signature, error) {
	return func(ctx context.Context, c *protocol.PushCert) (protocol.Signature, error) {
		block, _ := pem.Decode(c.Signed())
		if block == nil || block.Type != "SSH SIGNATURE" {
			return protocol.Signature{Status: protocol.SignatureError}, nil
		}
		key, err := verifySSH(block.Bytes, c.Payload)
		if err != nil {
			s.log.InfoContext(ctx, "push certificate is not signed as it says", "principal", p.ID, "error", err)
			return protocol.Signature{Status: protocol.SignatureBad}, nil
		}
		sig := protocol.Signature{Status: protocol.SignatureUnknown, Key: ssh.FingerprintSHA256(key)}
		keys, err := s.control.SSHKeys(ctx, p.ID)
		if err != nil {
			return sig, err
		}
		for _, k := range keys {
			if bytes.Equal(k.Public, key.Marshal()) && (k.Expires.IsZero() || time.Now().Before(k.Expires)) {
				sig.Status, sig.Signer = protocol.SignatureGood, p.Name
			}
		}
		return sig, nil
	}
}

// The format of SSH signatures: PROTOCOL.sshsig of OpenSSH.
const (
	sshSigMagic     = "SSHSIG"
	sshSigNamespace = "git" // what the signature is for; one made for something else is none
)

// sshSig is a signature's blob after its magic.
type sshSig struct {
	Version                   uint32
	PublicKey                 []byte
	Namespace, Reserved, Hash string
	Signature                 []byte
}

// sshSigned is what is signed, after the magic.
type sshSigned struct {
	Namespace, Reserved, Hash string
	Digest                    []byte
}

// verifySSH checks a signature of a text and returns the key that made it.
func verifySSH(blob, text []byte) (ssh.PublicKey, error) {
	rest, ok := bytes.CutPrefix(blob, []byte(sshSigMagic))
	var s sshSig
	if !ok {
		return nil, fmt.Errorf("no SSH signature: %w", errkind.Invalid)
	}
	if err := ssh.Unmarshal(rest, &s); err != nil {
		return nil, fmt.Errorf("read SSH signature: %w: %w", err, errkind.Invalid)
	}
	if s.Version != 1 || s.Namespace != sshSigNamespace {
		return nil, fmt.Errorf("SSH signature of version %d for %q: %w", s.Version, s.Namespace, errkind.Invalid)
	}
	signed := sshSigned{Namespace: s.Namespace, Reserved: s.Reserved, Hash: s.Hash}
	switch s.Hash {
	case "sha256":
		sum := sha256.Sum256(text)
		signed.Digest = sum[:]
	case "sha512":
		sum := sha512.Sum512(text)
		signed.Digest = sum[:]
	default:
		return nil, fmt.Errorf("SSH signature over a hash %q: %w", s.Hash, errkind.Invalid)
	}
	key, err := ssh.ParsePublicKey(s.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("read an SSH signature's key: %w: %w", err, errkind.Invalid)
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(s.Signature, &sig); err != nil {
		return nil, fmt.Errorf("read SSH signature: %w: %w", err, errkind.Invalid)
	}
	if sig.Format == ssh.KeyAlgoRSA { // is over SHA-1, which the format forbids
		return nil, fmt.Errorf("SSH signature of format %s: %w", sig.Format, errkind.Invalid)
	}
	if err := key.Verify(append([]byte(sshSigMagic), ssh.Marshal(signed)...), &sig); err != nil {
		return nil, fmt.Errorf("verify SSH signature: %w: %w", err, errkind.Invalid)
	}
	return key, nil
}
