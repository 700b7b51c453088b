package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

func newImport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import URL|DIR TENANT/NAME",
		Short: "Bring a repository in, with all its branches and tags",
		Long: `Bring a repository in from a remote (http, https or ssh) or from a local directory. The repository is made; it must not
exist yet, or be empty. The pack streams from there to Skep and is kept nowhere in between.`,
		Example: `  skep import https://example.com/project.git default/project
  skep import ssh://git@example.com/project.git default/project
  skep import ./project default/project`,
		Args: exactly(2),
	}
	public := cmd.Flags().Bool("public", false, "let everybody read it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tenant, name, err := splitName(args[1])
		if err != nil {
			return err
		}
		to, err := connect()
		if err != nil {
			return err
		}
		from, err := openRemote(args[0])
		if err != nil {
			return err
		}
		im := importer{from: from, to: to, tenant: tenant, name: name, visibility: client.Private, bar: newBar(cmd.ErrOrStderr())}
		if *public {
			im.visibility = client.Public
		}
		return im.run(cmd.Context())
	}
	return cmd
}

// openRemote makes a client for what a person calls a repository: a URL, host:path as ssh knows it, or a directory.
func openRemote(where string) (*protocol.Client, error) {
	agent := "skep/" + version
	scheme, rest, isURL := strings.Cut(where, "://")
	switch {
	case isURL && (scheme == "http" || scheme == "https"):
		return protocol.NewHTTPClient(&http.Client{}, where, protocol.HTTPOptions{Agent: agent})
	case isURL && scheme == "ssh":
		u, err := url.Parse(where)
		if err != nil || u.Host == "" {
			return nil, usageError{fmt.Errorf("address %q is no ssh URL: %w", where, errkind.Invalid)}
		}
		return sshClient(u.User.Username(), u.Hostname(), u.Port(), u.Path, agent)
	case isURL && scheme == "file":
		return localClient(rest, agent)
	case isURL:
		return nil, usageError{fmt.Errorf("address %q: http, https, ssh and directories can be imported: %w", where, errkind.Unsupported)}
	}
	if _, err := os.Stat(where); err == nil {
		return localClient(where, agent)
	}
	host, path, ok := strings.Cut(where, ":")
	if !ok || strings.Contains(host, "/") {
		return nil, fmt.Errorf("import %s: no such directory, and no URL: %w", where, errkind.NotFound)
	}
	user, name, ok := strings.Cut(host, "@")
	if !ok {
		user, name = "", host
	}
	return sshClient(user, name, "", path, agent)
}

// localClient reads a directory through git itself, so whatever layout git understands can be imported.
func localClient(dir, agent string) (*protocol.Client, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("import a directory: git must be installed: %w", err)
	}
	return protocol.NewCommandClient(func(ctx context.Context, service string) *exec.Cmd {
		return exec.CommandContext(ctx, git, strings.TrimPrefix(service, "git-"), "--", dir) //nolint:gosec // the user's own directory, and -- before it
	}, agent), nil
}

func sshClient(user, host, port, path, agent string) (*protocol.Client, error) {
	if strings.HasPrefix(host, "-") || strings.HasPrefix(user, "-") || host == "" {
		return nil, usageError{fmt.Errorf("host %q: %w", host, errkind.Invalid)}
	}
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return nil, fmt.Errorf("import over ssh: ssh must be installed: %w", err)
	}
	args := []string{"-o", "SendEnv=GIT_PROTOCOL"}
	if port != "" {
		args = append(args, "-p", port)
	}
	if user != "" {
		host = user + "@" + host
	}
	quoted := "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	return protocol.NewCommandClient(func(ctx context.Context, service string) *exec.Cmd {
		return exec.CommandContext(ctx, ssh, append(slices.Clone(args), "--", host, service+" "+quoted)...) //nolint:gosec // the user's own host
	}, agent), nil
}

// importer is one import.
type importer struct {
	from         *protocol.Client
	to           *client.Client
	tenant, name string
	visibility   client.Visibility
	bar          *bar
}

func (im *importer) full() string { return im.tenant + "/" + im.name }

func (im *importer) run(ctx context.Context) error {
	began := time.Now()
	list, err := im.from.List(ctx, "refs/heads/", "refs/tags/")
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	for _, s := range list.Skipped {
		im.bar.say("skipped %q: not a reference's name by git's rules", s)
	}
	made, err := im.make(ctx, list)
	if err != nil {
		return err
	}
	count, err := im.copy(ctx, list)
	if err != nil {
		if made != "" {
			// What was made for the import goes with it, even if the import was interrupted.
			if derr := im.to.DeleteRepo(context.WithoutCancel(ctx), made); derr != nil {
				im.bar.say("could not delete the unfinished %s: %v", im.full(), derr)
			}
		}
		return fmt.Errorf("import into %s: %w", im.full(), err)
	}
	im.bar.say("Imported %d references and %d objects (%s) into %s in %s.",
		len(list.Refs), count.objects, size(count.bytes), im.full(), time.Since(began).Round(10*time.Millisecond))
	return nil
}

// make creates the repository, or sees that the one that is there is empty. It returns the ID of what it made.
func (im *importer) make(ctx context.Context, list *protocol.Listing) (string, error) {
	ask := client.CreateRepo{Tenant: im.tenant, Name: im.name, Visibility: im.visibility}
	if list.Head.IsBranch() {
		ask.DefaultBranch = list.Head.Short()
	}
	r, err := im.to.CreateRepo(ctx, ask)
	if err == nil {
		return string(r.ID), nil
	}
	if !errors.Is(err, errkind.Exists) {
		return "", fmt.Errorf("create %s: %w", im.full(), err)
	}
	refs, err := im.to.Refs(ctx, im.full(), "", "", 1)
	if err != nil {
		return "", fmt.Errorf("look into %s: %w", im.full(), err)
	}
	if len(refs.Items) > 0 {
		return "", fmt.Errorf("%s exists and is not empty: push to it, or choose another name: %w", im.full(), errkind.Exists)
	}
	return "", nil
}

// copy fetches everything and pushes it as it comes.
func (im *importer) copy(ctx context.Context, list *protocol.Listing) (counter, error) {
	var count counter
	if len(list.Refs) == 0 {
		return count, nil
	}
	push, err := protocol.NewHTTPClient(&http.Client{}, im.to.URL()+"/"+im.full()+".git",
		protocol.HTTPOptions{Token: im.to.Token(), Agent: "skep/" + version})
	if err != nil {
		return count, err
	}
	wants := make(map[git.OID]bool, len(list.Refs))
	updates := make([]git.RefUpdate, 0, len(list.Refs))
	for _, r := range list.Refs {
		wants[r.OID] = true
		updates = append(updates, git.RefUpdate{Name: r.Name, New: r.OID})
	}
	ask := protocol.FetchRequest{Progress: &stages{bar: im.bar, who: "remote"}}
	for o := range wants {
		ask.Wants = append(ask.Wants, o)
	}
	slices.SortFunc(ask.Wants, git.OID.Compare)
	pack, err := im.from.Fetch(ctx, ask)
	if err != nil {
		return count, err
	}
	defer pack.Close() // it was only read from; Push has seen its errors
	count.r, count.bar = pack, im.bar
	result, err := push.Push(ctx, protocol.PushRequest{
		Updates: updates, Pack: &count, Atomic: true, Progress: &stages{bar: im.bar, who: "skep"},
	})
	if err == nil {
		err = result.Err()
	}
	return count, err
}

// counter watches a pack go by.
type counter struct {
	r       io.Reader
	bar     *bar
	bytes   int64
	objects uint32
	head    []byte
}

// packHeader is "PACK", the version and the number of objects.
const packHeader = 12

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bytes += int64(n)
	if missing := packHeader - len(c.head); missing > 0 {
		if c.head = append(c.head, p[:min(n, missing)]...); len(c.head) == packHeader {
			c.objects = binary.BigEndian.Uint32(c.head[8:])
		}
	}
	c.bar.step("Transferring", 0, 0, fmt.Sprintf(" (%d objects, %s so far)", c.objects, size(c.bytes)))
	return n, err
}

// stages draws the progress lines of a remote: "Resolving deltas:  50% (5/10)".
type stages struct {
	bar  *bar
	who  string
	rest []byte
}

var stageLine = regexp.MustCompile(`^([^:]+):\s+\d+% \((\d+)/(\d+)\)`)

// maxStageLine bounds what is kept of a line that does not end.
const maxStageLine = 4096

func (s *stages) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		i := bytes.IndexAny(s.rest, "\r\n")
		if i < 0 {
			if len(s.rest) > maxStageLine {
				s.rest = nil
			}
			return len(p), nil
		}
		if m := stageLine.FindSubmatch(s.rest[:i]); m != nil {
			done, _ := strconv.ParseInt(string(m[2]), 10, 64)
			total, _ := strconv.ParseInt(string(m[3]), 10, 64)
			s.bar.step(s.who+": "+printable(string(m[1])), done, total, "")
		}
		s.rest = s.rest[i+1:]
	}
}
