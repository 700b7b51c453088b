package main

import (
	"archive/tar"
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// exportFormat is the number of the form that export_readme.md describes.
const exportFormat = 1

// maxExportTries is how often a repository is asked for when pushes move what was just listed.
const maxExportTries = 3

//go:embed export_readme.md
var exportReadme []byte

// exported is export.json.
type exported struct {
	Format       int              `json:"format"`
	Server       string           `json:"server"`
	ExportedAt   time.Time        `json:"exported_at"`
	Tenants      []exportedTenant `json:"tenants"`
	Repositories []exportedRepo   `json:"repositories"`
	Documents    []exportedDoc    `json:"documents"`
}

type exportedTenant struct {
	client.TenantDetails
	MemberList []client.Member    `json:"member_list"`
	Groups     []client.Group     `json:"groups"`
	Accounts   []client.Principal `json:"accounts"`
	Policy     client.Policy      `json:"policy"`
}

type exportedRepo struct {
	client.Repo
	Shares []client.Share `json:"shares"`
	Bundle string         `json:"bundle,omitempty"` // its file; "" of a repository without references
}

type exportedDoc struct {
	client.Document
	Log string `json:"log,omitempty"` // its file; missing if who exports may not read all of it
}

func newTenantExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export PATH -o DIR|FILE.tar",
		Short: "Write a tenant and all below it to files, in open formats",
		Long: `Write a tenant and all below it to a new directory, or to a tar file: JSON of the tenants, their members, groups, accounts and policies,
and of the repositories and their settings; and each repository as a git bundle. A README.md in it describes the form. It holds
what you may see, with your own credential; secrets and tokens are not in it.`,
		Args: exactly(1),
	}
	to := cmd.Flags().StringP("output", "o", "", "a directory that is empty or not there yet, or a new FILE.tar")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *to == "" {
			return usageError{fmt.Errorf("-o is missing: usage: %s", cmd.UseLine())}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		e := exporter{c: c, bar: newBar(cmd.ErrOrStderr()), out: exported{Format: exportFormat, Server: c.URL(), ExportedAt: time.Now().UTC()}}
		if err := e.export(cmd.Context(), args[0], *to); err != nil {
			return fmt.Errorf("export %s: %w", args[0], err)
		}
		e.bar.say("Exported %s, %s and %s to %s.", english.Plural(len(e.out.Tenants), "tenant", ""),
			english.Plural(len(e.out.Repositories), "repository", ""), english.Plural(len(e.out.Documents), "document", ""), *to)
		return nil
	}
	return cmd
}

type exporter struct {
	c    *client.Client
	bar  *bar
	root *os.Root // whatever the server calls a file, it is in there
	out  exported
}

// export writes to a directory, or by way of one to a tar file, which gets its name when it is whole.
func (e *exporter) export(ctx context.Context, tenant, to string) (err error) {
	if !strings.HasSuffix(to, ".tar") {
		return e.exportDir(ctx, tenant, to)
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s: %w", to, errkind.Exists)
	}
	dir, err := os.MkdirTemp(filepath.Dir(to), "skep-export-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	part := dir + ".tar"
	if err := e.exportDir(ctx, tenant, dir); err != nil {
		return err
	}
	if err := writeTar(part, dir); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, to)
}

func (e *exporter) exportDir(ctx context.Context, tenant, dir string) (err error) {
	switch list, err := os.ReadDir(dir); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case len(list) > 0:
		return fmt.Errorf("%s is not empty: %w", dir, errkind.Exists)
	}
	if err := e.tenant(ctx, tenant); err != nil { // before anything is made
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if e.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.root.Close()) }()
	if err := e.root.Mkdir("repositories", 0o700); err != nil {
		return err
	}
	for i := range e.out.Repositories {
		r := &e.out.Repositories[i]
		e.bar.step(printable(r.FullName()), int64(i), int64(len(e.out.Repositories)), "")
		if r.Bundle, err = e.bundle(ctx, r.Repo); err != nil {
			return fmt.Errorf("repository %s: %w", r.FullName(), err)
		}
	}
	if err := e.root.Mkdir("documents", 0o700); err != nil {
		return err
	}
	for i := range e.out.Documents {
		d := &e.out.Documents[i]
		e.bar.step(printable(d.FullName()), int64(i), int64(len(e.out.Documents)), "")
		if d.Log, err = e.log(ctx, d.Document); err != nil {
			return fmt.Errorf("document %s: %w", d.FullName(), err)
		}
	}
	b, err := json.MarshalIndent(e.out, "", "  ")
	if err != nil {
		return err
	}
	if err := e.root.WriteFile("README.md", exportReadme, 0o600); err != nil {
		return err
	}
	return e.root.WriteFile("export.json", append(b, '\n'), 0o600) // last: with it, the export is whole
}

// tenant notes down a tenant, its repositories, and the tenants below it.
func (e *exporter) tenant(ctx context.Context, ref string) (err error) {
	var t exportedTenant
	if t.TenantDetails, err = e.c.Tenant(ctx, ref); err != nil {
		return err
	}
	e.bar.step("tenants", int64(len(e.out.Tenants)), 0, " "+printable(t.Path))
	at := string(t.ID)
	if t.MemberList, err = e.c.Members(ctx, at); err != nil {
		return fmt.Errorf("members of %s: %w", t.Path, err)
	}
	if t.Groups, err = e.c.Groups(ctx, at); err != nil {
		return fmt.Errorf("groups of %s: %w", t.Path, err)
	}
	if t.Policy, err = e.c.Policy(ctx, at); err != nil {
		return fmt.Errorf("policy of %s: %w", t.Path, err)
	}
	if t.Accounts, err = collect(ctx, func(ctx context.Context, cursor string, limit int) (client.Page[client.Principal], error) {
		return e.c.Accounts(ctx, at, cursor, limit)
	}); err != nil {
		return fmt.Errorf("accounts of %s: %w", t.Path, err)
	}
	e.out.Tenants = append(e.out.Tenants, t)
	repos, err := collect(ctx, func(ctx context.Context, cursor string, limit int) (client.Page[client.Repo], error) {
		return e.c.Repos(ctx, at, cursor, limit)
	})
	if err != nil {
		return err
	}
	for _, r := range repos {
		full := exportedRepo{}
		if full.Repo, err = e.c.Repo(ctx, string(r.ID)); err != nil {
			return fmt.Errorf("repository %s: %w", r.FullName(), err)
		}
		if full.Shares, err = e.c.Shares(ctx, string(r.ID)); err != nil {
			return fmt.Errorf("shares of %s: %w", r.FullName(), err)
		}
		e.out.Repositories = append(e.out.Repositories, full)
	}
	docs, err := collect(ctx, func(ctx context.Context, cursor string, limit int) (client.Page[client.Document], error) {
		return e.c.Documents(ctx, at, cursor, limit)
	})
	if err != nil && !errors.Is(err, errkind.Forbidden) { // who may read no configuration exports none
		return fmt.Errorf("documents of %s: %w", t.Path, err)
	}
	for _, d := range docs {
		e.out.Documents = append(e.out.Documents, exportedDoc{Document: d})
	}
	children, err := collect(ctx, func(ctx context.Context, cursor string, limit int) (client.Page[client.Tenant], error) {
		return e.c.Children(ctx, at, cursor, limit)
	})
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := e.tenant(ctx, string(child.ID)); err != nil {
			return err
		}
	}
	return nil
}

// log writes a document's log, if who exports may have it, and names the file.
func (e *exporter) log(ctx context.Context, d client.Document) (name string, err error) {
	name = path.Join("documents", d.ID+".jsonl")
	f, err := e.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	err = e.c.Document(string(d.TenantID), d.ID).ExportLog(ctx, f, client.ExportQuery{})
	err = errors.Join(err, f.Close())
	if errors.Is(err, errkind.Forbidden) {
		e.bar.say("The log of document %s is left out: it tells every field, which you may not read.", printable(d.FullName()))
		return "", e.root.Remove(name)
	}
	return name, err
}

// bundle writes a repository's bundle, if it has references, and names the file.
func (e *exporter) bundle(ctx context.Context, r client.Repo) (name string, err error) {
	for range maxExportTries {
		if name, err = e.tryBundle(ctx, r); !errors.Is(err, errkind.NotFound) {
			return name, err
		}
	}
	return "", err
}

func (e *exporter) tryBundle(ctx context.Context, r client.Repo) (name string, err error) {
	refs, err := collect(ctx, func(ctx context.Context, cursor string, limit int) (client.Page[client.Ref], error) {
		return e.c.Refs(ctx, string(r.ID), "", cursor, limit)
	})
	if err != nil || len(refs) == 0 {
		return "", err
	}
	var want []git.OID
	seen := map[git.OID]bool{}
	for _, ref := range refs {
		if !seen[ref.SHA] {
			seen[ref.SHA] = true
			want = append(want, ref.SHA)
		}
	}
	pack, err := e.c.Fetch(ctx, string(r.ID), client.FetchRequest{Want: want})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, pack.Close()) }()
	name = path.Join("repositories", string(r.ID)+".bundle")
	f, err := e.root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriter(f)
	writeBundleHeader(w, r, refs)
	_, err = io.Copy(w, pack)
	return name, errors.Join(err, w.Flush(), f.Close())
}

// writeBundleHeader begins a bundle of version 2 (https://git-scm.com/docs/gitformat-bundle); the pack follows. HEAD is in it, so
// that a clone of the bundle checks the default branch out. What cannot be written, Flush says.
func writeBundleHeader(w *bufio.Writer, r client.Repo, refs []client.Ref) {
	_, _ = w.WriteString("# v2 git bundle\n")
	for _, ref := range refs {
		if ref.Name == "refs/heads/"+r.DefaultBranch {
			_, _ = fmt.Fprintf(w, "%s HEAD\n", ref.SHA)
		}
	}
	for _, ref := range refs {
		_, _ = fmt.Fprintf(w, "%s %s\n", ref.SHA, ref.Name)
	}
	_, _ = w.WriteString("\n")
}

// writeTar puts a directory's files into a new tar file.
func writeTar(name, dir string) (err error) {
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	tw := tar.NewWriter(out)
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return addToTar(tw, dir, file)
	})
	return errors.Join(err, tw.Close())
}

func addToTar(tw *tar.Writer, dir, file string) (err error) {
	rel, err := filepath.Rel(dir, file)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := &tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: info.Size(), ModTime: info.ModTime(), Format: tar.FormatPAX}
	if err := tw.WriteHeader(head); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}
