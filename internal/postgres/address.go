package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/skep-dev/skep/internal/errkind"
)

// connectTimeout is how long a server may take to answer a new connection.
const connectTimeout = 5 * time.Second

// settings that each connection starts with, unless the address has its own.
var settings = map[string]string{
	"application_name":                    "skep",
	"statement_timeout":                   "10s", // look-ups take milliseconds, lists of a page hundreds at most
	"lock_timeout":                        "5s",
	"idle_in_transaction_session_timeout": "30s", // of a node that hangs: its locks hold up the others
}

// IsAddress reports whether s is meant as the address of a PostgreSQL database.
func IsAddress(s string) bool {
	return strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://")
}

// parse reads an address. Its errors repeat nothing of it that may be a secret.
func parse(address string, opts Options) (*pgxpool.Config, error) {
	if !IsAddress(address) {
		return nil, fmt.Errorf("the address does not begin with postgres:// or postgresql://: %w", errkind.Invalid)
	}
	config, err := pgxpool.ParseConfig(address)
	if err != nil || misread(address) {
		return nil, fmt.Errorf("the address is malformed: %s: %w", reason(address, err), errkind.Invalid)
	}
	if opts.Conns > 0 {
		config.MaxConns = int32(min(opts.Conns, 1<<15)) //nolint:gosec // bounded on this line
	} else if !strings.Contains(address, "pool_max_conns=") {
		config.MaxConns = defaultConns
	}
	if !strings.Contains(address, "connect_timeout=") {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	for k, v := range settings {
		if config.ConnConfig.RuntimeParams[k] == "" {
			config.ConnConfig.RuntimeParams[k] = v
		}
	}
	return config, nil
}

// misread reports whether a password has something in it that ends the host's part of a URL: what follows was then taken for a
// port, a database or a setting, all of which appear in errors.
func misread(address string) bool {
	u, err := url.Parse(address)
	return err != nil || u.User == nil && strings.Contains(address, "@")
}

// reason is what the driver says of a malformed address, if no secret can be in that.
func reason(address string, err error) string {
	const hint = "write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @, %2F for / and so on in a password"
	inner, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if misread(address) || !ok || inner.Unwrap() == nil {
		return hint
	}
	u, _ := url.Parse(address) // it can be parsed: misread has done so
	why := oneLine(inner.Unwrap()).Error()
	for _, secret := range secrets(u) {
		if secret != "" && strings.Contains(why, secret) {
			return hint
		}
	}
	return why
}

// HasSecret reports whether an address may have a secret in it, and so must not be kept where others read. One that cannot be read may.
func HasSecret(address string) bool {
	if misread(address) {
		return true
	}
	u, _ := url.Parse(address) // it can be parsed: misread has done so
	return strings.Join(secrets(u), "") != ""
}

func secrets(u *url.URL) []string {
	password, _ := u.User.Password()
	return []string{password, u.Query().Get("password"), u.Query().Get("sslpassword")}
}

// nameOf is a database's name for errors: user@host:port/database.
func nameOf(c *pgx.ConnConfig) string {
	if strings.HasPrefix(c.Host, "/") { // a socket's folder
		return fmt.Sprintf("%s@%s/%s", c.User, c.Host, c.Database)
	}
	return fmt.Sprintf("%s@%s:%d/%s", c.User, c.Host, c.Port, c.Database)
}
