package client

import (
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// Session is somebody logged in with a browser.
type Session struct {
	ID        id.Session   `json:"id" example:"ses_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Principal id.Principal `json:"principal"`
	Address   string       `json:"address,omitempty" doc:"From which it was begun"`
	Agent     string       `json:"agent,omitempty" doc:"The browser's own words"`
	Current   bool         `json:"current" doc:"It is the one that asks"`
	CreatedAt time.Time    `json:"created_at"`
	UsedAt    time.Time    `json:"used_at" doc:"To within five minutes"`
	ExpiresAt time.Time    `json:"expires_at" doc:"At the latest: a day without use ends it too"`
}

// ProviderIdentity is somebody whom an OpenID Connect provider knows.
type ProviderIdentity struct {
	Issuer    string     `json:"issuer" example:"https://id.example.org"`
	Subject   string     `json:"subject" doc:"What the provider calls its person, for ever: the claim sub"`
	CreatedAt time.Time  `json:"created_at"`
	UsedAt    *time.Time `json:"used_at,omitempty" doc:"The last login; missing: there was none"`
}

// LinkIdentity lets somebody whom a provider knows log in as a principal.
type LinkIdentity struct {
	Issuer  string `json:"issuer" minLength:"1" maxLength:"500"`
	Subject string `json:"subject" minLength:"1" maxLength:"255"`
}
