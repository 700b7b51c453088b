package sshd

import "golang.org/x/crypto/ssh"

// What is spoken: what OpenSSH 7.4 (2016) and everything newer can, and nothing that is known to be weak. There is no SHA-1, in signatures
// (ssh-rsa) or elsewhere, no CBC, no MAC that is computed before encryption, and no Diffie-Hellman over integers, whose groups are
// either small or slow.
var (
	keyExchanges = []string{
		ssh.KeyExchangeMLKEM768X25519, // also safe from who records now and has a quantum computer later
		ssh.KeyExchangeCurve25519,
		ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
	}
	ciphers = []string{
		ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, // with their own integrity
		ssh.CipherAES128CTR, ssh.CipherAES256CTR,
	}
	macs = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM}
	// userKeys are how clients may sign, with keys and in certificates: see auth.CheckSSHKey.
	userKeys = []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
	// rsaHostKey is how the RSA host key signs.
	rsaHostKey = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
)
