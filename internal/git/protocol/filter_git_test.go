package protocol_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// got lists what a clone has, without what it would fetch when asked.
func got(t *testing.T, dir string) string {
	t.Helper()
	return runGit(t, dir, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
}

// A clone through a filter gets what git's own server sends.
func TestGitClonesThroughFiltersAsFromGit(t *testing.T) {
	src := sample(t)
	runGit(t, src, "config", "uploadpack.allowFilter", "true")
	// Git forgets that a tree was asked for when it also meets it on its way. Skep does not.
	runGit(t, src, "tag", "-d", "tree")
	commitFile(t, src, 40, "sparse", "/*\n!/*/\n/src/dir1/\n")
	commitFile(t, src, 41, "deep/er/and/deeper", "deep\n")
	r := load(t, src)
	specs := []string{
		"blob:none", "blob:limit=10", "blob:limit=1k", "tree:0", "tree:1", "tree:2", "object:type=commit", "object:type=tree", "object:type=blob",
		"object:type=tag", "sparse:oid=main:sparse", "sparse:oid=" + runGit(t, src, "rev-parse", "main:sparse"),
		"combine:blob:limit=100+object:type=blob", "combine:sparse:oid%3Dmain%3Asparse+blob:limit=1k", "combine:tree:2+blob:none",
		"combine:object:type=blob+object:type=tree",
	}
	want := map[string]string{}
	for _, spec := range specs {
		dst := filepath.Join(t.TempDir(), "want")
		runGit(t, src, "clone", "-q", "--no-checkout", "--filter="+spec, "file://"+src, dst)
		want[spec] = got(t, dst)
	}
	for n, w := range r.ways(t, protocol.UploadOptions{Cache: &answers{}}) {
		t.Run(w.name, func(t *testing.T) {
			for i, spec := range specs {
				if w.name != "pipe v2" && i%len(wayNames) != n {
					continue
				}
				dst := filepath.Join(t.TempDir(), "got")
				w.git(t, src, "clone", "-q", "--no-checkout", "--filter="+spec, w.url, dst)
				if diff := cmp.Diff(want[spec], got(t, dst)); diff != "" {
					t.Errorf("%s: objects (-git +skep):\n%s", spec, diff)
				}
				if i <= n { // what was left out is fetched when it is needed
					runGit(t, dst, "config", "remote.origin.uploadpack", orDefault(w.upload))
					runGit(t, dst, "-c", fmt.Sprintf("protocol.version=%d", w.version), "checkout", "-q", "main")
				}
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
}

func orDefault(uploadPack string) string {
	if uploadPack == "" {
		return "git-upload-pack"
	}
	return uploadPack
}

// What is asked for by its ID comes, whatever the filter.
func TestGitGetsWhatItAsksForWhateverTheFilter(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	blob, tree, old := runGit(t, src, "rev-parse", "main:src/file.txt"), runGit(t, src, "rev-parse", "main:src"), runGit(t, src, "rev-parse", "main~3")
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		t.Run(w.name, func(t *testing.T) {
			for _, spec := range []string{"blob:none", "tree:0", "object:type=tag", "combine:blob:none+tree:0"} {
				dst := t.TempDir()
				runGit(t, dst, "init", "-q", "-b", "main")
				runGit(t, dst, "remote", "add", "origin", w.url)
				w.git(t, dst, "fetch", "-q", "--filter="+spec, "origin", blob, tree, old)
				have := got(t, dst)
				for _, o := range []string{blob, tree, old} {
					if !strings.Contains(have, o) {
						t.Errorf("%s: %s was asked for and did not come:\n%s", spec, o, have)
					}
				}
			}
		})
	}
}

func TestGitIsToldWhichFiltersAreNotAllowed(t *testing.T) {
	src := sample(t)
	commitFile(t, src, 40, "wild", "src\n"+strings.Repeat("*a", 33)+"\n")
	r := load(t, src)
	hidden := strings.TrimSpace(gittest.At(t, src).GitIn("*\n", "hash-object", "-w", "--stdin"))
	tests := []struct {
		config []string
		spec   string
		want   string // "" is success
	}{
		{nil, "blob:none", ""},
		{[]string{"uploadpackfilter.allow=false"}, "blob:none", "filter 'blob:none' not supported"},
		{[]string{"uploadpackfilter.allow=false", "uploadpackfilter.blob:none.allow=true"}, "blob:none", ""},
		{[]string{"uploadpackfilter.blob:limit.allow=false"}, "blob:limit=1k", "filter 'blob:limit' not supported"},
		{[]string{"uploadpackfilter.combine.allow=false"}, "combine:tree:1+blob:none", "filter 'combine' not supported"},
		{[]string{"uploadpackfilter.tree.allow=false"}, "combine:tree:1+blob:none", "filter 'tree' not supported"},
		{[]string{"UploadPackFilter.object:type.ALLOW=no"}, "object:type=blob", "filter 'object:type' not supported"},
		{[]string{"uploadpackfilter.tree.maxDepth=2"}, "tree:3", "tree filter allows max depth 2, but got 3"},
		{[]string{"uploadpackfilter.allow=0", "uploadpackfilter.tree.maxDepth=2"}, "tree:2", ""},
		{nil, "sparse:oid=main:nothing", "unable to access sparse blob in 'main:nothing'"},
		{nil, "sparse:oid=" + hidden, "unable to access sparse blob"},
		{nil, "sparse:oid=main:wild", "sparse blob 'main:wild': line 2: a pattern with more than 32 wildcards"},
		{nil, "sparse:oid=main", "unable to parse sparse filter data in"},
	}
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		if w.name == "pipe v1" || w.name == "http v2" {
			continue // as the same version by the other transport
		}
		t.Run(w.name, func(t *testing.T) {
			for _, tt := range tests {
				r.configure(tt.config...)
				out, err := w.try(t, t.TempDir(), "clone", "--bare", "-q", "--filter="+tt.spec, w.url, ".")
				if (err == nil) != (tt.want == "") || !strings.Contains(out, tt.want) {
					t.Errorf("%q, clone --filter=%s: %v\n%s\nwant %q", tt.config, tt.spec, err, out, tt.want)
				}
			}
			r.configure("uploadpack.allowFilter=false")
			out := w.git(t, t.TempDir(), "clone", "--bare", "-q", "--filter=blob:none", w.url, ".")
			if !strings.Contains(out, "filtering not recognized by server, ignoring") {
				t.Errorf("a clone where filters are off says %q", out)
			}
		})
	}
}
