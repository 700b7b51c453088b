package revwalk_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

func TestParseFilter(t *testing.T) {
	tests := []struct {
		spec string
		want string // in normal form
	}{
		{"blob:none", "blob:none"},
		{"blob:limit=0", "blob:limit=0"},
		{"blob:limit=10", "blob:limit=10"},
		{"blob:limit=1k", "blob:limit=1024"},
		{"blob:limit=2M", "blob:limit=2097152"},
		{"blob:limit=1g", "blob:limit=1073741824"},
		{"tree:0", "tree:0"},
		{"tree:3", "tree:3"},
		{"tree:99999999999", "tree:2147483647"},
		{"combine:blob:none", "blob:none"},
		{"combine:tree:3+blob:none", "combine:blob:none+tree:3"},
		{"combine:tree%3A3+blob%3alimit%3D1k+tree:2", "combine:blob:limit=1024+tree:2"},
		{"combine:combine:tree:3%2Bblob:none+tree:7", "combine:blob:none+tree:3"},
		{"combine:blob:limit=9+blob:limit=7", "combine:blob:limit=7"},
		{"object:type=blob", "object:type=blob"},
		{"combine:object:type=tree+tree:2", "combine:object:type=tree+tree:2"},
		{"combine:object:type=tag+object:type=tag", "object:type=tag"},
		{"combine:object:type=commit+object:type=tree+blob:none", "combine:object:type=blob+object:type=tree"},
		{"combine:tree:1+object:type=tag+object:type=blob", "combine:combine:object:type=blob%2bobject:type=tree+tree:1"},
		{"sparse:oid=main:a b", "sparse:oid=main:a b"},
		{"combine:sparse:oid=v1%2B1+sparse:oid=a%20b+sparse:oid=v1%2b1", "combine:sparse:oid=a%20b+sparse:oid=v1%2b1"},
	}
	for _, tt := range tests {
		f, err := revwalk.ParseFilter(tt.spec)
		if want := strings.TrimPrefix(tt.want, "combine:"); err != nil || strings.TrimPrefix(f.String(), "combine:") != want {
			t.Errorf("ParseFilter(%q) = %q, %v, want %q", tt.spec, f, err, tt.want)
		}
	}
	for _, spec := range []string{
		"", "blob", "blob:", "blob:no", "blob:limit", "blob:limit=", "blob:limit=-1", "blob:limit=1x", "blob:limit=k",
		"blob:limit=9999999999g", "tree", "tree:", "tree:-1", "tree:x", "combine:", "combine", "combine:blob:none+", "combine:a b",
		"combine:blob:none,tree:0", "combine:%zz", "sparse:oid=", "sparse:path=x", "object:type=", "object:type=blo", "object:blob", strings.Repeat("combine:", 20) + "blob:none",
	} {
		if f, err := revwalk.ParseFilter(spec); !errors.Is(err, errkind.Invalid) {
			t.Errorf("ParseFilter(%q) = %v, %v, want errkind.Invalid", spec, f, err)
		}
	}
	many := "combine:" + strings.Repeat("sparse:oid=x+", 8) + "sparse:oid=x"
	if f, err := revwalk.ParseFilter(many); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("ParseFilter(%q) = %v, %v, want errkind.TooLarge", many, f, err)
	}
}

func TestParseFilterSaysWhatIsUsed(t *testing.T) {
	_, uses, err := revwalk.ParseFilterUses("combine:tree:3+combine:blob:limit=1k%2Bobject:type=tree+sparse:oid=x+blob:none")
	want := []revwalk.FilterUse{
		{Name: "combine"},
		{Name: "tree", Depth: 3},
		{Name: "combine"},
		{Name: "blob:limit"},
		{Name: "object:type"},
		{Name: "sparse:oid"},
		{Name: "blob:none"},
	}
	if err != nil || !slices.Equal(uses, want) {
		t.Errorf("ParseFilterUses = %v, %v, want %v", uses, err, want)
	}
}

// resolved is a filter whose sparse:oid names are blobs of a repository.
func resolved(t *testing.T, r gitRepo, spec string) revwalk.Filter {
	t.Helper()
	f, err := revwalk.ParseFilter(spec)
	if err == nil {
		err = f.Resolve(func(name string) (git.OID, []byte, error) {
			o := r.OID(name)
			return o, r.Read(o)[0].Data, nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What a filter lets pass is what git rev-list --filter lists, explicit wants included.
func TestPlanFiltersLikeGit(t *testing.T) {
	specs := []string{
		"blob:none", "blob:limit=0", "blob:limit=17", "blob:limit=1k", "tree:0", "tree:1", "tree:2", "tree:3", "combine:tree:2+blob:none",
		"object:type=commit", "object:type=tree", "object:type=blob", "object:type=tag", "combine:object:type=blob+blob:limit=1k",
		"combine:object:type=tree+tree:2",
	}
	for seed := range uint64(seeds) {
		r, rng := history(t, seed, 50), rngOf(seed)
		s := r.store(2)
		g := graphOf(t, s)
		tips, commits := r.OIDs("", "for-each-ref", "--format=%(objectname)"), r.OIDs("", "rev-list", "--all")
		entries := r.OIDs("", "rev-list", "--objects", "--no-object-names", "--filter-provided-objects", "--filter=object:type=blob", "--all")
		entries = append(entries, r.OIDs("", "rev-list", "--objects", "--no-object-names", "--filter-provided-objects", "--filter=object:type=tree", "--all")...)
		for _, patterns := range []string{"a/b\n", "/*\n!/*/\n!g\n", "f\n!lib*/\na/**/h\n"} {
			spec := "sparse:oid=" + strings.TrimSpace(r.GitIn(patterns, "hash-object", "-w", "--stdin"))
			specs = append(specs[:15:15], spec, "combine:"+spec+"+blob:limit=1k")
		}
		for _, spec := range specs {
			f := resolved(t, r, spec)
			for i := range 5 {
				wants := [][]git.OID{tips, some(rng, commits, 3), some(rng, tips, 3), some(rng, entries, 1), append(some(rng, entries, 3), some(rng, commits, 3)...)}[min(i, 4)]
				want := filtered(r, spec, hexes(wants, ""))
				got := members(s, plan(t, g, revwalk.Request{Wants: wants, Filter: f}).Send)
				// Git forgets that a tree or blob was asked for when it also meets it on its way. We do not.
				asked := closure(t, s, slices.DeleteFunc(slices.Clone(wants), g.Has), nil)
				if len(wants) == 1 {
					asked = nil
				}
				for _, o := range minus(got, want) {
					if !asked[o] {
						t.Errorf("seed %d %s: wants %v: the filter keeps back %s", seed, spec, wants, o)
					}
				}
				if missing := minus(want, got); len(missing) > 0 {
					t.Errorf("seed %d %s: wants %v: missing %v", seed, spec, wants, missing)
				}
				// With haves, nothing may be missing that git would send, but for what the haves lead to.
				haves := some(rng, commits, 2)
				must := filtered(r, spec, hexes(wants, "")+hexes(haves, "^"))
				p := plan(t, g, revwalk.Request{Wants: wants, Haves: haves, Filter: f, Thin: true})
				got, had := members(s, p.Send), closure(t, s, haves, nil)
				for _, o := range minus(must, got) {
					if !had[o] {
						t.Errorf("seed %d %s: wants %v haves %v: %s is missing", seed, spec, wants, haves, o)
					}
				}
				for _, o := range minus(got, want) {
					if !asked[o] {
						t.Errorf("seed %d %s: wants %v haves %v: the filter keeps back %s", seed, spec, wants, haves, o)
					}
				}
				if p.Given.Len() > 0 {
					t.Errorf("a client that filters is believed to have objects")
				}
			}
		}
	}
}

// filtered is what git lists through a filter. Combined filters it asks one by one: git itself loses a tree when the first
// place where it meets the tree is too deep.
func filtered(r gitRepo, spec, revs string) map[git.OID]bool {
	var all map[git.OID]bool
	for one := range strings.SplitSeq(strings.TrimPrefix(spec, "combine:"), "+") {
		list := setOf(r.OIDs(revs, "rev-list", "--objects", "--no-object-names", "--filter="+one, "--stdin"))
		if all == nil {
			all = list
		}
		for _, o := range minus(all, list) {
			delete(all, o)
		}
	}
	return all
}

func TestFilterOfEverythingCountsDoublesOnce(t *testing.T) {
	r := history(t, 5, 30)
	s := r.store(1)
	twice := receive(t, s, r.PackObjects("", "--all", "--depth=0"))
	twice = odb.NewStore(twice.Packs(), s.Roots(), odb.NewCache(1<<20))
	tips := r.OIDs("", "for-each-ref", "--format=%(objectname)")
	for _, f := range []revwalk.Filter{{}, {BlobNone: true}, {HasDepth: true}, {HasLimit: true, BlobLimit: math.MaxInt64}} {
		want := members(s, plan(t, graphOf(t, s), revwalk.Request{Wants: tips, Filter: f}).Send)
		got := plan(t, graphOf(t, twice), revwalk.Request{Wants: tips, Filter: f}).Send
		if got.Len() != len(want) || len(minus(members(twice, got), want)) > 0 {
			t.Errorf("filter %s: %d objects, want %d", f, got.Len(), len(want))
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"blob:none", "blob:limit=1k", "tree:0", "combine:tree:3+blob:none", "combine:combine:tree:3%2Bblob:none+tree:7", "sparse:oid=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		filter, err := revwalk.ParseFilter(spec)
		if err != nil || filter.IsZero() {
			return
		}
		// The normal form says the same.
		again, err := revwalk.ParseFilter(filter.String())
		if err != nil || again.String() != filter.String() {
			t.Errorf("ParseFilter(%q) = %q, read again %q, %v", spec, filter, again, err)
		}
	})
}
