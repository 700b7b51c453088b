package auth

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/policy"
)

const (
	// certSkew is how far ahead the clock of who signs may be, as with JWTs. A certificate ends when it says so.
	certSkew = 60 * time.Second
	// maxCertPrincipals bounds the look-ups that a certificate costs. OpenSSH takes 256.
	maxCertPrincipals = 100
	// maxSourceAddresses bounds the addresses of a certificate's source-address.
	maxSourceAddresses = 100
	// sourceAddress is the one critical option that is known: the addresses from which the certificate may be used. What else OpenSSH
	// knows (PROTOCOL.certkeys) asks for what is not done here, so a certificate that has it is refused.
	sourceAddress = "source-address"
)

// SSHVoucher is what an SSH certificate says of who presents it, once it is known that the authority has signed it.
type SSHVoucher struct {
	Authority string        // the fingerprint of the authority's key, as ssh-keygen -l prints it
	Names     []string      // the certificate's principals
	Lifetime  time.Duration // from its beginning to its end; the greatest Duration if it has no end
}

// SSHAuthorities finds the principal for whom a voucher speaks: errkind.Unauthorized when nobody trusts the authority to speak for it.
type SSHAuthorities interface {
	Vouched(ctx context.Context, v SSHVoucher) (policy.Principal, error)
}

// FromSSHCertificate authenticates whoever has shown, in an SSH handshake from an address, that it has the key of a user certificate. The
// certificate's key ID and extensions do not count here.
//
// Nothing that it says counts before its signature is found good, but that alone lets nobody in: the authority must be one of the
// tenant that its principal belongs to.
func FromSSHCertificate(ctx context.Context, authorities SSHAuthorities, cert *ssh.Certificate, from netip.Addr, now time.Time) (policy.Principal, error) {
	if why := refuseSSHCertificate(cert, from, now); why != "" {
		return policy.Principal{}, Refusal("this SSH certificate is not valid: " + why)
	}
	v := SSHVoucher{Authority: ssh.FingerprintSHA256(cert.SignatureKey), Names: cert.ValidPrincipals, Lifetime: lifetime(cert)}
	p, err := authorities.Vouched(ctx, v)
	if err != nil {
		return policy.Principal{}, fmt.Errorf("check SSH certificate: %w", err)
	}
	if p.Anonymous() {
		panic("bug: an SSH certificate of nobody")
	}
	return p, nil
}

// refuseSSHCertificate says what is wrong with a certificate, whoever has signed it; empty: nothing.
func refuseSSHCertificate(cert *ssh.Certificate, from netip.Addr, now time.Time) (why string) {
	at := uint64(max(now.Unix(), 0))
	switch {
	case cert.CertType != ssh.UserCert:
		return "it is not of a user"
	case len(cert.ValidPrincipals) == 0:
		return "it names no principal, and so would be anybody's"
	case len(cert.ValidPrincipals) > maxCertPrincipals:
		return fmt.Sprintf("it names more than %d principals", maxCertPrincipals)
	case cert.ValidAfter > at+uint64(certSkew/time.Second):
		return "its time has not begun"
	case cert.ValidBefore != ssh.CertTimeInfinity && cert.ValidBefore > math.MaxInt64:
		return "its end is none that can be"
	case cert.ValidBefore != ssh.CertTimeInfinity && cert.ValidBefore <= max(at, cert.ValidAfter):
		return "it has expired"
	case cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA:
		return "it is signed with SHA-1: sign with rsa-sha2-512, as ssh-keygen has done since OpenSSH 8.2" // whose collisions can be made
	case CheckSSHKey(cert.Key) != nil:
		return "its key is not good enough: make one with ssh-keygen -t ed25519"
	}
	for option := range cert.CriticalOptions {
		if option != sourceAddress {
			return fmt.Sprintf("its critical option %.100q is not known here", option)
		}
	}
	if addresses, ok := cert.CriticalOptions[sourceAddress]; ok && !cameFrom(from, addresses) {
		return "it may not be used from here"
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{sourceAddress},
		Clock:                    func() time.Time { return time.Unix(int64(cert.ValidAfter), 0) }, // its times have been judged
	}
	if checker.CheckCert(cert.ValidPrincipals[0], cert) != nil {
		return "its signature is not its authority's"
	}
	return ""
}

// cameFrom reports whether an address is one of a source-address, which are addresses and networks with commas between them. One that
// cannot be read allows nothing.
func cameFrom(from netip.Addr, addresses string) bool {
	list := strings.SplitN(addresses, ",", maxSourceAddresses+1)
	if !from.IsValid() || len(list) > maxSourceAddresses {
		return false
	}
	from, inside := from.Unmap().WithZone(""), false
	for _, one := range list {
		network, err := netip.ParsePrefix(one)
		if err != nil {
			addr, err := netip.ParseAddr(one)
			if err != nil {
				return false
			}
			network = netip.PrefixFrom(addr, addr.BitLen())
		}
		inside = inside || network.Contains(from)
	}
	return inside
}

func lifetime(cert *ssh.Certificate) time.Duration {
	if seconds := cert.ValidBefore - cert.ValidAfter; seconds < uint64(math.MaxInt64/time.Second) {
		return time.Duration(seconds) * time.Second
	}
	return math.MaxInt64
}
