package main

import (
	"fmt"
	"os"
	"strings"
)

// parseKnown reads known.txt: "t5500 12 - what it asserts | why".
func parseKnown(text string) (map[string]string, error) {
	known := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		what, why, ok := strings.Cut(line, " | ")
		if !ok || why == "" {
			return nil, fmt.Errorf("known.txt: %q has no reason", line)
		}
		known[key(what)] = why
	}
	return known, nil
}

// key leaves out the assertion's number, which differs from git to git.
func key(s string) string {
	number, rest, _ := strings.Cut(s, " ")
	if _, name, ok := strings.Cut(rest, " - "); ok {
		rest = name
	}
	return number + " " + rest
}

// conclude prints the table and says whether all is as it must be.
func conclude(g *gitTree, rows []row, known map[string]string) error {
	var list, unknown []string
	for i := range rows {
		r := &rows[i]
		number, _, _ := strings.Cut(r.file, "-")
		if r.err != nil {
			unknown = append(unknown, r.file+": "+r.err.Error())
			continue
		}
		for _, f := range r.alone() {
			what := number + " " + f
			why, ok := known[key(what)]
			if !ok {
				unknown = append(unknown, what)
			}
			list = append(list, strings.TrimSuffix(what+" | "+why, " | "))
		}
	}
	text := markdown(g, rows)
	fmt.Print(text)
	if *failed != "" {
		if err := os.WriteFile(*failed, []byte(strings.Join(list, "\n")+"\n"), 0o644); err != nil { //nolint:gosec // for everybody
			return err
		}
	}
	if *table != "" {
		if err := replaceTable(*table, g.version, text); err != nil {
			return err
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%d assertions fail with skep alone and have no reason in known.txt:\n%s", len(unknown), strings.Join(unknown, "\n"))
	}
	return nil
}

// markdown is the table.
func markdown(g *gitTree, rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| git %s | Assertions | C git: pass | fail | skip | Skep: pass | fail | skip |\n|---|--:|--:|--:|--:|--:|--:|--:|\n", g.version)
	var sum [7]int
	for i := range rows {
		r := &rows[i]
		if r.err != nil {
			fmt.Fprintf(&b, "| %s | | | | | | | |\n", r.file)
			continue
		}
		if r.git.Left != "" {
			fmt.Fprintf(&b, "| %s | left out: %s | | | | | | |\n", strings.TrimSuffix(r.file, ".sh"), r.git.Left)
			continue
		}
		cells := [7]int{
			r.git.Total, r.git.Pass, len(r.git.Failed), r.git.Skip + r.git.Broken, r.skep.Pass, r.git.Total - r.skep.Pass - r.skep.Skip - r.skep.Broken,
			r.skep.Skip + r.skep.Broken,
		}
		fmt.Fprintf(&b, "| %s |", strings.TrimSuffix(r.file, ".sh"))
		for j, n := range cells {
			sum[j] += n
			fmt.Fprintf(&b, " %d |", n)
		}
		b.WriteByte('\n')
	}
	b.WriteString("| **all** |")
	for _, n := range sum {
		fmt.Fprintf(&b, " **%d** |", n)
	}
	return b.String() + "\n"
}

// replaceTable rewrites what is between the marks of a version in a Markdown file.
func replaceTable(path, version, text string) error {
	b, err := os.ReadFile(path) //nolint:gosec // the caller's file
	if err != nil {
		return err
	}
	from, to := "<!-- git "+version+" -->\n", "<!-- end -->\n"
	before, rest, ok := strings.Cut(string(b), from)
	_, after, ended := strings.Cut(rest, to)
	if !ok || !ended {
		return fmt.Errorf("%s has no place for git %s: a line %q, and later %q", path, version, strings.TrimSpace(from), strings.TrimSpace(to))
	}
	return os.WriteFile(path, []byte(before+from+"\n"+text+"\n"+to+after), 0o644) //nolint:gosec // documentation
}
