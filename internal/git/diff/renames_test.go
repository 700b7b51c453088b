package diff_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/diff"
)

// uniqueText makes lines that are nowhere else.
func uniqueText(rnd *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%x", rnd.Uint64())
	}
	return out
}

// TestRenamesAreGits: files that are moved, changed, deleted and added at random are paired as git pairs them.
func TestRenamesAreGits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(13, 14))
	r := newGitRepo(t)
	const n = 12
	var history []commit
	for i := range n {
		a, b := files{}, files{}
		for f := range 25 {
			lines := uniqueText(rnd, 5+rnd.IntN(40))
			from := fmt.Sprintf("%c/%d/name%d", 'a'+rnd.IntN(3), f, rnd.IntN(10))
			to := fmt.Sprintf("%c/%d/name%d", 'x'+rnd.IntN(3), f, rnd.IntN(10))
			switch rnd.IntN(6) {
			case 0: // goes
				a[from] = text(lines...)
			case 1: // comes
				b[to] = text(lines...)
			case 2: // moves as it is, perhaps twice
				a[from], b[to] = text(lines...), text(lines...)
				if rnd.IntN(2) == 0 {
					b["copy/"+to] = text(lines...)
				}
			default: // moves with changes: some too many
				a[from] = text(lines...)
				for range 1 + rnd.IntN(len(lines)) {
					lines[rnd.IntN(len(lines))] = fmt.Sprintf("%x", rnd.Uint64())
				}
				b[to] = text(lines...)
			}
		}
		history = append(history, commit{branch: fmt.Sprint("a", i), files: a}, commit{branch: fmt.Sprint("b", i), files: b})
	}
	r.history(history...)
	s := r.store()
	renamed := 0
	for i := range n {
		a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
		for _, percent := range []int{50, 20, 90, 100} {
			want := r.Git("diff-tree", "-r", "-z", "--raw", fmt.Sprintf("-M%d%%", percent), "--no-abbrev", a, b)
			changes := collect(t, s, r.OID(a+"^{tree}"), r.OID(b+"^{tree}"))
			changes, err := diff.Renames(t.Context(), s, changes, percent)
			if err != nil {
				t.Fatal(err)
			}
			got := raw(changes)
			if diff := cmp.Diff(strings.Split(want, "\x00"), strings.Split(got, "\x00")); diff != "" {
				t.Errorf("pair %d, %d%% (-git +ours):\n%s", i, percent, diff)
			}
			for _, c := range changes {
				if c.Renamed() {
					renamed++
				}
			}
		}
	}
	if renamed < 100 {
		t.Errorf("only %d renames: the test shows little", renamed)
	}
}

// TestRenameRules are the cases that random trees seldom have.
func TestRenameRules(t *testing.T) {
	lines := numbered(20)
	same := text(lines...)
	tests := []struct {
		name string
		a, b files
		want []string
	}{
		{"equal content prefers the equal name", files{"a/x": same, "a/y": same}, files{"b/y": same}, []string{"D a/x", "R100 a/y b/y"}},
		{"a deletion is used once", files{"x": same}, files{"y": same, "z": same}, []string{"R100 x y", "A z"}},
		{"empty files move", files{"x": {"100644", ""}}, files{"y": {"100644", ""}}, []string{"R100 x y"}},
		{"a link is no file", files{"x": {"120000", "t"}}, files{"y": {"100644", "t"}}, []string{"D x", "A y"}},
		{"a link moves", files{"x": {"120000", "t"}}, files{"y": {"120000", "t"}}, []string{"R100 x y"}},
		{"a changed link does not", files{"x": {"120000", strings.Repeat("t", 50)}}, files{"y": {"120000", strings.Repeat("t", 50) + "u"}}, []string{"D x", "A y"}},
		{"the mode may change", files{"x": same}, files{"y": {"100755", same.data}}, []string{"R100 x y"}},
		{"the most similar first", files{"x": text(change(lines, 1, 2, 3)...), "y": text(change(lines, 1)...)}, files{"z": same}, []string{"D x", "R090 y z"}},
		{"what stays is no source", files{"x": same}, files{"x": same, "y": same}, []string{"A y"}},
		{"CR at the end of lines does not count", files{"x": same}, files{"y": {"100644", strings.ReplaceAll(same.data, "\n", "\r\n")}}, []string{"R088 x y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newGitRepo(t)
			r.history(commit{branch: "a", files: tt.a}, commit{branch: "b", files: tt.b})
			s := r.store()
			changes := collect(t, s, r.OID("a^{tree}"), r.OID("b^{tree}"))
			changes, err := diff.Renames(t.Context(), s, changes, 50)
			if err != nil {
				t.Fatal(err)
			}
			// Git agrees first of all.
			want := r.Git("diff-tree", "-r", "-z", "--raw", "-M", "--no-abbrev", "a", "b")
			if diff := cmp.Diff(strings.Split(want, "\x00"), strings.Split(raw(changes), "\x00")); diff != "" {
				t.Errorf("(-git +ours):\n%s", diff)
			}
			var got []string
			for _, c := range changes {
				switch {
				case c.Old.Mode == 0:
					got = append(got, "A "+c.New.Path)
				case c.New.Mode == 0:
					got = append(got, "D "+c.Old.Path)
				default:
					got = append(got, fmt.Sprintf("R%03d %s %s", c.Similarity, c.Old.Path, c.New.Path))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTooManyToCompare: beyond the limits, files that moved unchanged are found all the same, and nothing else is read.
func TestTooManyToCompare(t *testing.T) {
	m := newMemory()
	var changes []diff.Change
	add := func(path, data string, gone bool) {
		side := diff.Side{Mode: git.ModeFile, OID: m.put(git.Blob, []byte(data)), Path: path}
		if gone {
			changes = append(changes, diff.Change{Old: side})
		} else {
			changes = append(changes, diff.Change{New: side})
		}
	}
	for i := range 1001 {
		add(fmt.Sprintf("old/%d", i), fmt.Sprintf("%d one way\n", i), true)
		add(fmt.Sprintf("new/_%d", i), fmt.Sprintf("%d the other\n", i), false)
	}
	add("old/same", "same\n", true)
	add("new/same", "same\n", false)
	got, err := diff.RenamesOf(t.Context(), m, slices.Clone(changes), 50)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(changes)-1 || !got[len(got)-1].Renamed() || m.reads != 0 {
		t.Errorf("%d changes of %d, %d reads", len(got), len(changes), m.reads)
	}
	// Many equal files are paired, and soon.
	changes = nil
	for i := range 20_000 {
		add(fmt.Sprint("old/", i), "same\n", true)
		add(fmt.Sprint("new/", i), "same\n", false)
	}
	got, err = diff.RenamesOf(t.Context(), m, changes, 50)
	if err != nil || len(got) != 20_000 {
		t.Errorf("%d renames, %v; want 20000", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	changes = nil
	add("a", "one\n", true)
	add("b", "two\n", false)
	if _, err := diff.RenamesOf(ctx, m, changes, 50); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
