package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// defaultURL is where "skep serve" listens unless it is told otherwise.
const defaultURL = "http://127.0.0.1:7420"

// storedLogin is what "skep login" stores.
type storedLogin struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

func loginFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration folder: %w", err)
	}
	return filepath.Join(dir, "skep", "login.json"), nil
}

func readLogin() (storedLogin, error) {
	var l storedLogin
	file, err := loginFile()
	if err != nil {
		return l, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("read login: %w", err)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("read login from %s: %w; run skep login again", file, err)
	}
	return l, nil
}

// connect makes a client for the server and the principal that the environment or the stored login name. A token that was
// stored for one server is not sent to another.
func connect() (*client.Client, error) {
	stored, err := readLogin()
	if err != nil {
		return nil, err
	}
	at, token := os.Getenv("SKEP_URL"), os.Getenv("SKEP_TOKEN")
	if at == "" {
		at = stored.URL
	}
	if at == "" {
		at = defaultURL
	}
	if token == "" && at == stored.URL {
		token = stored.Token
	}
	return client.New(at, client.Options{Token: token, UserAgent: "skep/" + version, Intent: os.Getenv("SKEP_INTENT")})
}

func newLogin() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "login [URL]",
		Short: "Remember a server and a token: from standard input, or with --web from your browser",
		Long: `Remember a server and a token. The token is read from standard input, so that it is in no process list:

    skep login http://127.0.0.1:7420 < skep-data/admin-token

With --web you confirm a code in a browser, on this machine or another, where you log in as you do at work; the server then
makes a token for this machine:

    skep login --web https://git.example.org`,
		Args: atMostOne,
	}
	web := cmd.Flags().Bool("web", false, "log in with a browser instead, which gives this machine a token of its own")
	scope := cmd.Flags().String("scope", string(policy.ScopeWrite), "what the token from the browser lets do: read, write or admin (everything that you may)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l := storedLogin{URL: defaultURL}
		if at := os.Getenv("SKEP_URL"); at != "" {
			l.URL = at
		}
		if len(args) == 1 {
			l.URL = args[0]
		}
		var err error
		if *web {
			l.Token, err = fromBrowser(cmd, l.URL, policy.Scope(*scope))
		} else {
			l.Token, err = fromInput(cmd)
		}
		if err != nil {
			return err
		}
		c, err := client.New(l.URL, client.Options{Token: l.Token, UserAgent: "skep/" + version})
		if err != nil {
			return err
		}
		who, err := c.Whoami(cmd.Context())
		if err != nil {
			return err
		}
		l.URL = c.URL()
		if err := storeLogin(l); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Logged in to %s as %s.\n", l.URL, printable(who.Name))
		return nil
	}
	return cmd
}

// fromInput reads a token from standard input.
func fromInput(cmd *cobra.Command) (string, error) {
	if f, ok := cmd.InOrStdin().(*os.File); ok && isTerminal(f) {
		fmt.Fprint(cmd.ErrOrStderr(), "Token: ")
	}
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(line)
	if token == "" {
		return "", fmt.Errorf("no token on standard input: %w", errkind.Invalid)
	}
	return token, nil
}

// fromBrowser gets a token that a person confirms in a browser (RFC 8628).
func fromBrowser(cmd *cobra.Command, server string, scope policy.Scope) (string, error) {
	c, err := client.New(server, client.Options{UserAgent: "skep/" + version})
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // what asks then says nothing of itself
	}
	d, err := c.BeginDevice(cmd.Context(), host, scope)
	if err != nil {
		return "", fmt.Errorf("begin login: %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Open this in a browser, log in, and confirm the code:\n\n    %s\n\n    %s\n\nWaiting; the code is good for %d minutes.\n",
		printable(d.VerificationURIComplete), printable(d.UserCode), d.ExpiresIn/60)
	t, err := c.AwaitDevice(cmd.Context(), d)
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	return t.AccessToken, nil
}

// storeLogin writes the file so that nobody else can read it, not even for a moment.
func storeLogin(l storedLogin) error {
	file, err := loginFile()
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("encode login: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("store login: %w", err)
	}
	part, err := os.CreateTemp(filepath.Dir(file), "login-*.part") // a new file, so that its mode is 0600 whatever was there
	if err != nil {
		return fmt.Errorf("store login: %w", err)
	}
	_, err = part.Write(append(b, '\n'))
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("store login: %w", errors.Join(err, os.Remove(part.Name())))
	}
	return nil
}
