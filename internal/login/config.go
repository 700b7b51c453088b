package login

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// maxProviders is how many there may be: they are shown on one page.
	maxProviders = 20
	// maxConfig bounds the file that names them.
	maxConfig = 64 << 10
)

// ParseConfigs reads a file that names providers:
//
//	[[provider]]
//	id = "corp"                             # in the callback's address
//	issuer = "https://id.example.org"
//	client_id = "skep"
//	client_secret_file = "/etc/skep/secret" # left out: a public client
//	name = "Example Corp"                   # left out: the issuer's host
//	create = true                           # left out: only who is linked may log in
//
// readSecret gives a secret file's content.
func ParseConfigs(text []byte, readSecret func(file string) (string, error)) ([]Config, error) {
	if len(text) > maxConfig {
		return nil, fmt.Errorf("file of providers has over %d bytes: %w", maxConfig, errkind.TooLarge)
	}
	var file struct {
		Provider []struct {
			ID         string `toml:"id"`
			Issuer     string `toml:"issuer"`
			ClientID   string `toml:"client_id"`
			SecretFile string `toml:"client_secret_file"`
			Name       string `toml:"name"`
			Create     bool   `toml:"create"`
		} `toml:"provider"`
	}
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		if e, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			return nil, fmt.Errorf("providers: a key that there is not:\n%s: %w", e.String(), errkind.Invalid)
		}
		return nil, fmt.Errorf("providers: %s: %w", err.Error(), errkind.Invalid)
	}
	var out []Config
	for _, p := range file.Provider {
		c := Config{ID: p.ID, Issuer: p.Issuer, ClientID: p.ClientID, Name: p.Name, Create: p.Create}
		if p.SecretFile != "" {
			var err error
			if c.ClientSecret, err = readSecret(p.SecretFile); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, CheckConfigs(out)
}

// CheckConfigs judges all providers of a server: each by itself, and that their IDs and issuers differ.
func CheckConfigs(all []Config) error {
	if len(all) > maxProviders {
		return fmt.Errorf("%d providers, more than %d: %w", len(all), maxProviders, errkind.TooLarge)
	}
	seen := map[string]bool{}
	for _, c := range all {
		if err := c.check(); err != nil {
			return err
		}
		if seen[c.ID] || seen[c.Issuer] {
			return fmt.Errorf("provider %s: its id or issuer is another's as well: %w", c.ID, errkind.Invalid)
		}
		seen[c.ID], seen[c.Issuer] = true, true
	}
	return nil
}

// validID says whether an ID can stand in an address as it is.
func validID(s string) bool {
	const most = 40
	return s != "" && len(s) <= most && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
