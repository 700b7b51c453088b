package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// nobody is who tests run as when this runs as root: git's tests over HTTP refuse to, and others are left out.
const nobody = 65534

// gitTree is one version of git, built twice: C git, and with skep's programs in place of its server's.
type gitTree struct {
	version string
	base    string // folder of all that belongs to this version
}

func (g *gitTree) stock() string   { return filepath.Join(g.base, "git") }
func (g *gitTree) swapped() string { return filepath.Join(g.base, "skep") }

// prepare gets git's source and builds it, unless that was done before.
func prepare(ctx context.Context, dir, src string) (*gitTree, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // who tests run as reads it
		return nil, err
	}
	if src == "" {
		var err error
		if src, err = debianSource(ctx, dir); err != nil {
			return nil, fmt.Errorf("get the source of Debian's git: %w", err)
		}
	}
	version, err := sourceVersion(src)
	if err != nil {
		return nil, err
	}
	g := &gitTree{version: version, base: filepath.Join(dir, version)}
	if _, err := os.Stat(filepath.Join(g.base, "built")); err == nil {
		return g, nil
	}
	if err := os.RemoveAll(g.base); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(g.base, 0o755); err != nil { //nolint:gosec // as above
		return nil, err
	}
	steps := [][]string{
		{"cp", "-R", src, g.stock()},
		{"nice", "make", "-C", g.stock(), "-j2", "CFLAGS=-O1", "NO_GETTEXT=1", "NO_TCLTK=1", "NO_PYTHON=1", "NO_RUST=1", "all"},
		{"cp", "-R", g.stock(), g.swapped()},
	}
	for _, args := range steps {
		if err := command(ctx, "", args...); err != nil {
			return nil, err
		}
	}
	if err := g.repoint(); err != nil {
		return nil, err
	}
	return g, os.WriteFile(filepath.Join(g.base, "built"), nil, 0o600)
}

// debianSource fetches and unpacks the source package of the git that Debian has for this machine.
func debianSource(ctx context.Context, dir string) (string, error) {
	to := filepath.Join(dir, "debian")
	if found, err := filepath.Glob(filepath.Join(to, "git-*", "GIT-VERSION-GEN")); err == nil && len(found) > 0 {
		return filepath.Dir(found[0]), nil
	}
	lists := filepath.Join(to, "lists")
	if err := os.MkdirAll(filepath.Join(lists, "partial"), 0o755); err != nil { //nolint:gosec // apt reads it as its own user
		return "", err
	}
	sources, err := sourceLines()
	if err != nil {
		return "", err
	}
	list := filepath.Join(to, "src.sources")
	if err := os.WriteFile(list, []byte(sources), 0o644); err != nil { //nolint:gosec // as above
		return "", err
	}
	apt := []string{
		"apt-get", "-q", "-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=-", "-o", "Dir::State::lists=" + lists,
		"-o", "APT::Sandbox::User=root",
	}
	if err := command(ctx, to, append(apt, "update")...); err != nil {
		return "", err
	}
	if err := command(ctx, to, append(apt, "--download-only", "source", "git")...); err != nil {
		return "", err
	}
	return unpack(ctx, to)
}

// sourceLines turns this machine's lists of Debian's packages into such of their sources.
func sourceLines() (string, error) {
	b, err := os.ReadFile("/etc/apt/sources.list.d/debian.sources")
	if err == nil {
		return strings.ReplaceAll(string(b), "Types: deb\n", "Types: deb-src\n"), nil
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	name := regexp.MustCompile(`(?m)^VERSION_CODENAME=(\w+)`).FindSubmatch(release)
	if name == nil {
		return "", errors.New("this machine is no Debian: give a folder with git's source (-src)")
	}
	return fmt.Sprintf("Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: %s\nComponents: main\n"+
		"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", name[1]), nil
}

// unpack makes the source of the archives: what git released, with Debian's patches.
func unpack(ctx context.Context, dir string) (string, error) {
	const script = `set -e
orig=$(ls git_*.orig.tar.xz) && version=${orig#git_} && version=${version%.orig.tar.xz}
mkdir "git-$version.part" && tar -xf "$orig" -C "git-$version.part" --strip-components=1
tar -xf git_*.debian.tar.xz -C "git-$version.part" && cd "git-$version.part"
for p in $(cat debian/patches/series 2>/dev/null); do patch -sp1 <"debian/patches/$p"; done
cd .. && mv "git-$version.part" "git-$version"`
	if err := command(ctx, dir, "sh", "-c", script); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, "git-*", "GIT-VERSION-GEN"))
	if err != nil || len(found) != 1 {
		return "", errors.New("the source package has no git-VERSION folder")
	}
	return filepath.Dir(found[0]), nil
}

var versionLine = regexp.MustCompile(`(?m)^DEF_VER=v(\S+)`)

// sourceVersion reads which git a folder has.
func sourceVersion(src string) (string, error) {
	b, err := os.ReadFile(filepath.Join(src, "GIT-VERSION-GEN"))
	if err != nil {
		return "", fmt.Errorf("%s is no source of git: %w", src, err)
	}
	m := versionLine.FindSubmatch(b)
	if m == nil {
		return "", fmt.Errorf("%s/GIT-VERSION-GEN names no version", src)
	}
	return string(m[1]), nil
}

// repoint makes the scripts of the second copy name it, and not the first.
func (g *gitTree) repoint() error {
	scripts, err := filepath.Glob(filepath.Join(g.swapped(), "bin-wrappers", "*"))
	if err != nil {
		return err
	}
	for _, path := range scripts {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b = []byte(strings.ReplaceAll(string(b), g.stock(), g.swapped()))
		if err := os.WriteFile(path, b, 0o755); err != nil { //nolint:gosec // a program
			return err
		}
	}
	return nil
}

// install puts skep in the place of git's server programs.
func (g *gitTree) install(program string) error {
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("%w: make build makes it", err)
	}
	copied := filepath.Join(g.base, "skep-program")
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(copied); err != nil {
		return err
	}
	if err := os.WriteFile(copied, b, 0o755); err != nil { //nolint:gosec // a program
		return err
	}
	for name, verb := range map[string]string{
		"git-upload-pack": "upload-pack", "git-receive-pack": "receive-pack", "git-http-backend": "http-backend",
	} {
		path := filepath.Join(g.swapped(), name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		script := fmt.Sprintf("#!/bin/sh\nexec '%s' %s \"$@\"\n", copied, verb)
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil { //nolint:gosec // a program
			return err
		}
	}
	return nil
}

// testFile finds the file with a number.
func (g *gitTree) testFile(number string) (string, bool) {
	found, err := filepath.Glob(filepath.Join(g.stock(), "t", number+"-*.sh"))
	if err != nil || len(found) == 0 {
		return "", false
	}
	return filepath.Base(found[0]), true
}

// command runs a program, whose output goes to standard error.
func command(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // written above
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args[:min(len(args), 4)], " "), err)
	}
	return nil
}

// asNobody has a command run as nobody when this runs as root, in a process group of its own that ends with it.
func asNobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
