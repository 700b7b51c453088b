package auth

import (
	"crypto/rsa"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/errkind"
)

// minRSABits and maxRSABits bound RSA keys: shorter ones can be broken, longer ones make a login slow.
const (
	minRSABits = 2048
	maxRSABits = 16384
)

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
