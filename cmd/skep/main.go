// Command skep is the server and its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/errkind"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	os.Exit(exitCode(err))
}

// The exit codes, for scripts.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitDenied   = 4
	exitConflict = 5
)

// exitCode prints an error as one line and turns its kind into the process's exit code.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "skep: interrupted")
		return exitFailed
	}
	if g, ok := errors.AsType[gitError](err); ok {
		fmt.Fprintln(os.Stderr, "fatal: "+strings.TrimSuffix(g.Error(), ": "+errkind.Of(err).Error()))
		return exitGit
	}
	// What kind of failure it is, the exit code says.
	text := strings.TrimSuffix(err.Error(), ": "+errkind.Of(err).Error())
	for line := range strings.SplitSeq("skep: "+text, "\n") { // several, when errors were joined
		fmt.Fprintln(os.Stderr, printable(line)) // a server's words may be among them
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	switch errkind.Of(err) {
	case errkind.NotFound:
		return exitNotFound
	case errkind.Unauthorized, errkind.Forbidden, errkind.QuotaExceeded:
		return exitDenied
	case errkind.Conflict, errkind.Exists:
		return exitConflict
	case errkind.Internal, errkind.Invalid, errkind.TooLarge, errkind.Unavailable, errkind.RateLimited,
		errkind.Unsupported:
		return exitFailed
	}
	return exitFailed
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func newRoot() *cobra.Command {
	root := group("skep", "A Git server in which every repository is a cell of its own, and its command line",
		newServe(), newDoctor(), newVersion(), newLogin(), newSession(), newRepo(), newImport(), newToken(), newKey(), newDeployKey(),
		newTenant(), newShare(), newAccount(), newInvite(), newPrincipal(), newGroup(), newPolicy(), newIssuer(), newSSHCA(), newCert(),
		newSecret(), newAudit(), newConfig())
	root.AddCommand(newGitPrograms()...)
	root.Long = `Skep hosts Git repositories. "skep serve" is the server; the other commands talk to one.

SKEP_URL and SKEP_TOKEN say which server and who you are; without them, what "skep login" stored counts. SKEP_INTENT says why you
do something: the server's audit log keeps it.

Exit codes: 0 done, 1 failed, 2 command line not understood, 3 not found, 4 not allowed, 5 taken, or changed meanwhile.`
	root.Version, root.SilenceUsage, root.SilenceErrors = version, true, true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %q", err, cmd.CommandPath()+" --help")}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "skep "+version)
			return err
		},
	}
}

// exactly is cobra.ExactArgs with an error that shows how the command is used.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
		}
		return nil
	}
}

// oneTo is cobra.RangeArgs(1, most) with such an error.
func oneTo(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < 1 || len(args) > most {
			return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
		}
		return nil
	}
}

// atMostOne is cobra.MaximumNArgs(1) with such an error.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
	}
	return nil
}

// group makes a command that only has commands below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; see %q", args[0], cmd.CommandPath()+" --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(commands...)
	return c
}
