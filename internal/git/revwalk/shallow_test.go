package revwalk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// shallowStep is one fetch of a shallow client: what git is told and what we are.
type shallowStep struct {
	flags []string
	set   func(*revwalk.Request)
}

func shallowSteps(r gitRepo, rng *rand.Rand, refs []git.Ref) []shallowStep {
	depth, since := 1+rng.IntN(6), int64(1_700_000_000+rng.IntN(3600))
	not := refs[rng.IntN(len(refs))]
	return []shallowStep{
		{nil, func(*revwalk.Request) {}},
		{[]string{fmt.Sprint("--depth=", depth)}, func(q *revwalk.Request) { q.Depth = depth }},
		{[]string{fmt.Sprint("--deepen=", depth)}, func(q *revwalk.Request) { q.Depth, q.DeepenRelative = depth, true }},
		{[]string{fmt.Sprint("--shallow-since=@", since)}, func(q *revwalk.Request) { q.Since = time.Unix(since, 0) }},
		{[]string{"--shallow-exclude=" + string(not.Name)}, func(q *revwalk.Request) { q.Not = []git.OID{not.OID} }},
		{[]string{fmt.Sprint("--depth=", depth)}, func(q *revwalk.Request) { q.Depth = depth }},
		{[]string{fmt.Sprint("--depth=", revwalk.Infinite)}, func(q *revwalk.Request) { q.Depth = revwalk.Infinite }},
	}
}

// A client fetches again and again, deepening and shortening its history. After each fetch its shallow file is what our
// plan says, and what it had and what the plan sends is all that it needs.
func TestShallowFetchesLikeGit(t *testing.T) {
	sent, gits := 0, 0
	for seed := range uint64(4) {
		r, rng := history(t, seed, 60), rngOf(seed)
		for i, c := range some(rng, r.OIDs("", "rev-list", "--all"), 8) {
			r.Git("update-ref", fmt.Sprintf("refs/heads/c%d", i), c.String())
		}
		s := r.store(2)
		g := graphOf(t, s)
		refs := slices.DeleteFunc(slices.Clone(r.refs().List()), func(ref git.Ref) bool { return !ref.Name.IsBranch() })
		client := newGitRepo(t)
		for step := range 8 {
			var fetch []git.Ref
			for _, i := range rng.Perm(len(refs))[:1+rng.IntN(3)] {
				fetch = append(fetch, refs[i])
			}
			steps := shallowSteps(r, rng, refs)
			if seed%2 == 1 {
				// With wrong clocks, what git takes for older depends on the order in which it looks.
				steps = slices.DeleteFunc(steps, func(s shallowStep) bool { return len(s.flags) > 0 && strings.HasPrefix(s.flags[0], "--shallow-since") })
			}
			what := steps[rng.IntN(len(steps))]
			if step == 0 {
				what = steps[1+rng.IntN(4)]
			}
			had := setOf(client.All())
			shallow := shallowFile(t, client)
			args := append([]string{"fetch", "--progress", "--no-tags", "--no-auto-maintenance", "--no-write-fetch-head"}, what.flags...)
			args = append(args, "file://"+r.Dir)
			for _, ref := range fetch {
				args = append(args, fmt.Sprintf("+%s:refs/x/%s", ref.Name, strings.TrimPrefix(string(ref.Name), "refs/heads/")))
			}
			trace := filepath.Join(t.TempDir(), "trace")
			out, err := client.With("GIT_TRACE_PACKET=" + trace).Talk(args...)
			q := revwalk.Request{
				Wants: traced(t, trace, "want"), Haves: traced(t, trace, "have"), Shallow: traced(t, trace, "shallow"), Thin: true,
			}
			if len(q.Wants) == 0 {
				continue
			}
			what.set(&q)
			p, errPlan := g.Plan(t.Context(), q)
			name := fmt.Sprintf("seed %d, step %d, %v", seed, step, what.flags)
			if err != nil && strings.Contains(out, "error in object: unshallow") {
				break // git has written a shallow commit that it has not: it can go on no more
			}
			if err != nil {
				if !errors.Is(errPlan, errkind.Invalid) || !strings.Contains(out, "no commits selected") {
					t.Fatalf("%s: %v, git says %v", name, errPlan, out)
				}
				continue
			}
			if errPlan != nil {
				t.Fatalf("%s: %v", name, errPlan)
			}

			after := setOf(shallow)
			for _, o := range p.Unshallow {
				delete(after, o)
			}
			for _, o := range p.Shallow {
				after[o] = true
			}
			want := setOf(shallowFile(t, client))
			if len(minus(after, want))+len(minus(want, after)) > 0 {
				t.Fatalf("%s: shallow too much %v, too little %v", name, minus(after, want), minus(want, after))
			}
			send := members(s, p.Send)
			for o := range closure(t, s, append(slices.Clone(q.Wants), q.Haves...), after) {
				if !had[o] && !send[o] {
					t.Fatalf("%s: wants %v haves %v shallow %v: %s is neither had nor sent", name, q.Wants, q.Haves, q.Shallow, o)
				}
			}
			if wrong := minus(members(s, p.Given), had); len(wrong) > 0 {
				t.Errorf("%s: given, but not had: %v", name, wrong)
			}
			n := gitTotal(t, out)
			sent, gits = sent+len(send), gits+n
		}
	}
	t.Logf("sent %d objects, git %d", sent, gits)
	if sent > gits {
		t.Errorf("sent %d objects, git %d", sent, gits)
	}
}

var totalLine = regexp.MustCompile(`remote: Total (\d+) `)

// gitTotal reads how many objects git has sent.
func gitTotal(t *testing.T, out string) int {
	t.Helper()
	m := totalLine.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("git does not say what it sent: %s", out)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// traced finds what the client said in the last request of a fetch.
func traced(t *testing.T, file, word string) (list []git.OID) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		if strings.Contains(l, "fetch> command=fetch") {
			list = nil
		}
		if _, id, ok := strings.Cut(l, "fetch> "+word+" "); ok {
			list = append(list, git.MustParseOID(strings.TrimSpace(id)))
		}
	}
	return list
}

func shallowFile(t *testing.T, r gitRepo) (list []git.OID) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.Dir, "shallow"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for l := range strings.FieldsSeq(string(data)) {
		list = append(list, git.MustParseOID(l))
	}
	return list
}
