package bus

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxCredentials is more than a JWT and a seed have.
const maxCredentials = 64 << 10

// credsBegin is how a file begins that nsc wrote
// (https://docs.nats.io/using-nats/developer/connecting/creds).
const credsBegin = "-----BEGIN NATS USER JWT-----"

// withCredentials adds what the servers are shown. The file is read for each connection; that it can be read is checked now.
func withCredentials(settings []nats.Option, file string, log *slog.Logger) ([]nats.Option, error) {
	if file == "" {
		return settings, nil
	}
	text, err := readCredentials(file)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(text, credsBegin) {
		return append(settings, nats.UserCredentials(file)), nil
	}
	again := func() string {
		text, err := readCredentials(file)
		if err != nil {
			log.Error("could not read the credentials for the bus again", "error", err)
		}
		return text
	}
	if !strings.Contains(text, ":") {
		return append(settings, nats.TokenHandler(again)), nil
	}
	return append(settings, nats.UserInfoHandler(func() (user, password string) {
		user, password, _ = strings.Cut(again(), ":")
		return user, password
	})), nil
}

// readCredentials reads a file. Errors name the file, and nothing of what is in it.
func readCredentials(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read credentials: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read credentials: %w", err)
	}
	text := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxCredentials:
		return "", fmt.Errorf("read credentials: %s has more than %d bytes: %w", file, maxCredentials, errkind.TooLarge)
	case strings.HasPrefix(text, credsBegin):
		return text, nil
	case text == "" || strings.ContainsAny(text, "\r\n"):
		return "", fmt.Errorf("read credentials: %s has to have one line, USER:PASSWORD or a token, or be a .creds file of nsc: %w", file, errkind.Invalid)
	}
	return text, nil
}
