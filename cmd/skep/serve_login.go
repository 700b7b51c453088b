package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/login"
	"github.com/skep-dev/skep/internal/node"
)

// onlyProvider is the ID of the provider that flags name: its callback is /login/callback/oidc.
const onlyProvider = "oidc"

// addLoginFlags adds the flags that name OpenID Connect providers. What comes back reads them, once they are set.
func addLoginFlags(flags *pflag.FlagSet, opts *node.Options) (read func() error) {
	one := login.Config{ID: onlyProvider}
	flags.StringVar(&one.Issuer, "oidc-issuer", "", "let people log in with this OpenID Connect provider, whose URL this is; it sends them back to /login/callback/"+onlyProvider)
	flags.StringVar(&one.ClientID, "oidc-client-id", "", "what the provider calls this server")
	secretFile := flags.String("oidc-client-secret-file", "", "a file with the secret that the provider gave this server, if it did")
	flags.StringVar(&one.Name, "oidc-name", "", "what people know the provider by (default its host)")
	flags.BoolVar(&one.Create, "oidc-create", false, "make a principal, without rights, of whoever logs in first; else an administrator links people: skep principal link")
	file := flags.String("oidc-providers", "", "a TOML file that names several providers instead: see the guide, Log in")
	flags.DurationVar(&opts.TokenTTL, "login-token-ttl", 30*24*time.Hour, "how long a token lives that skep login --web gets")
	return func() (err error) {
		switch {
		case one.Issuer != "" && *file != "":
			return usageError{fmt.Errorf("--oidc-issuer and --oidc-providers: one of them: %w", errkind.Invalid)}
		case *file != "":
			text, err := os.ReadFile(*file)
			if err != nil {
				return fmt.Errorf("read providers: %w", err)
			}
			opts.Logins, err = login.ParseConfigs(text, readSecretFile)
			return err
		case one.Issuer == "":
			return nil
		}
		if *secretFile != "" {
			if one.ClientSecret, err = readSecretFile(*secretFile); err != nil {
				return err
			}
		}
		opts.Logins = []login.Config{one}
		return nil
	}
}

// readSecretFile reads a secret that lies alone in a file.
func readSecretFile(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read client secret: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", fmt.Errorf("client secret: %s is empty: %w", file, errkind.Invalid)
	}
	return secret, nil
}
