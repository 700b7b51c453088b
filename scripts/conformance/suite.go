package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// fileLimit ends a test file that hangs: none takes more than two minutes.
const fileLimit = 10 * time.Minute

// result is what a test file said.
type result struct {
	Pass, Skip, Broken int
	Failed             []string // "12 - what it asserts"
	Left               string   // why the whole file was left out
	Total              int
	Ended              bool // the file came to its end
}

// row is one file with both.
type row struct {
	file      string
	git, skep result
	err       error
}

// alone are the assertions that fail with skep and not with C git.
func (r *row) alone() []string {
	both := map[string]bool{}
	for _, f := range r.git.Failed {
		both[f] = true
	}
	var list []string
	for _, f := range r.skep.Failed {
		if !both[f] {
			list = append(list, f)
		}
	}
	if r.git.Ended && !r.skep.Ended {
		list = append(list, "the file does not come to its end")
	}
	return list
}

func (r *row) line() string {
	if r.err != nil {
		return fmt.Sprintf("%-45s %v", r.file, r.err)
	}
	return fmt.Sprintf("%-45s git %3d of %3d, skep %3d of %3d, skipped %d", r.file, r.git.Pass, r.git.Total, r.skep.Pass, r.skep.Total, r.skep.Skip)
}

// compare runs a file with C git, unless that was done before, and with skep.
func (g *gitTree) compare(ctx context.Context, file string) (r row) {
	r.file = file
	kept := filepath.Join(g.base, "baseline", file+".tap")
	b, err := os.ReadFile(kept)
	if err != nil {
		if b, err = g.tap(ctx, g.stock(), file); err == nil {
			err = keep(kept, b)
		}
	}
	if err != nil {
		r.err = err
		return r
	}
	r.git = parseTAP(b)
	if b, r.err = g.tap(ctx, g.swapped(), file); r.err == nil {
		r.skep = parseTAP(b)
	}
	return r
}

func keep(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // nothing secret
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// tap runs a file and returns what it says.
func (g *gitTree) tap(ctx context.Context, tree, file string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := g.exec(ctx, tree, file, &out, args...)
	return out.Bytes(), err
}

// exec runs one test file in a folder of its own. That assertions fail is no error.
func (g *gitTree) exec(ctx context.Context, tree, file string, out io.Writer, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, fileLimit)
	defer cancel()
	root, err := os.MkdirTemp("", "skep-conformance-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }()
	if os.Geteuid() == 0 {
		if err := os.Chown(root, nobody, nobody); err != nil {
			return err
		}
	}
	if err := os.Chmod(root, 0o755); err != nil { //nolint:gosec // Apache may run as somebody else
		return err
	}
	cmd := exec.CommandContext(ctx, "nice", append([]string{"sh", "./" + file, "--root=" + root}, args...)...) //nolint:gosec // git's tests
	asNobody(cmd)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(tree, "t"), out, out
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + root, "TMPDIR=" + root, "TEST_OUTPUT_DIRECTORY=" + root, "LANG=C", "GIT_TEST_HTTPD=true",
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", file, ctx.Err())
	}
	if _, ended := err.(*exec.ExitError); ended { //nolint:errorlint // as Run returns it
		return nil
	}
	return err
}

// show runs one file against skep and prints what it prints.
func (g *gitTree) show(ctx context.Context, number string, verbose bool) error {
	file, ok := g.testFile(number)
	if !ok {
		return fmt.Errorf("this git has no test file %s", number)
	}
	var args []string
	if verbose {
		args = []string{"-v", "-x"}
	}
	return g.exec(ctx, g.swapped(), file, os.Stdout, args...)
}

var (
	tapLine = regexp.MustCompile(`^(not )?ok (\d+)( .*)?$`)
	tapPlan = regexp.MustCompile(`^1\.\.(\d+)(?: # SKIP (.*))?$`)
	// tapReason is at the end of a line: prerequisites that are missing, and what git itself knows to be broken.
	tapReason = regexp.MustCompile(`# (skip|TODO)\b.*$`)
)

// parseTAP reads the output of a test file (https://testanything.org).
func parseTAP(b []byte) (r result) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := tapPlan.FindStringSubmatch(line); m != nil {
			r.Left, r.Ended = m[2], true
			if n, err := strconv.Atoi(m[1]); err == nil {
				r.Total = max(r.Total, n)
			}
			continue
		}
		m := tapLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if n, err := strconv.Atoi(m[2]); err == nil {
			r.Total = max(r.Total, n)
		}
		switch why := tapReason.FindStringSubmatch(line); {
		case why != nil && why[1] == "skip":
			r.Skip++
		case why != nil:
			r.Broken++
		case m[1] != "":
			r.Failed = append(r.Failed, strings.TrimSpace(m[2]+m[3]))
		default:
			r.Pass++
		}
	}
	return r
}
