package auth

// invitationPrefix is no token's: where tokens are taken, an invitation is refused without a look-up.
const invitationPrefix = "skep_inv_"

// NewInvitation makes an invitation's secret, of as many random bits as a token's. HashSecret is how it is looked up.
func NewInvitation() (secret string, h Hash) {
	secret = invitationPrefix + newDigits()
	return secret, HashSecret(secret)
}
