package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config/daemon"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/node"
)

// Where the daemon listens.
const (
	defaultConfigHTTP = "127.0.0.1:9400"
	defaultConfigGRPC = "127.0.0.1:9401"
)

func newConfigDaemon(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Serve the document of this folder by REST and gRPC",
		Long: `Serve the document of this folder, or of the nearest one above that has one, by REST and gRPC.

How callers are known is in the table [auth] of .conflux/config.toml. Without it they name themselves, and only this machine reaches the daemon.
The files rbac.toml, api-keys.toml and keys.json are read again when they change.`,
		Args: exactly(0),
	}
	flags := cmd.Flags()
	address := flags.String("http", defaultConfigHTTP, "the address of the REST API; port 0 takes a free one")
	grpc := flags.String("grpc", defaultConfigGRPC, "the address of the gRPC API; port 0 takes a free one, and none has none")
	port := flags.Uint16("port", 0, "another port of 127.0.0.1 for the REST API; the same as --http 127.0.0.1:PORT")
	logFormat := flags.String("log-format", "text", "text or json")
	logLevel := flags.String("log-level", "info", "debug, info, warn or error")
	cmd.MarkFlagsMutuallyExclusive("http", "port")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if err := f.onlyInFolder(cmd, ""); err != nil {
			return err
		}
		lines := node.NewLogWriter(cmd.ErrOrStderr())
		defer func() { err = errors.Join(err, lines.Close()) }()
		log, err := newLog(lines, *logFormat, *logLevel)
		if err != nil {
			return err
		}
		if *port != 0 {
			*address = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(*port)))
		}
		w, err := workspace.Open(cmd.Context(), f.dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		return serveConfig(cmd.Context(), cmd.OutOrStdout(), w, *address, *grpc, daemon.Options{Log: log, Version: version})
	}
	return cmd
}

func serveConfig(ctx context.Context, out io.Writer, w *workspace.Workspace, address, grpc string, opts daemon.Options) error {
	keepPrivate()
	d, err := daemon.New(w, opts) //nolint:contextcheck // its handlers have their requests'
	if err != nil {
		return err
	}
	var listeners []net.Listener
	for _, l := range []struct{ what, at, path string }{{"REST", address, "/v1"}, {"gRPC", grpc, ""}} {
		if l.at == "" || l.at == "none" {
			continue
		}
		ln, err := d.Listen(ctx, l.at)
		if err == nil {
			listeners = append(listeners, ln)
			_, err = fmt.Fprintf(out, "%s of document %s on %s://%s%s\n", l.what, w.Settings.Document, d.Scheme(), ln.Addr(), l.path)
		}
		if err != nil {
			for _, ln := range listeners {
				err = errors.Join(err, ln.Close())
			}
			return err
		}
	}
	return d.Run(ctx, listeners...)
}
