package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/node"
)

const controlUsage = "the control plane's database, postgres://USER@HOST/DATABASE (without it: control.db in the data folder); " +
	"a password is better in SKEP_CONTROL, PGPASSWORD or the password file than on a command line, which others can see"

const configStoreUsage = "where documents of configuration are kept: sqlite:DIR, postgres://USER@HOST/DATABASE or dynamodb://TABLE?region=REGION " +
	"(without it: config in the data folder); SKEP_CONFIG_STORE says the same"

const masterKeyUsage = "the key that wraps the keys of secrets, as file:PATH (default master-key in the data folder, made at the first start); " +
	"SKEP_MASTER_KEY may also be the key itself, 32 bytes in base64"

// off is how people switch off what is on by default.
const off = "off"

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server on a data folder, which the first start makes. Each flag is also an environment variable:
--data is SKEP_DATA, --max-open-cells is SKEP_MAX_OPEN_CELLS. A flag counts before its variable.`,
		Args: exactly(0),
	}
	flags := cmd.Flags()
	var opts node.Options
	flags.StringVar(&opts.DataDir, "data", "./skep-data", "the data folder")
	flags.StringVar(&opts.Control, "control", "", controlUsage)
	flags.Var(keyValue{&opts.MasterKey}, "master-key", masterKeyUsage)
	flags.Var(keysValue{&opts.OldMasterKeys}, "old-master-key", "master keys before that one, to replace them: what they have wrapped is wrapped anew at the start")
	flags.BoolVar(&opts.DiscardLost, "discard-lost-secrets", false, "delete the secrets whose master key is not given, because it is lost")
	flags.StringVar(&opts.Documents, "config-store", "", configStoreUsage)
	flags.StringVar(&opts.HTTPAddr, "http", node.DefaultHTTPAddr, "the address to listen on; port 0 takes a free one")
	flags.StringVar(&opts.SSHAddr, "ssh", node.DefaultSSHAddr, `the address to serve git on over SSH; port 0 takes a free one; "off" does not`)
	flags.StringVar(&opts.SSHPublic, "ssh-public", "", "HOST or HOST:PORT by which users reach it, if that is not the host of --public-url and the port of --ssh")
	flags.StringVar(&opts.PublicURL, "public-url", "", "what users reach the server by, when it is behind a proxy")
	flags.IntVar(&opts.MaxOpenCells, "max-open-cells", 0, "repositories open at once (0: the default, 1000)")
	flags.IntVar(&opts.MaxTransfers, "max-transfers", 0, "pushes, fetches and archives at once (0: the default)")
	flags.IntVar(&opts.MaxPerCaller, "max-transfers-per-caller", 0, "of one principal, or of one address without a credential (0: half of all)")
	flags.IntVar(&opts.MaxPerRepo, "max-transfers-per-repo", 0, "of one repository (0: half of all)")
	flags.Int64Var(&opts.MaxPackBytes, "max-pack-bytes", 0, "largest pack of one push (0: the default, 8 GiB)")
	flags.DurationVar(&opts.DeleteGrace, "delete-grace", 0, "how long a deleted tenant can be restored (0: the default, 720h)")
	flags.DurationVar(&opts.DrainTimeout, "drain-timeout", 30*time.Second, "how long running requests may go on when the server stops")
	flags.StringVar(&opts.CertFile, "tls-cert", "", "serve HTTPS with the certificate in this PEM file; it is read again when it changes")
	flags.StringVar(&opts.KeyFile, "tls-key", "", "and with this key")
	flags.StringVar(&opts.ClientCAFile, "tls-client-ca", "", "take client certificates that an authority in this PEM file has signed; it is read again when it changes")
	flags.StringSliceVar(&opts.ACME.Domains, "acme-domain", nil, "serve HTTPS with certificates for these names from an ACME authority, whose terms you accept")
	flags.StringVar(&opts.ACME.Email, "acme-email", "", "whom the authority may write to")
	flags.StringVar(&opts.ACME.Directory, "acme-directory", "", "the authority (default Let's Encrypt)")
	flags.StringSliceVar(&opts.Origins, "cors-origin", nil, "sites whose pages may use the API, such as https://app.example.org")
	addRateFlags(flags, &opts)
	logins := addLoginFlags(flags, &opts)
	flags.Var(prefixesValue{&opts.Proxies.Trusted}, "trusted-proxy", "networks of proxies whose word counts about who their clients are")
	flags.Var(headerValue{&opts.Proxies.Header}, "trusted-proxy-header", "in which they say so: X-Forwarded-For, Forwarded or none")
	flags.BoolVar(&opts.Proxies.Protocol, "proxy-protocol", false, "trusted proxies begin each connection with the PROXY protocol, version 1 or 2")
	flags.Var(prefixesValue{&opts.OutboundAllow}, "outbound-allow", "networks that the server may ask, for tenants and logins, although they are not public; also without TLS")
	flags.StringVar(&opts.TraceEndpoint, "trace-endpoint", "", "send traces to this collector, OTLP over HTTP: http://127.0.0.1:4318 (without it: OTEL_EXPORTER_OTLP_ENDPOINT, or nowhere)")
	flags.Float64Var(&opts.TraceSample, "trace-sample", 1, "the share of requests that is traced, 0 to 1")
	logFormat := flags.String("log-format", "text", "text or json")
	logLevel := flags.String("log-level", "info", "debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(noKeyShown(flags), fromEnvironment(flags)); err != nil {
			return err
		}
		if err := logins(); err != nil {
			return err
		}
		if opts.SSHAddr == off {
			opts.SSHAddr = ""
		}
		if opts.TraceEndpoint == "" {
			opts.TraceEndpoint = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
		}
		lines := node.NewLogWriter(cmd.ErrOrStderr())
		log, err := newLog(lines, *logFormat, *logLevel)
		if err != nil {
			return err
		}
		opts.Log, opts.Version = log, version
		return errors.Join(serve(cmd.Context(), cmd.OutOrStdout(), opts), lines.Close())
	}
	return cmd
}

// addRateFlags adds a flag for each limit on how often.
func addRateFlags(flags *pflag.FlagSet, opts *node.Options) {
	opts.Rates = map[string]limit.Quota{}
	for _, l := range node.RateLimits() {
		flags.Var(&quotaValue{l.Name, opts.Rates, l.Default}, "rate-"+l.Name, "how often "+l.Help+`; or "off"`)
	}
	opts.RateExempt = node.LoopbackPrefixes()
	flags.Var(prefixesValue{&opts.RateExempt}, "rate-exempt", `networks whose requests are not counted by these limits; or "none"`)
}

// fromEnvironment sets each flag that was not given from its environment variable.
func fromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "SKEP_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !f.Changed {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, usageError{fmt.Errorf("%s: %w", name, err)})
			}
		}
	})
	return errors.Join(errs...)
}

func newLog(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("log level %q is none of debug, info, warn, error: %w", level, errkind.Invalid)}
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, usageError{fmt.Errorf("log format %q is neither text nor json: %w", format, errkind.Invalid)}
}

func serve(ctx context.Context, stdout io.Writer, opts node.Options) error {
	keepPrivate()
	n, err := node.New(ctx, opts)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := greet(stdout, n); err != nil {
		return errors.Join(err, n.Close())
	}
	opts.Log.Info("serving", "address", n.Addr().String(), "version", opts.Version)
	err = errors.Join(n.Run(ctx), n.Close())
	if err == nil {
		opts.Log.Info("stopped")
	}
	return err
}

// greet says where the server is, and how to push: lines that can be pasted into another terminal.
func greet(w io.Writer, n *node.Node) error {
	tokenFile, err := filepath.Abs(n.AdminTokenPath())
	if err != nil {
		return fmt.Errorf("name the token file: %w", err)
	}
	text := fmt.Sprintf("Skep serves %s\n", n.URL())
	if at := n.SSHAddr(); at != nil {
		lines := []string{fmt.Sprintf("and, over SSH, ssh://git@%s with the host keys\n", at)}
		for _, k := range n.HostKeys() {
			lines = append(lines, fmt.Sprintf("    %s %s\n", k.Fingerprint, k.Kind))
		}
		text += strings.Join(lines, "")
	}
	if secret := n.FirstSecret(); secret != "" {
		text += fmt.Sprintf("\nThe administrator's token, shown this once and kept in %s:\n\n    %s\n", tokenFile, secret)
	}
	token := "$(cat " + quote(tokenFile) + ")"
	if _, err := os.Stat(tokenFile); err != nil { // taken away, or with the node that made the database
		token = "YOUR-TOKEN"
	}
	scheme, host, _ := strings.Cut(n.URL(), "://")
	text += fmt.Sprintf(`
To push a repository, in its folder, and to get it back:

    export SKEP_URL=%s SKEP_TOKEN=%s
    git push "%s://any:$SKEP_TOKEN@%s/default/demo.git" HEAD
    git clone "%s://any:$SKEP_TOKEN@%s/default/demo.git" demo

`, n.URL(), token, scheme, host, scheme, host)
	_, err = io.WriteString(w, text)
	return err
}

// quote makes s one word of a shell's command line.
func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
