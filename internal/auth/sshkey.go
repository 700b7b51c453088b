package auth

import (
	"context"
	"crypto/rsa"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// minRSABits and maxRSABits bound RSA keys: shorter ones can be broken, longer ones make a login slow.
const (
	minRSABits = 2048
	maxRSABits = 16384
)

// SSHPublic is a public key as it is looked up.
type SSHPublic struct {
	Wire        []byte // in SSH's wire format
	Fingerprint string // SHA256:…, as ssh-keygen -l prints it
}

// SSHCredentials finds who has an SSH key or a certificate: errkind.Unauthorized when it is nobody's.
type SSHCredentials interface {
	SSHAuthorities
	KeyHolder(ctx context.Context, k SSHPublic) (policy.Principal, error)
}

// FromSSH authenticates whoever has shown, in an SSH handshake from an address, that it has the secret half of a key or certificate.
func FromSSH(ctx context.Context, known SSHCredentials, key ssh.PublicKey, from netip.Addr, now time.Time) (policy.Principal, error) {
	if cert, ok := key.(*ssh.Certificate); ok {
		return FromSSHCertificate(ctx, known, cert, from, now)
	}
	if err := CheckSSHKey(key); err != nil {
		return policy.Principal{}, Refusal(strings.TrimSuffix(err.Error(), ": "+errkind.Invalid.Error()))
	}
	p, err := known.KeyHolder(ctx, SSHPublic{Wire: key.Marshal(), Fingerprint: ssh.FingerprintSHA256(key)})
	if err != nil {
		return policy.Principal{}, fmt.Errorf("check SSH key: %w", err)
	}
	if p.Anonymous() {
		panic("bug: an SSH key of nobody")
	}
	return p, nil
}

// CheckSSHKey says which keys are good enough. What lies on a hardware token is told apart by its type: it is not served yet.
func CheckSSHKey(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		c, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			panic("bug: an RSA key without its numbers")
		}
		k, ok := c.CryptoPublicKey().(*rsa.PublicKey)
		if !ok {
			panic("bug: an RSA key that is another")
		}
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("SSH key: RSA of %d bits, not %d to %d: make another with ssh-keygen -t ed25519: %w", bits, minRSABits, maxRSABits, errkind.Invalid)
		}
		return nil
	}
	return fmt.Errorf("SSH key: type %.100s is not taken: make one with ssh-keygen -t ed25519: %w", key.Type(), errkind.Invalid)
}
