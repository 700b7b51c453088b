package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/bare"
)

// exitGit is what git's programs say with when they give up.
const exitGit = 128

// gitError is a failure of a program that stands in for one of git's: it is told as git tells it.
type gitError struct{ error }

func (g gitError) Unwrap() error { return g.error }

// newGitPrograms makes the commands that take the place of git's server programs.
func newGitPrograms() []*cobra.Command {
	upload := gitProgram("upload-pack [OPTION]... DIR", "Serve a fetch from a plain repository, in the place of git-upload-pack", uploadPack)
	upload.Long = `Serve a fetch or clone from a plain Git repository on disk, on standard input and output, in the place of git-upload-pack(1) and with
its options: --strict, --timeout=N, --stateless-rpc, --http-backend-info-refs (--advertise-refs). git's configuration counts.`
	receive := gitProgram("receive-pack [OPTION]... DIR", "Serve a push to a plain repository, in the place of git-receive-pack", receivePack)
	receive.Long = `Serve a push to a plain Git repository on disk, on standard input and output, in the place of git-receive-pack(1) and with its
options: --stateless-rpc, --http-backend-info-refs (--advertise-refs). git's configuration counts, and its hooks run.`
	backend := gitProgram("http-backend", "Answer a web server's CGI request, in the place of git-http-backend", httpBackend)
	backend.Long = `Answer one request for a plain Git repository on disk by CGI, in the place of git-http-backend(1): GIT_PROJECT_ROOT and
GIT_HTTP_EXPORT_ALL mean the same.`
	return []*cobra.Command{upload, receive, backend}
}

func gitProgram(use, short string, run func(ctx context.Context, a gitArgs) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, DisableFlagParsing: true}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
			return cmd.Help()
		}
		a, err := parseGitArgs(args)
		if err != nil {
			return gitError{fmt.Errorf("%w\nusage: skep %s", err, use)}
		}
		a.in, a.out, a.messages = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		if err := run(cmd.Context(), a); err != nil {
			return gitError{err}
		}
		return nil
	}
	return cmd
}

// gitArgs are what git's programs are given.
type gitArgs struct {
	in                           io.Reader
	out, messages                io.Writer
	dir                          string
	strict, stateless, advertise bool
	timeout                      time.Duration
}

func parseGitArgs(args []string) (a gitArgs, err error) {
	for i, arg := range args {
		switch arg {
		case "--strict":
			a.strict = true
		case "--no-strict":
			a.strict = false
		case "--stateless-rpc":
			a.stateless = true
		case "--http-backend-info-refs", "--advertise-refs":
			a.advertise = true
		case "--quiet", "-q", "--skip-connectivity-check":
		default:
			seconds, ok := strings.CutPrefix(arg, "--timeout=")
			switch {
			case ok:
				n, err := strconv.Atoi(seconds)
				if err != nil || n < 0 {
					return a, fmt.Errorf("--timeout=%s is no number of seconds: %w", seconds, errkind.Invalid)
				}
				a.timeout = time.Duration(n) * time.Second
			case strings.HasPrefix(arg, "-"):
				return a, fmt.Errorf("unknown option %s: %w", arg, errkind.Invalid)
			case i != len(args)-1:
				return a, fmt.Errorf("more than one folder: %w", errkind.Invalid)
			default:
				a.dir = arg
			}
		}
	}
	return a, nil
}

func (a *gitArgs) open() (*bare.Repo, bare.Service, error) {
	if a.dir == "" {
		return nil, bare.Service{}, fmt.Errorf("no folder is given: %w", errkind.Invalid)
	}
	r, err := bare.Open(a.dir, a.strict)
	return r, bare.Service{Protocol: os.Getenv("GIT_PROTOCOL"), Stateless: a.stateless, Agent: "skep/" + version}, err
}

func uploadPack(ctx context.Context, a gitArgs) error {
	r, s, err := a.open()
	if err != nil {
		return err
	}
	if a.advertise {
		return r.AdvertiseUpload(ctx, a.out, false, s)
	}
	return r.UploadPack(ctx, a.limited(), a.out, s)
}

func receivePack(ctx context.Context, a gitArgs) error {
	r, s, err := a.open()
	if err != nil {
		return err
	}
	if a.advertise {
		return r.AdvertiseReceive(ctx, a.out, false, s)
	}
	return r.ReceivePack(ctx, a.in, a.out, a.messages, s)
}

func httpBackend(ctx context.Context, a gitArgs) error {
	return bare.Backend{In: a.in, Out: a.out, Err: a.messages, Agent: "skep/" + version}.Serve(ctx)
}

// limited is standard input that fails when the client says nothing for the time of --timeout.
func (a *gitArgs) limited() io.Reader {
	if a.timeout <= 0 {
		return a.in
	}
	return &impatient{r: a.in, wait: a.timeout}
}

type impatient struct {
	r    io.Reader
	wait time.Duration
	got  chan []byte
	err  error
	rest []byte
}

// Read implements io.Reader. A read that is given up goes on in the background until the process ends, which it soon does.
func (i *impatient) Read(p []byte) (int, error) {
	if len(i.rest) == 0 {
		if i.got == nil {
			i.got = make(chan []byte)
			go i.pump()
		}
		timer := time.NewTimer(i.wait)
		defer timer.Stop()
		select {
		case b, ok := <-i.got:
			if !ok {
				return 0, i.err
			}
			i.rest = b
		case <-timer.C:
			return 0, errors.New("the client has been silent for too long")
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

func (i *impatient) pump() {
	for {
		b := make([]byte, 64<<10)
		n, err := i.r.Read(b)
		if n > 0 {
			i.got <- b[:n]
		}
		if err != nil {
			i.err = err
			close(i.got)
			return
		}
	}
}
