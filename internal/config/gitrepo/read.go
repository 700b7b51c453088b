package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/errkind"
)

const branches = "refs/heads/"

// ref returns a branch's reference.
func (r *Repo) ref(ctx context.Context, branch string) (string, error) {
	if _, err := r.git(ctx, nil, "check-ref-format", branches+branch); err != nil || strings.HasPrefix(branch, "-") {
		return "", fmt.Errorf("branch %q: git has no branch of such a name: %w", branch, errkind.Invalid)
	}
	return branches + branch, nil
}

// Tip returns the commit that a branch is at. A remote is asked, and what it has is fetched.
func (r *Repo) Tip(ctx context.Context, branch string) (string, error) {
	ref, err := r.ref(ctx, branch)
	if err != nil {
		return "", err
	}
	if r.remote != "" {
		return r.fetch(ctx, ref)
	}
	return r.local(ctx, ref)
}

// local returns the commit that a reference is at, "" if it is not there.
func (r *Repo) local(ctx context.Context, ref string) (string, error) {
	out, err := r.git(ctx, nil, "for-each-ref", "--format=%(objectname) %(refname)", ref)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); name == ref {
			return id, nil
		}
	}
	return "", nil
}

// fetch brings a branch of the remote to the cache.
func (r *Repo) fetch(ctx context.Context, ref string) (string, error) {
	out, err := r.git(ctx, nil, "ls-remote", "--quiet", "--", r.remote, ref)
	if err != nil {
		return "", r.remoteError("read", err)
	}
	tip := ""
	for line := range strings.Lines(out) {
		if id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); name == ref {
			tip = id
		}
	}
	if tip == "" {
		return "", nil
	}
	if here, err := r.local(ctx, ref); err != nil || here == tip {
		return tip, err
	}
	if _, err := r.git(ctx, nil, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--force", "--", r.remote, ref+":"+ref); err != nil {
		return "", r.remoteError("fetch", err)
	}
	return r.local(ctx, ref)
}

// record is how git log writes a commit: the fields that have no line breaks each on a line, then the message.
const record = "--format=%H%n%an%n%ae%n%ct%n%B"

// Get returns the commit that a revision names.
func (r *Repo) Get(ctx context.Context, rev string) (*milestone.Commit, error) {
	id, err := r.git(ctx, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("revision %.80q: there is no such commit: %w", rev, errkind.NotFound)
	}
	for c, err := range r.log(ctx, "--no-walk", strings.TrimSpace(id)) {
		return c, err
	}
	return nil, fmt.Errorf("revision %.80q: there is no such commit: %w", rev, errkind.NotFound)
}

// Log returns the commits from one on that change a path, the latest first.
func (r *Repo) Log(ctx context.Context, from, path string) iter.Seq2[*milestone.Commit, error] {
	return r.log(ctx, from, "--", ":(literal)"+path)
}

// maxRecord bounds a commit's message.
const maxRecord = 8 << 20

func (r *Repo) log(ctx context.Context, args ...string) iter.Seq2[*milestone.Commit, error] {
	return func(yield func(*milestone.Commit, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		args := append([]string{"log", "-z", "--encoding=UTF-8", "--no-show-signature", "--no-mailmap", "--no-color", "--no-notes", record}, args...)
		cmd := r.command(ctx, args...)
		complaint := &head{most: maxComplaint}
		cmd.Stderr = complaint
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			yield(nil, fmt.Errorf("git log: %w", err))
			return
		}
		in := bufio.NewScanner(out)
		in.Buffer(nil, maxRecord)
		in.Split(splitNUL)
		for in.Scan() {
			c, err := parseRecord(in.Text())
			if !yield(c, err) || err != nil {
				cancel()
				_ = cmd.Wait() // it was ended: there is nothing to learn
				return
			}
		}
		err = in.Err()
		if err != nil {
			cancel()
		}
		if failed := cmd.Wait(); err == nil && failed != nil {
			err = r.failed(cmd, failed, complaint)
		}
		if err != nil {
			yield(nil, fmt.Errorf("read the history: %w", err))
		}
	}
}

func splitNUL(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func parseRecord(text string) (*milestone.Commit, error) {
	parts := strings.SplitN(text, "\n", 5)
	if len(parts) < 5 {
		return nil, fmt.Errorf("git log says %.80q", text)
	}
	when, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("git log says the time %.80q", parts[3])
	}
	return &milestone.Commit{
		ID: parts[0], Author: milestone.Person{Name: parts[1], Email: parts[2]}, When: time.Unix(when, 0).UTC(), Message: parts[4],
	}, nil
}

// Files returns the files of a commit below some folders, each with its mode and the ID of its content.
func (r *Repo) Files(ctx context.Context, commit string, folders []string) (map[string]string, error) {
	args := []string{"ls-tree", "-r", "-z", "--full-tree", commit, "--"}
	for _, f := range folders {
		args = append(args, f+"/")
	}
	out, err := r.git(ctx, nil, args...)
	if err != nil {
		return nil, fmt.Errorf("list the files of %.12s: %w", commit, err)
	}
	files := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if about, path, ok := strings.Cut(entry, "\t"); ok {
			files[path] = about
		}
	}
	return files, nil
}

// Read returns the contents of files of a commit.
func (r *Repo) Read(ctx context.Context, commit string, paths []string) (contents [][]byte, err error) {
	if len(paths) == 0 {
		return nil, nil
	}
	var in bytes.Buffer
	for _, p := range paths {
		if strings.ContainsAny(p, "\n") {
			return nil, fmt.Errorf("file %q: there is none: %w", p, errkind.NotFound)
		}
		fmt.Fprintf(&in, "%s:%s\n", commit, p)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := r.command(ctx, "cat-file", "--batch")
	cmd.Stdin = &in
	complaint := &head{most: maxComplaint}
	cmd.Stderr = complaint
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("git cat-file: %w", err)
	}
	contents, err = readBatch(bufio.NewReader(out), paths)
	if err != nil {
		cancel()
		_ = cmd.Wait() // it was ended: there is nothing to learn
		return nil, fmt.Errorf("read files of %.12s: %w", commit, err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, r.failed(cmd, err, complaint)
	}
	return contents, nil
}

// readBatch reads what git cat-file answers: "ID blob SIZE", the content and a line feed for each file.
func readBatch(in *bufio.Reader, paths []string) ([][]byte, error) {
	contents := make([][]byte, 0, len(paths))
	for _, p := range paths {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		parts := strings.Fields(line)
		if len(parts) != 3 || parts[1] != "blob" {
			return nil, fmt.Errorf("file %q: there is none: %w", p, errkind.NotFound)
		}
		size, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git cat-file says %.80q", line)
		}
		if size > milestone.MaxFileSize {
			return nil, fmt.Errorf("file %s has %d bytes, and %d are allowed: %w", p, size, milestone.MaxFileSize, errkind.TooLarge)
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(in, data); err != nil {
			return nil, err
		}
		if _, err := in.Discard(1); err != nil {
			return nil, err
		}
		contents = append(contents, data)
	}
	return contents, nil
}
