// Package bare serves plain Git repositories on disk, as git itself keeps them.
//
// A Repo is a folder that git programs may use at the same moment: references are locked as git locks them, objects come in through a
// quarantine that git's hooks see, and what git's configuration says of a server's programs counts (git-config(1): uploadpack, receive,
// transfer, http, core). UploadPack, ReceivePack and the CGI program Backend take the place of git's own.
//
//	r, err := bare.Open("/srv/git/demo.git", false)
//	err = r.UploadPack(ctx, os.Stdin, os.Stdout, bare.Service{Protocol: os.Getenv("GIT_PROTOCOL")})
//
// Objects are read through the engine: each pack, and all loose objects together, become packs with a table. The table of a pack that is not
// small is kept in objects/info, where git leaves it alone.
package bare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// Repo is one repository on disk.
type Repo struct {
	dir    string // what holds HEAD
	common string // what holds refs, objects and config: dir, but for a linked work tree
	config *Config
	space  string // GIT_NAMESPACE as a prefix of references: "" or "refs/namespaces/a/"
	asked  string // the folder as the caller named it
}

// maxGitfileHops bounds .git files that name each other; git follows one.
const maxGitfileHops = 4

// Open finds a repository as git's server programs do: with strict just at dir, else also at dir/.git, dir.git/.git and dir.git.
func Open(dir string, strict bool) (*Repo, error) {
	found, err := find(dir, strict)
	if err != nil {
		return nil, err
	}
	if found, err = realPath(found); err != nil {
		return nil, err
	}
	r := &Repo{dir: found, common: found, asked: dir}
	if b, err := readFile(filepath.Join(found, "commondir"), maxSmallFile); err == nil {
		name := strings.TrimRight(string(b), "\n")
		if !filepath.IsAbs(name) {
			name = filepath.Join(found, name)
		}
		if r.common, err = realPath(name); err != nil {
			return nil, err
		}
	}
	if r.config, err = loadConfig(r.dir, r.common, r.checkOwner); err != nil {
		return nil, err
	}
	if r.space, err = namespace(os.Getenv("GIT_NAMESPACE")); err != nil {
		return nil, err
	}
	return r, r.checkFormat()
}

// realPath is a path without symbolic links: who owns one need not own what it names, and may make it name another thing.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// Dir is the repository's folder.
func (r *Repo) Dir() string { return r.dir }

// Config is what git's configuration says of the repository.
func (r *Repo) Config() *Config { return r.config }

func find(dir string, strict bool) (string, error) {
	if rest, ok := strings.CutPrefix(dir, "~/"); ok && !strict {
		dir = filepath.Join(os.Getenv("HOME"), rest)
	}
	tries := []string{dir}
	if !strict {
		tries = []string{dir + "/.git", dir, dir + ".git/.git", dir + ".git"}
	}
	for _, try := range tries {
		if found, ok := follow(try); ok {
			return found, nil
		}
	}
	return "", fmt.Errorf("'%s' does not appear to be a git repository: %w", dir, errkind.NotFound)
}

// follow reports whether a path is a repository, or a file that names one.
func follow(path string) (string, bool) {
	for range maxGitfileHops {
		info, err := os.Stat(path)
		if err != nil {
			return "", false
		}
		if info.IsDir() {
			return path, isRepository(path)
		}
		b, err := readFile(path, maxSmallFile)
		name, ok := strings.CutPrefix(strings.TrimRight(string(b), "\r\n"), "gitdir: ")
		if err != nil || !ok {
			return "", false
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		path = name
	}
	return "", false
}

// isRepository is git's own test: a HEAD, and folders for objects and references.
func isRepository(dir string) bool {
	common := dir
	if b, err := readFile(filepath.Join(dir, "commondir"), maxSmallFile); err == nil {
		if common = strings.TrimRight(string(b), "\n"); !filepath.IsAbs(common) {
			common = filepath.Join(dir, common)
		}
	}
	objects := filepath.Join(common, "objects")
	if d := os.Getenv("GIT_OBJECT_DIRECTORY"); d != "" {
		objects = d
	}
	head, err := readFile(filepath.Join(dir, "HEAD"), maxSmallFile)
	if err != nil || !isDir(objects) || !isDir(filepath.Join(common, "refs")) {
		return false
	}
	text := strings.TrimSpace(string(head))
	return strings.HasPrefix(text, "ref:") || len(text) == 40 || len(text) == 64
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkOwner refuses a repository of another user, whose hooks and configuration would run with this user's rights, unless safe.directory
// names it (CVE-2022-24765).
func (r *Repo) checkOwner(safe []string) error {
	for _, dir := range slices.Compact([]string{r.dir, r.common}) {
		if !owned(dir) && !named(safe, dir) {
			return fmt.Errorf("detected dubious ownership in repository at '%s': git config --global --add safe.directory %s: %w", dir, dir, errkind.Forbidden)
		}
	}
	return nil
}

// named says whether safe.directory has a folder, whose path has no symbolic links. An empty value forgets those before it.
func named(safe []string, dir string) bool {
	ok := false
	for _, s := range safe {
		above, all := strings.CutSuffix(s, "/*")
		if path, err := realPath(above); err == nil && s != "" && s != "*" {
			above = path
		}
		switch {
		case s == "":
			ok = false
		case s == "*", !all && above == dir, !all && above == filepath.Dir(dir) && filepath.Base(dir) == ".git":
			ok = true
		case all && strings.HasPrefix(dir, strings.TrimSuffix(above, "/")+"/"):
			ok = true
		}
	}
	return ok
}

func owned(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(st.Uid) == os.Geteuid()
}

// checkFormat refuses what would be misread: extensions that this engine does not know.
func (r *Repo) checkFormat() error {
	version := r.config.Int("core.repositoryformatversion", 0)
	if version > 1 {
		return fmt.Errorf("repository format version %d of %s: %w", version, r.dir, errkind.Unsupported)
	}
	if f, ok := r.config.Get("extensions.objectformat"); ok && f != "sha1" {
		return fmt.Errorf("object format %s of %s: %w", f, r.dir, errkind.Unsupported)
	}
	if f, ok := r.config.Get("extensions.refstorage"); ok && f != "files" {
		return fmt.Errorf("reference storage %s of %s: %w", f, r.dir, errkind.Unsupported)
	}
	return nil
}

// isBare reports whether the repository has no work tree.
func (r *Repo) isBare() bool {
	return r.config.Bool("core.bare", filepath.Base(r.dir) != ".git")
}

// workTree is the folder of the files that are checked out.
func (r *Repo) workTree() string {
	if dir, ok := r.config.Get("core.worktree"); ok {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(r.dir, dir)
		}
		return dir
	}
	if b, err := readFile(filepath.Join(r.dir, "gitdir"), maxSmallFile); err == nil { // a linked one
		return filepath.Dir(strings.TrimSpace(string(b)))
	}
	return filepath.Dir(r.dir)
}

// objectsDir is where the repository's own objects lie.
func (r *Repo) objectsDir() string {
	if d := os.Getenv("GIT_OBJECT_DIRECTORY"); d != "" {
		if abs, err := filepath.Abs(d); err == nil {
			return abs
		}
	}
	return filepath.Join(r.common, "objects")
}

// namespace is the prefix of the references of a namespace: a/b is refs/namespaces/a/refs/namespaces/b/.
func namespace(name string) (string, error) {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "/") {
		if part != "" {
			b.WriteString("refs/namespaces/" + part + "/")
		}
	}
	if b.Len() > 0 {
		if _, err := git.ParseRefName(strings.TrimSuffix(b.String(), "/")); err != nil {
			return "", fmt.Errorf("GIT_NAMESPACE is %q: %w", name, err)
		}
	}
	return b.String(), nil
}

// notThere reports whether an error says that there is no such file.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
