package diff_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/git/diff"
)

// checkEdits: an edit script is in order, leaves only equal lines out, and keeps its hunks apart.
func checkEdits(t *testing.T, a, b []byte) (changed int) {
	t.Helper()
	x, y := diff.SplitLines(a), diff.SplitLines(b)
	i, j := 0, 0
	for n, h := range diff.Edits(a, b) {
		if n > 0 && h[0] == i {
			t.Fatalf("from %q to %q: hunks touch at %v", a, b, h)
		}
		if h[0] < i || h[1] < h[0] || h[1] > len(x) || h[2] < j || h[3] < h[2] || h[3] > len(y) || h[0]-i != h[2]-j || h[0] == h[1] && h[2] == h[3] {
			t.Fatalf("from %q to %q: bad hunk %v after %d, %d", a, b, h, i, j)
		}
		for ; i < h[0]; i, j = i+1, j+1 {
			if !bytes.Equal(x[i], y[j]) {
				t.Fatalf("from %q to %q: lines %d and %d are called equal", a, b, i, j)
			}
		}
		i, j = h[1], h[3]
		changed += h[1] - h[0] + h[3] - h[2]
	}
	for ; i < len(x) || j < len(y); i, j = i+1, j+1 {
		if i == len(x) || j == len(y) || !bytes.Equal(x[i], y[j]) {
			t.Fatalf("from %q to %q: the ends differ", a, b)
		}
	}
	return changed
}

// shortest is the length of a shortest edit script, the slow and sure way.
func shortest(a, b []byte) int {
	x, y := diff.SplitLines(a), diff.SplitLines(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		prev := row[0]
		row[0] = i + 1
		for j := range y {
			keep := prev
			prev = row[j+1]
			if bytes.Equal(x[i], y[j]) {
				row[j+1] = keep
			} else {
				row[j+1] = 1 + min(row[j+1], row[j])
			}
		}
	}
	return row[len(y)]
}

func TestEditsAreShortest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		a := randomText(rnd, 40)
		b := randomText(rnd, 40)
		if rnd.IntN(2) == 0 {
			b = mutate(rnd, a)
		}
		got := checkEdits(t, []byte(a), []byte(b))
		if want := shortest([]byte(a), []byte(b)); got != want {
			t.Errorf("from %q to %q: %d lines, want %d", a, b, got, want)
		}
	}
}

func FuzzDiffLines(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), []byte("a\nc\n"))
	f.Add([]byte("a\nb"), []byte("a\nb\n"))
	f.Add([]byte(""), []byte("\n\n\n"))
	f.Add([]byte("x\nx\nx\nx\n"), []byte("x\nx\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got := checkEdits(t, a, b)
		if len(a)+len(b) < 500 && got != shortest(a, b) {
			t.Errorf("from %q to %q: %d lines, want %d", a, b, got, shortest(a, b))
		}
	})
}

// TestHardTextsEndInTime: texts that are made to take long are compared less well, not for minutes.
func TestHardTextsEndInTime(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	var a, b []byte
	lines := make([][]byte, 60_000)
	for i := range lines {
		lines[i] = fmt.Appendf(nil, "%d\n", i)
	}
	a = bytes.Join(lines, nil)
	rnd.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	b = bytes.Join(lines, nil)
	start := time.Now()
	checkEdits(t, a, b)
	if took := time.Since(start); took > 30*time.Second { // it takes half a second where nothing else runs
		t.Errorf("it took %v", took)
	}
}

// TestSlide: where equal lines leave a choice, hunks are where people expect them.
func TestSlide(t *testing.T) {
	tests := []struct {
		name string
		a, b []string
		want string // the changed lines
	}{
		{
			"a function between two",
			[]string{"func a() {", "\tx", "}", "", "func c() {", "\tx", "}"},
			[]string{"func a() {", "\tx", "}", "", "func b() {", "\tx", "}", "", "func c() {", "\tx", "}"},
			"+func b() {|+\tx|+}|+",
		},
		{
			"a block within a block",
			[]string{"for {", "\tif a {", "\t\tx", "\t}", "}"},
			[]string{"for {", "\tif a {", "\t\tx", "\t}", "\tif b {", "\t\tx", "\t}", "}"},
			"+\tif b {|+\t\tx|+\t}",
		},
		{
			"equal lines: the last ones",
			[]string{"x", "x", "y"},
			[]string{"x", "x", "x", "x", "y"},
			"+x|+x",
		},
		{
			"a deletion slides to an addition",
			[]string{"a", "b", "b", "c"},
			[]string{"a", "b", "d", "c"},
			"-b|+d",
		},
		{
			"a paragraph with its blank line",
			[]string{"one", "", "three"},
			[]string{"one", "", "two", "", "three"},
			"+two|+",
		},
	}
	for _, tt := range tests {
		var got []string
		for _, h := range diff.Edits([]byte(strings.Join(tt.a, "\n")+"\n"), []byte(strings.Join(tt.b, "\n")+"\n")) {
			for _, l := range tt.a[h[0]:h[1]] {
				got = append(got, "-"+l)
			}
			for _, l := range tt.b[h[2]:h[3]] {
				got = append(got, "+"+l)
			}
		}
		if g := strings.Join(got, "|"); g != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, g, tt.want)
		}
	}
}

func BenchmarkEdits(b *testing.B) {
	rnd := rand.New(rand.NewPCG(11, 12))
	lines := make([]string, 5000)
	for i := range lines {
		lines[i] = fmt.Sprintf("%sline %d\n", strings.Repeat("\t", rnd.IntN(5)), rnd.IntN(3000))
	}
	old := []byte(strings.Join(lines, ""))
	for range 100 {
		lines[rnd.IntN(len(lines))] = fmt.Sprintf("changed %d\n", rnd.IntN(50))
	}
	cur := []byte(strings.Join(lines, ""))
	b.SetBytes(int64(len(old) + len(cur)))
	b.ReportAllocs()
	for b.Loop() {
		diff.Edits(old, cur)
	}
}
