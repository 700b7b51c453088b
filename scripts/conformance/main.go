// Command conformance runs git's own test suite against skep's server programs, with C git's beside them.
//
//	conformance                           all files of tests.txt, with Debian's git
//	conformance -src DIR                  with the git whose source is in DIR
//	conformance -only t5500,t5516         some of them
//	conformance -run t5516 -v             one of them against skep, with all that it prints
//
// It builds git once, in a cache folder, in two copies. In the second the programs git-upload-pack, git-receive-pack and git-http-backend
// are skep's; everything else, the client and the tests, is git's. It fails on an assertion that fails with skep, passes with C git, and has no
// reason in known.txt. Tests over HTTP need Apache, as git's suite always does (Debian: apache2-bin), and libcurl's headers.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

//go:embed tests.txt
var testList string

//go:embed known.txt
var knownList string

var (
	cacheDir = flag.String("dir", defaultDir(), "where git is built; results are kept there")
	src      = flag.String("src", "", "git's source with its tests; without it Debian's source package is fetched")
	skep     = flag.String("skep", "bin/skep", "the skep to test")
	jobs     = flag.Int("jobs", 2, "test files at a time")
	only     = flag.String("only", "", "the files to run, by number, with commas between them")
	table    = flag.String("table", "", "a Markdown file whose table is rewritten")
	failed   = flag.String("failed", "", "a file for the list of assertions that fail with skep alone")
	single   = flag.String("run", "", "one file to run against skep, with what it prints")
	verbose  = flag.Bool("v", false, "with -run: -v -x, as git's t/README has it")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// defaultDir is below the user's cache folder. Tests over HTTP do not run as root, and whom they run as then must be able to read it.
func defaultDir() string {
	if os.Geteuid() == 0 {
		return "/var/cache/skep-conformance"
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "skep-conformance")
}

func run(ctx context.Context) error {
	known, err := parseKnown(knownList)
	if err != nil {
		return err
	}
	g, err := prepare(ctx, *cacheDir, *src)
	if err != nil {
		return err
	}
	program, err := filepath.Abs(*skep)
	if err != nil {
		return err
	}
	if err := g.install(program); err != nil {
		return err
	}
	if *single != "" {
		return g.show(ctx, *single, *verbose)
	}
	files, err := chosen(g)
	if err != nil {
		return err
	}
	rows := runAll(ctx, g, files)
	if err := ctx.Err(); err != nil {
		return err
	}
	return conclude(g, rows, known)
}

// chosen are the files to run: those of tests.txt that this git has.
func chosen(g *gitTree) ([]string, error) {
	wanted := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	var files []string
	for line := range strings.Lines(testList) {
		number, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if number == "" || number[0] == '#' || len(wanted) > 0 && !slices.Contains(wanted, number) {
			continue
		}
		if name, ok := g.testFile(number); ok {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("no such test file: see scripts/conformance/tests.txt")
	}
	return files, nil
}

// runAll runs each file against both, some at a time.
func runAll(ctx context.Context, g *gitTree, files []string) []row {
	rows := make([]row, len(files))
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(1, *jobs) {
		wg.Go(func() {
			for i := range next {
				rows[i] = g.compare(ctx, files[i])
				fmt.Fprintln(os.Stderr, rows[i].line())
			}
		})
	}
	for i := range files {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return rows
}
