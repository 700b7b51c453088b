// Package tidy holds the rules of the repository as tests: each failure says what to do about it.
package tidy

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite what is generated: the table in ARCHITECTURE.md and modules.txt")

const (
	module       = "github.com/skep-dev/skep"
	root         = "../.."
	maxFileLines = 1000
	maxFileBytes = 500_000
)

// goPackage is one folder of production code.
type goPackage struct {
	dir      string // below the root
	imports  []string
	comments []string // files with a package comment
	doc      string   // its first sentence
}

// name is how imports.txt calls a package.
func (p *goPackage) name() string { return strings.TrimPrefix(p.dir, "internal/") }

func readPackages(t *testing.T) map[string]*goPackage {
	t.Helper()
	packages := map[string]*goPackage{}
	for _, file := range tracked(t, ".go") {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "tools/") {
			continue
		}
		dir := path.Dir(file)
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		p := packages[strings.TrimPrefix(dir, "internal/")]
		if p == nil {
			p = &goPackage{dir: dir}
			packages[p.name()] = p
		}
		p.add(file, parsed)
	}
	return packages
}

func (p *goPackage) add(file string, parsed *ast.File) {
	if parsed.Doc != nil {
		p.comments = append(p.comments, file)
		sentence, _, _ := strings.Cut(strings.ReplaceAll(parsed.Doc.Text(), "\n", " ")+" ", ". ")
		p.doc = strings.TrimSuffix(strings.TrimSpace(sentence), ".") + "."
	}
	for _, imp := range parsed.Imports {
		name, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module+"/")
		if ours {
			p.imports = append(p.imports, strings.TrimPrefix(name, "internal/"))
		}
	}
	slices.Sort(p.imports)
	p.imports = slices.Compact(p.imports)
}

// tracked lists the files that belong to the repository and end in suffix.
func tracked(t *testing.T, suffix string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return walk(t, suffix) // a source archive without .git
	}
	var files []string
	for f := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if _, err := os.Stat(filepath.Join(root, f)); err == nil && strings.HasSuffix(f, suffix) {
			files = append(files, f)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func walk(t *testing.T, suffix string) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(p, suffix) {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// row is a line of imports.txt.
type row struct {
	storey, name string
	allowed      []string
}

func readPolicy(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile("imports.txt")
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	storey := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "## "); ok {
			storey = s
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		name, list, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("imports.txt: %q has no colon", line)
		}
		rows = append(rows, row{storey, name, strings.Fields(list)})
	}
	return rows
}

func TestImportsGoDownOnly(t *testing.T) {
	packages := readPackages(t)
	above := map[string]bool{}
	for _, r := range readPolicy(t) {
		p := packages[r.name]
		if p == nil {
			t.Errorf("imports.txt lists %s, which does not exist: remove the line", r.name)
			continue
		}
		delete(packages, r.name)
		for _, a := range r.allowed {
			if !above[a] {
				t.Errorf("imports.txt: %s may import %s only if %s stands above it", r.name, a, a)
			}
			if !slices.Contains(p.imports, a) {
				t.Errorf("imports.txt allows %s to import %s, which it does not: remove the allowance", r.name, a)
			}
		}
		for _, i := range p.imports {
			if !slices.Contains(r.allowed, i) {
				t.Errorf("%s imports %s: not allowed by internal/tidy/imports.txt. Move the code, or change the policy and say why", r.name, i)
			}
		}
		if !slices.IsSorted(r.allowed) {
			t.Errorf("imports.txt: sort what %s may import", r.name)
		}
		above[r.name] = true
	}
	for name := range packages {
		if !strings.HasSuffix(name, "test") {
			t.Errorf("package %s is not in internal/tidy/imports.txt: give it a line below what it imports", name)
		}
	}
}

func TestEachPackageHasOneComment(t *testing.T) {
	for name, p := range readPackages(t) {
		if len(p.comments) != 1 {
			t.Errorf("package %s has %d package comments %v: exactly one file has it", name, len(p.comments), p.comments)
		}
	}
}

const (
	tableBegin = "<!-- The table is generated: go test ./internal/tidy -update -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

func TestArchitectureTable(t *testing.T) {
	packages := readPackages(t)
	var table strings.Builder
	table.WriteString("\n| Storey | Package | Its job | Imports |\n|---|---|---|---|\n")
	storey := ""
	for _, r := range readPolicy(t) {
		p := packages[r.name]
		if p == nil {
			continue // TestImportsGoDownOnly says so
		}
		shown := r.storey
		if shown == storey {
			shown = ""
		}
		storey = r.storey
		_, doc, _ := strings.Cut(p.doc, " ")
		_, doc, _ = strings.Cut(doc, " ") // "Package x " or "Command x "
		fmt.Fprintf(&table, "| %s | `%s` | %s | %s |\n", shown, r.name, upperFirst(doc), strings.Join(r.allowed, ", "))
	}
	table.WriteString("\n")
	file := filepath.Join(root, "ARCHITECTURE.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("ARCHITECTURE.md has lost the marks around the package table: %q and %q", tableBegin, tableEnd)
	}
	golden(t, file, text, []byte(before+tableBegin+table.String()+tableEnd+after))
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func golden(t *testing.T, file string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if !*update {
		t.Errorf("%s is stale: run go test ./internal/tidy -update, and read the difference", strings.TrimPrefix(file, root+"/"))
		return
	}
	if err := os.WriteFile(file, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestModulesOfTheBinary keeps a reviewed list of what is linked in: a new line there is a new dependency to judge.
func TestModulesOfTheBinary(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/skep")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	lines = slices.DeleteFunc(slices.Compact(lines), func(m string) bool { return m == module })
	want := []byte(strings.Join(lines, "\n") + "\n")
	got, _ := os.ReadFile("modules.txt") // a missing list is a stale list
	golden(t, "modules.txt", got, want)
}

// TestLibcPin: modernc.org/sqlite is generated against one exact modernc.org/libc; any other may corrupt memory.
func TestLibcPin(t *testing.T) {
	const sqlitePath, libcPath = "modernc.org/sqlite", "modernc.org/libc"
	list := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-m", "-f"}, args...)...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -m: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
	text, err := os.ReadFile(list("{{.GoMod}}", sqlitePath))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(libcPath + ` (v\S+)`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s no longer names %s: remove this test", sqlitePath, libcPath)
	}
	if got := list("{{.Version}}", libcPath); got != string(m[1]) {
		t.Errorf("go.mod has %s %s, but %s wants exactly %s: go get both together", libcPath, got, sqlitePath, m[1])
	}
}

// generated is how generators mark what nobody reads (https://go.dev/s/generatedcode).
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFilesStayReadable(t *testing.T) {
	for _, file := range tracked(t, "") {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue // a link to nowhere
		}
		if len(text) > maxFileBytes {
			t.Errorf("%s has %d bytes, more than %d: it does not belong in the repository", file, len(text), maxFileBytes)
		}
		if lines := bytes.Count(text, []byte("\n")); strings.HasSuffix(file, ".go") && lines > maxFileLines && !generated.Match(text) {
			t.Errorf("%s has %d lines, more than %d: find the second idea in it", file, lines, maxFileLines)
		}
	}
}

func TestDecisionsAreIndexed(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root, "docs/adr/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tracked(t, ".md") {
		name, ok := strings.CutPrefix(file, "docs/adr/")
		if !ok || name == "README.md" {
			continue
		}
		if !regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`).MatchString(name) {
			t.Errorf("docs/adr/%s: name it NNNN-title.md", name)
		}
		if !bytes.Contains(index, []byte("("+name+")")) {
			t.Errorf("docs/adr/README.md does not list %s", name)
		}
	}
}

func TestChangelogFragments(t *testing.T) {
	form := regexp.MustCompile(`^(added|changed|fixed|removed|security): .+\n`)
	for _, file := range tracked(t, ".md") {
		if !strings.HasPrefix(file, "changes/unreleased/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if !form.Match(text) {
			t.Errorf("%s: the first line is \"added: …\" (or changed, fixed, removed, security)", file)
		}
	}
}

// TestLinksLead checks that relative links in the documentation name files that exist.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)
	for _, file := range tracked(t, ".md") {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			target := filepath.Join(root, filepath.Dir(file), string(m[1]))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
	}
}
