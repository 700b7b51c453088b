package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// TestOddRepositories pushes what is odd but legal, and clones it back with every protocol version.
func TestOddRepositories(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name  string
		build func(w *world, repo string)
	}{
		{"octopus", buildOctopus},
		{"tags", buildTags},
		{"entries", buildOddEntries},
		{"manyfiles", buildManyFiles},
		{"manyrefs", buildManyRefs},
		{"deepchain", buildDeepChain},
		{"bigfile", buildBigFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sub := &world{server: w.server, t: t, work: w.work}
			repo := tt.name + ".git"
			sub.git(".", "init", "-q", "--bare", repo)
			tt.build(sub, repo)
			if tt.name == "manyrefs" {
				sub.bringIn(repo, tt.name) // git push over HTTP takes a time that grows with the square of the references, whatever the server
			} else {
				sub.git(repo, "push", "-q", "--mirror", sub.remote(tt.name))
			}
			for _, version := range []string{"0", "1", "2"} {
				clone := tt.name + "-v" + version
				sub.git(".", "-c", "protocol.version="+version, "clone", "-q", "--mirror", sub.remote(tt.name), clone)
				sub.same(repo, clone)
				if err := os.RemoveAll(sub.path(clone)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// bringIn runs skep import as the admin.
func (w *world) bringIn(repo, name string) {
	w.t.Helper()
	if out, err := w.skep("import", w.path(repo), "default/"+name); err != nil {
		w.t.Fatalf("skep import: %v\n%s", err, out)
	}
}

// feed runs git fast-import, the quickest way to make odd histories.
func (w *world) feed(repo, stream string) {
	w.t.Helper()
	if out, err := w.try(repo, []byte(stream), "fast-import", "--quiet", "--force"); err != nil {
		w.t.Fatalf("git fast-import: %v\n%s", err, out)
	}
}

const stamp = "committer Alice <alice@example.invalid> 1700000000 +0000\ndata 1\nm\n"

func data(s string) string { return fmt.Sprintf("data %d\n%s\n", len(s), s) }

func buildOctopus(w *world, repo string) {
	var b strings.Builder
	for i := 1; i <= 8; i++ {
		fmt.Fprintf(&b, "commit refs/heads/b%d\nmark :%d\n%sM 100644 inline f%d\n%s\n", i, i, stamp, i, data(fmt.Sprint(i)))
	}
	fmt.Fprintf(&b, "commit refs/heads/main\nmark :9\n%sfrom :1\n", stamp)
	for i := 2; i <= 8; i++ {
		fmt.Fprintf(&b, "merge :%d\n", i)
	}
	w.feed(repo, b.String())
}

func buildTags(w *world, repo string) {
	buildOctopus(w, repo)
	w.git(repo, "tag", "-a", "-m", "of a commit", "annotated", "main")
	w.git(repo, "tag", "-a", "-m", "of a tag", "nested", "annotated")
	w.git(repo, "tag", "-a", "-m", "of a tree", "tree", "main^{tree}")
	w.git(repo, "tag", "-a", "-m", "of a blob", "blob", "main:f1")
	w.git(repo, "tag", "lightblob", "b2:f2")
	w.git(repo, "update-ref", "refs/notes/odd", "main")
}

func buildOddEntries(w *world, repo string) {
	w.feed(repo, "commit refs/heads/main\n"+"author A\xff\xfe <a@b> 1700000000 +0545\n"+
		"committer \xe9 <c@d> 1700000000 -1130\nencoding ISO-8859-1\ndata 3\n\xe9\xff\n\n"+
		"M 160000 1234567890123456789012345678901234567890 sub\n"+
		"M 120000 inline link\n"+data("../../etc/passwd")+
		"M 100755 inline run\n"+data("#!/bin/sh")+
		"M 100644 inline \"b\\303\\050ad\\377name\"\n"+data("x")+
		"M 100644 inline "+strings.Repeat("deep/", 200)+"f\n"+data("deep")+
		"M 100644 inline empty\n"+data(""))
}

func buildManyFiles(w *world, repo string) {
	var b strings.Builder
	fmt.Fprintf(&b, "commit refs/heads/main\n%s", stamp)
	for i := range 50_000 {
		fmt.Fprintf(&b, "M 100644 inline f%05d\n%s", i, data(fmt.Sprint("file ", i)))
	}
	fmt.Fprintf(&b, "commit refs/heads/main\n%sM 100644 inline f25000\n%s", stamp, data("changed"))
	w.feed(repo, b.String())
}

func buildManyRefs(w *world, repo string) {
	buildOctopus(w, repo)
	tip := w.git(repo, "rev-parse", "main")
	var b bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&b, "create refs/heads/topic/%03d/%06d %s\n", i%1000, i, tip)
	}
	if out, err := w.try(repo, b.Bytes(), "update-ref", "--stdin"); err != nil {
		w.t.Fatalf("git update-ref: %v\n%s", err, out)
	}
	w.git(repo, "pack-refs", "--all")
}

func buildDeepChain(w *world, repo string) {
	var b, text strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&text, "line %d\n", i)
		fmt.Fprintf(&b, "commit refs/heads/main\n%sM 100644 inline f\n%s\n", stamp, data(text.String()))
	}
	w.feed(repo, b.String())
	w.git(repo, "-c", "pack.depth=4000", "repack", "-q", "-a", "-d", "-f", "--depth=4000", "--window=2")
}

func buildBigFile(w *world, repo string) {
	big := make([]byte, 200<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(big); i += 8 << 10 { // a part is random, so that it is neither all noise nor nothing
		for j := range 512 {
			big[i+j] = byte(random.Uint32())
		}
	}
	file := w.path("big")
	if err := os.WriteFile(file, big, 0o600); err != nil {
		w.t.Fatal(err)
	}
	blob := w.git(repo, "hash-object", "-w", file)
	big[100<<20] ^= 1
	if err := os.WriteFile(file, big, 0o600); err != nil {
		w.t.Fatal(err)
	}
	again := w.git(repo, "hash-object", "-w", file)
	w.feed(repo, fmt.Sprintf("commit refs/heads/main\n%sM 100644 %s big\n\ncommit refs/heads/main\n%sM 100644 %s big\n\n", stamp, blob, stamp, again))
	w.git(repo, "repack", "-q", "-a", "-d")
}
