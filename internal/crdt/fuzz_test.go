package crdt_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/crdt"
)

func FuzzParseHLC(f *testing.F) {
	for _, text := range []string{"hlc:1706012400.0042", "1706012400.999999", "7327360000000000000/33a7c1", "hlc:0.0000", "x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := crdt.ParseHLC(text)
		if err != nil {
			return
		}
		if again, err := crdt.ParseHLC(h.String()); err != nil || again != h {
			t.Errorf("%q is %s, and that is %s, %v", text, h, again, err)
		}
	})
}

func FuzzParseDot(f *testing.F) {
	f.Add("a#1")
	f.Add("node-7#18446744073709551615")
	f.Add("a#1.2")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := crdt.ParseDot(text); err == nil {
			if again, err := crdt.ParseDot(d.String()); err != nil || again != d || d.IsZero() {
				t.Errorf("%q is %s, and that is %s, %v", text, d, again, err)
			}
		}
		var tag crdt.Tag
		if tag.UnmarshalText([]byte(text)) == nil {
			var again crdt.Tag
			if err := again.UnmarshalText([]byte(tag.String())); err != nil || again != tag {
				t.Errorf("%q is %s, and that is %s, %v", text, tag, again, err)
			}
		}
	})
}

func FuzzParseDots(f *testing.F) {
	for _, text := range []string{"", "a:1", "a:1,b:7,b#9", "a#3,a#2,a#1", "a:18446744073709551615,a#18446744073709551615"} {
		f.Add(text, "a:3")
	}
	f.Fuzz(func(t *testing.T, text, other string) {
		s, err := crdt.ParseDots(text)
		if err != nil {
			return
		}
		again, err := crdt.ParseDots(s.String())
		if err != nil || again.String() != s.String() || !again.Covers(&s) || !s.Covers(&again) {
			t.Errorf("%q is %s, and that is %s, %v", text, s.String(), again.String(), err)
		}
		if u, err := crdt.ParseDots(other); err == nil {
			a, b := s.Clone(), u.Clone()
			a.Union(&u)
			b.Union(&s)
			if a.String() != b.String() || !a.Covers(&u) {
				t.Errorf("%s and %s are %s or %s", s.String(), u.String(), a.String(), b.String())
			}
		}
	})
}

func FuzzBetween(f *testing.F) {
	f.Add("", "", "n")
	f.Add("V", "W", "n")
	f.Add("zz9", "", "n")
	f.Add("", "001", "n")
	f.Fuzz(func(t *testing.T, a, b, node string) {
		if a != "" && crdt.CheckPosition(a) != nil || b != "" && crdt.CheckPosition(b) != nil {
			return
		}
		checkBetween(t, a, b, crdt.Between(a, b, node))
	})
}
