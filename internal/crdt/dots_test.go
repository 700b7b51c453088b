package crdt_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/crdt"
)

func dots() *rapid.Generator[[]crdt.Dot] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) crdt.Dot {
		return crdt.Dot{Node: rapid.SampledFrom([]string{"a", "a-1", "b"}).Draw(t, "node"), Seq: rapid.Uint64Range(1, 12).Draw(t, "seq")}
	}), 0, 30)
}

func setOf(list []crdt.Dot) (s crdt.Dots, model map[crdt.Dot]bool) {
	model = map[crdt.Dot]bool{}
	for _, d := range list {
		s.Add(d)
		model[d] = true
	}
	return s, model
}

// Dots are the set that they say to be: held against a plain one.
func TestDotsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, other := dots().Draw(t, "list"), dots().Draw(t, "other")
		var s crdt.Dots
		model := map[crdt.Dot]bool{}
		for _, d := range list {
			if added := s.Add(d); added == model[d] {
				t.Fatalf("Add(%s) = %v", d, added)
			}
			model[d] = true
		}
		u, otherModel := setOf(other)
		covers := true
		for d := range otherModel {
			covers = covers && model[d]
		}
		if got := s.Covers(&u); got != covers {
			t.Fatalf("%s covers %s: %v, want %v", s.String(), u.String(), got, covers)
		}
		joined := s.Clone()
		joined.Union(&u)
		back := u.Clone()
		back.Union(&s)
		if joined.String() != back.String() {
			t.Fatalf("union one way is %s, the other way %s", joined.String(), back.String())
		}
		if !joined.Covers(&s) || !joined.Covers(&u) {
			t.Fatalf("%s does not cover %s and %s", joined.String(), s.String(), u.String())
		}
		for _, node := range []string{"a", "a-1", "b"} {
			last := uint64(0)
			for seq := uint64(1); seq < 14; seq++ {
				d := crdt.Dot{Node: node, Seq: seq}
				if s.Has(d) != model[d] || joined.Has(d) != (model[d] || otherModel[d]) {
					t.Fatalf("Has(%s) = %v, in the union %v", d, s.Has(d), joined.Has(d))
				}
				if model[d] && last == seq-1 {
					last = seq
				}
			}
			if s.Last(node) != last {
				t.Fatalf("Last(%s) = %d, want %d", node, s.Last(node), last)
			}
		}
	})
}

// Equal sets have equal texts, in whatever order they came to be, and a set survives its text.
func TestDotsSurviveTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := dots().Draw(t, "list")
		s, _ := setOf(list)
		shuffled, _ := setOf(rapid.Permutation(list).Draw(t, "shuffled"))
		if s.String() != shuffled.String() {
			t.Fatalf("%s and %s", s.String(), shuffled.String())
		}
		back, err := crdt.ParseDots(s.String())
		if err != nil || back.String() != s.String() || !back.Covers(&s) || !s.Covers(&back) {
			t.Fatalf("ParseDots(%q) = %s, %v", s.String(), back.String(), err)
		}
	})
}

func TestTagsSurviveTheirTextAndHaveOneOrder(t *testing.T) {
	tags := rapid.Custom(func(t *rapid.T) crdt.Tag {
		return crdt.Tag{Dot: dots().Filter(func(l []crdt.Dot) bool { return len(l) > 0 }).Draw(t, "dot")[0], N: rapid.Uint32().Draw(t, "n")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := tags.Draw(t, "a"), tags.Draw(t, "b")
		text, _ := a.MarshalText()
		var back crdt.Tag
		if err := back.UnmarshalText(text); err != nil || back != a {
			t.Fatalf("%s is read as %s, %v", text, back, err)
		}
		if a.Compare(b) != -b.Compare(a) || (a.Compare(b) == 0) != (a == b) {
			t.Fatalf("Compare(%s, %s) = %d and %d", a, b, a.Compare(b), b.Compare(a))
		}
	})
}

func TestBadDotsAreRefused(t *testing.T) {
	for _, text := range []string{"a#0", "a#-1", "a#01x", "#1", "A#1", "a", "a:0", "a:1,a:2", "a:1,", ",", "a#1,b", "a b:1"} {
		if s, err := crdt.ParseDots(text); err == nil {
			t.Errorf("ParseDots(%q) = %s", text, s.String())
		}
	}
}
