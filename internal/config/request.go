package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// requestID tells signed requests apart: a hash of the actor and of the ID that the actor gave the request. A request that is sent again, by
// whoever saw it, has the same.
type requestID [16]byte

func (g *Signature) request() requestID {
	var body struct {
		Actor string `json:"actor"`
		ID    string `json:"id"`
	}
	text := g.Body
	if err := json.Unmarshal([]byte(g.Body), &body); err == nil && body.ID != "" {
		text = body.Actor + "\x00" + body.ID
	}
	sum := sha256.Sum256([]byte(text))
	return requestID(sum[:16])
}

// MarshalText writes an ID for a snapshot.
func (r requestID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, r[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *requestID) UnmarshalText(text []byte) error {
	_, err := hex.Decode(r[:], text[:min(len(text), 2*len(r))])
	return err
}

// Asked reports whether a signed request counts already.
func (s *State) Asked(g *Signature) bool {
	_, there := s.asked[g.request()]
	return there || s.under != nil && s.under.Asked(g)
}
