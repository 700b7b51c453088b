package sign_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/errkind"
)

// The examples of RFC 8785, sections 3.2.2 to 3.2.4.
func TestCanonicalExamples(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{
			"3.2.2 and 3.2.3",
			`{
  "numbers": [333333333.33333329, 1E30, 4.50,
              2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`,
			`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		{
			"3.2.3, sorting by UTF-16",
			`{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
			  "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}`,
			`{"\r":"Carriage Return","1":"One","` + "\u0080" + `":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face","` + "\ufb33" + `":"Hebrew Letter Dalet With Dagesh"}`,
		},
		{"blanks", "\t[ 1 ,\r\n { } ] ", "[1,{}]"},
		{"escapes", `"\b\f\n\r\t\u0000\u001f\u007f\u2028"`, `"\b\f\n\r\t\u0000\u001f` + "\u007f\u2028" + `"`},
	}
	for _, tt := range tests {
		got, err := sign.Canonical([]byte(tt.in))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v\nwant %s", tt.name, got, err, tt.want)
		}
		if again, err := sign.Canonical(got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: not stable: %s, %v", tt.name, again, err)
		}
	}
}

// The table of RFC 8785, appendix B. Its zero with a sign is refused here, and so is what is no number.
func TestCanonicalNumbers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		bits uint64
		want string
	}{
		{0x0000000000000000, "0"},
		{0x8000000000000000, ""},
		{0x0000000000000001, "5e-324"},
		{0x8000000000000001, "-5e-324"},
		{0x7fefffffffffffff, "1.7976931348623157e+308"},
		{0xffefffffffffffff, "-1.7976931348623157e+308"},
		{0x4340000000000000, "9007199254740992"},
		{0xc340000000000000, "-9007199254740992"},
		{0x4430000000000000, "295147905179352830000"},
		{0x44b52d02c7e14af5, "9.999999999999997e+22"},
		{0x44b52d02c7e14af6, "1e+23"},
		{0x44b52d02c7e14af7, "1.0000000000000001e+23"},
		{0x444b1ae4d6e2ef4e, "999999999999999700000"},
		{0x444b1ae4d6e2ef4f, "999999999999999900000"},
		{0x444b1ae4d6e2ef50, "1e+21"},
		{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
		{0x3eb0c6f7a0b5ed8d, "0.000001"},
		{0x41b3de4355555553, "333333333.3333332"},
		{0x41b3de4355555554, "333333333.33333325"},
		{0x41b3de4355555555, "333333333.3333333"},
		{0x41b3de4355555556, "333333333.3333334"},
		{0x41b3de4355555557, "333333333.33333343"},
		{0xbecbf647612f3696, "-0.0000033333333333333333"},
		{0x43143ff3c1cb0959, "1424953923781206.2"},
	}
	for _, tt := range tests {
		f := math.Float64frombits(tt.bits)
		in, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sign.Canonical(in)
		if string(got) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%x: %s, %v, want %s", tt.bits, got, err, tt.want)
		}
		// In a body a float is the same text.
		b := body
		b.Request.Value = f
		text, err := sign.Encode(b)
		if (err == nil) != (tt.want != "") || err == nil && !bytes.HasSuffix(text, []byte(`"value":`+tt.want+`}`)) {
			t.Errorf("%x in a body: %s, %v", tt.bits, text, err)
		}
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)} {
		b := body
		b.Request.Value = []any{map[string]any{"x": f}}
		if _, err := sign.Encode(b); !errors.Is(err, sign.Malformed) {
			t.Errorf("a body with %v: %v", f, err)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     errkind.Kind
	}{
		{"nothing", "", errkind.Invalid},
		{"key twice", `{"a":1,"a":1}`, errkind.Invalid},
		{"key twice, once escaped", `[{"a":1,"\u0061":2}]`, errkind.Invalid},
		{"high surrogate alone", `"\ud83d"`, errkind.Invalid},
		{"low surrogate alone", `"\ude00"`, errkind.Invalid},
		{"surrogates in the wrong order", `"\ude00\ud83d"`, errkind.Invalid},
		{"surrogate in a key", `{"\ud83d":1}`, errkind.Invalid},
		{"surrogate in UTF-8", "\"\xed\xa0\xbd\"", errkind.Invalid},
		{"no UTF-8", "\"\xff\"", errkind.Invalid},
		{"NaN", `NaN`, errkind.Invalid},
		{"Infinity", `-Infinity`, errkind.Invalid},
		{"too large for a double", `1e309`, errkind.Invalid},
		{"zero with a sign", `{"a":[-0]}`, errkind.Invalid},
		{"another", `-0.00e7`, errkind.Invalid},
		{"smaller than every double", `-1e-999`, errkind.Invalid},
		{"leading zero", `01`, errkind.Invalid},
		{"two values", `1 2`, errkind.Invalid},
		{"control character", "\"a\nb\"", errkind.Invalid},
		{"deep", strings.Repeat("[", 100_000), errkind.Invalid},
		{"large", strings.Repeat(" ", sign.MaxBodyBytes+1), errkind.TooLarge},
	}
	for _, tt := range tests {
		if got, err := sign.Canonical([]byte(tt.in)); errkind.Of(err) != tt.want {
			t.Errorf("%s: %s, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"b":[1.50,-0,1e21],"a":"\u20ac\ud83d\ude00"}`, `{"a":1,"a":2}`, `"\ud83d"`, "[[[]]]", "-0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := sign.Canonical(in)
		if err != nil {
			return
		}
		if again, err := sign.Canonical(out); err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%q becomes %q, and that %q, %v", in, out, again, err)
		}
		var a, b any
		if err := errors.Join(json.Unmarshal(in, &a), json.Unmarshal(out, &b)); err != nil {
			t.Fatalf("encoding/json on %q, %q: %v", in, out, err)
		}
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if !bytes.Equal(x, y) {
			t.Fatalf("%q and %q have different meanings", in, out)
		}
	})
}
