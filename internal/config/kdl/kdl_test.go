package kdl_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config/kdl"
	"github.com/skep-dev/skep/internal/errkind"
)

// Each production of KDL 2's grammar, by what Marshal makes of it.
func TestParse(t *testing.T) {
	tests := []struct{ production, in, want string }{
		{"document", "", ""},
		{"bom", "\ufeffnode", "node\n"},
		{"version", "/- kdl-version 2\nnode", "node\n"},
		{"version after a bom, with other spaces", "\ufeff/-\tkdl-version\u3000 2 \r\nnode", "node\n"},
		{"nodes", "\n\n  a ; b;\nc", "a\nb\nc\n"},
		{"node: type, argument, property, children", "(t)n 1 k=2 { c; }", "(t)n 1 k=2 {\n    c\n}\n"},
		{"node: arguments and properties in any order", "n b=1 x a=2 y", "n x y a=2 b=1\n"},
		{"node: the last property counts", "n a=1 a=2 b=3 a=4", "n a=4 b=3\n"},
		{"node: children without white space", "n{c}", "n {\n    c\n}\n"},
		{"final-node", "n {a;b}", "n {\n    a\n    b\n}\n"},
		{"node-children: empty", "n {}", "n\n"},
		{"node-terminator: comment", "a // x\nb", "a\nb\n"},
		{"prop: white space around =", "n a = 1 b\\\n=\\\n2", "n a=1 b=2\n"},
		{"prop: keys of every form of string", `n a=1 "b c"=2 #"d"e"#=3`, "n a=1 \"b c\"=2 \"d\\\"e\"=3\n"},
		{"value: annotated", "n (u8)1 (t)x k=(t)#true", "n (u8)1 (t)x k=(t)#true\n"},
		{"type: white space in and after it", "( t )n ( \"a b\" /* */ ) 1", "(t)n (\"a b\")1\n"},
		{"identifier-string", "n - -- -a .a +.a a.b <x> a,b ~ é", "n - -- -a .a +.a a.b <x> a,b ~ é\n"},
		{"quoted-string: bare where it can be", `"n" "a" "a b" "" "true" "1" "-.5" "inf"`, `n a "a b" "" "true" "1" "-.5" "inf"` + "\n"},
		{"string-character: escapes", `n "\n\r\t\\\"\b\f\s\u{e9}\u{10ffff}"`, "n \"\\n\\r\\t\\\\\\\"\\b\\f é\U0010ffff\"\n"},
		{"ws-escape", "n \"a\\  \n\t b\"", "n ab\n"},
		{"multi-line", "n \"\"\"\n    a\n      b\n\n    \"\"\"", "n \"a\\n  b\\n\"\n"},
		{"multi-line: empty", "n \"\"\"\n\"\"\"", "n \"\"\n"},
		{"multi-line: newlines become line feeds", "n \"\"\"\r\n a\u2028 b\r\n \"\"\"", "n \"a\\nb\"\n"},
		{"multi-line: quotes and escapes", "n \"\"\"\n \"\"\\n\\\"\\\"\\\"\n \"\"\"", "n \"\\\"\\\"\\n\\\"\\\"\\\"\"\n"},
		{"multi-line: escaped newline", "n \"\"\"\n  a \\\n     b\n  \"\"\"", "n \"a b\"\n"},
		{"multi-line: a line of white space has none", "n \"\"\"\n   \n  a\n  \"\"\"", "n \"\\na\"\n"},
		{"raw-string", `n #"a\n"b"# ##"x"#y"##`, `n "a\\n\"b" "x\"#y"` + "\n"},
		{"raw-string: multi-line", "n #\"\"\"\n  a\\\n  \"\"\n  \"\"\"#", "n \"a\\\\\\n\\\"\\\"\"\n"},
		{"raw-string: empty", `n #""#`, "n \"\"\n"},
		{"decimal", "n 0 -1 +2 007 1_000_ 1.50 -0 0.0", "n 0 -1 2 7 1000 1.50 -0 0.0\n"},
		{"exponent", "n 1e3 1E-03 1.5e+10", "n 1E+3 1E-3 1.5E+10\n"},
		{"hex, octal, binary", "n 0xfF -0o17 +0b1_01_", "n 255 -15 5\n"},
		{"number: none loses a digit", "n 123456789012345678901234567890 0.1234567890123456789e-999", "n 123456789012345678901234567890 0.1234567890123456789E-999\n"},
		{"keyword, keyword-number", "n #true #false #null #inf #-inf #nan", "n #true #false #null #inf #-inf #nan\n"},
		{"single-line-comment", "// a\nn // b\n// c", "n\n"},
		{"multi-line-comment", "/* a /* b */ **/ n/* c */1 /* \n */ 2", "n 1 2\n"},
		{"slashdash: node", "/- a { b }\nc\n/-\n\nd", "c\n"},
		{"slashdash: entries", "n /-1 2 /- a=3 b=4 5/-6", "n 2 5 b=4\n"},
		{"slashdash: children", "n /-{ a } { b } /- { c }", "n {\n    b\n}\n"},
		{"slashdash: over a newline", "n /- // x\n 1 2", "n 2\n"},
		{"escline", "n \\ // x\n  1 \\\n /* y */ 2 \\", "n 1 2\n"},
		{"newline: all kinds", "a\nb\rc\r\nd\u0085e\vf\fg\u2028h\u2029i", "a\nb\nc\nd\ne\nf\ng\nh\ni\n"},
		{"unicode-space", "n\t1\u00a02\u16803\u20004\u200a5\u202f6\u205f7\u30008", "n 1 2 3 4 5 6 7 8\n"},
	}
	for _, tt := range tests {
		t.Run(tt.production, func(t *testing.T) {
			doc, err := kdl.Parse([]byte(tt.in), kdl.Options{})
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.in, err)
			}
			if got := string(marshal(t, doc)); got != tt.want {
				t.Errorf("Parse(%q) is\n%s\nwant\n%s", tt.in, got, tt.want)
			}
		})
	}
}

// What is not in the grammar is refused, with the place and with what to write.
func TestParseErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"a\nn tru\\e", "line 2 column 6: after \\ the line must end"},
		{"n;;m", "line 1 column 3: expected a name or a string, found ';'"},
		{"n\n}", "line 2 column 1: this } closes nothing"},
		{"n {\n c", "line 1 column 3: this { is never closed"},
		{"n {} {}", "line 1 column 6: a node has one block of children"},
		{"n { } 1", "line 1 column 7: after the children"},
		{"n {}x", "after the children"},
		{"n \"a\"1", "line 1 column 6: expected white space before '1'"},
		{"n\"a\"", "expected white space"},
		{"n 1a", "line 1 column 3: a number is digits"},
		{"n .1", "write a digit before the point, 0.1"},
		{"n 1.", "a number is digits"},
		{"n 1e", "a number is digits"},
		{"n 1._5", "a number is digits"},
		{"n 0x_1", "a hexadecimal number is 0x"},
		{"n 0b2", "a binary number is 0b"},
		{"n 0o", "an octal number is 0o"},
		{"n true", `write #true for the value, or "true"`},
		{"n nan", "write #nan for the number"},
		{"n #TRUE", "after # comes true"},
		{"n #true=1", "a property's key is text"},
		{"n (t)a=1", "a property's key is text"},
		{"n a=", "line 1 column 5: expected a value, found the end of the document"},
		{"n a=\n", "expected a value, found the end of the line"},
		{"n a=/-1", "expected a value, found '/'"},
		{"n ()1", "expected a name or a string, found ')'"},
		{"n (a b)1", "expected ) after the name of a type, found 'b'"},
		{"1", "text that starts like a number needs quotes"},
		{"a[b]", "expected white space before '['"},
		{"/-", "expected a name or a string"},
		{"/- /- n\nm", "expected a name or a string"},
		{`n "a`, "line 1 column 3: this string has no end"},
		{"n \"a\nb\"", `three quotes`},
		{"n #\"a\nb\"#", `three quotes`},
		{`n #"a"`, `write "#`},
		{`n """a"""`, "after three quotes a new line must start"},
		{"n \"\"\"\n a\"\"\"", "on a line of their own"},
		{"n \"\"\"\n a\n\tb\n \"\"\"", "line 2 of this string must start with the white space"},
		{`n "\/"`, `after \ comes one of`},
		{`n "\u{d800}"`, "Unicode scalar value"},
		{`n "\u{110000}"`, "Unicode scalar value"},
		{`n "\u{}"`, "Unicode scalar value"},
		{`n "\u{0000041}"`, "Unicode scalar value"},
		{`n "\`, "has no end"},
		{"n é\x01", `line 1 column 4: the character U+0001 may not stand in a document; write it as \u{1}`},
		{"// \u202e", "U+202E"},
		{"n \ufeff", "U+FEFF"},
		{"n \xff", "line 1 column 3: the document is not UTF-8"},
		{"n /* /* */", "this comment has no end"},
		{"n \\ x", `after \ the line must end`},
		{"/- kdl-version 2\nn true", "line 2 column 3: write #true"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			_, err := kdl.Parse([]byte(tt.in), kdl.Options{Version: 2})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%q): %v, want %q", tt.in, err, tt.want)
			}
			if !errors.Is(err, errkind.Invalid) {
				t.Errorf("Parse(%q) is not errkind.Invalid", tt.in)
			}
		})
	}
}

// KDL 1 has its own strings, keywords and white space.
func TestParseVersion1(t *testing.T) {
	tests := []struct{ production, in, want string }{
		{"keyword", "n true false null k=true", "n #true #false #null k=#true\n"},
		{"raw-string", `n r"a\n" r#"b"c"#`, `n "a\\n" "b\"c"` + "\n"},
		{"escaped-string: newlines", "n \"a\n b\"", "n \"a\\n b\"\n"},
		{"escape", `n "\/\u{41}\n"`, `n "/A\n"` + "\n"},
		{"bare-identifier", "a#b", "\"a#b\"\n"},
		{"bare-identifier: r", "r r=1", "r r=1\n"},
		{"ws: bom", "n \ufeff1", "n 1\n"},
		{"node-children", "n { a; b; }", "n {\n    a\n    b\n}\n"},
		{"slashdash", "/-n 1\nm /-1 2 /-{ x; }", "m 2\n"},
		{"type", `(t)n (u8)1 k=(t)"v"`, "(t)n (u8)1 k=(t)v\n"},
	}
	for _, tt := range tests {
		t.Run(tt.production, func(t *testing.T) {
			doc, err := kdl.Parse([]byte(tt.in), kdl.Options{Version: 1})
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.in, err)
			}
			if got := string(marshal(t, doc)); got != tt.want || doc.Version != 1 {
				t.Errorf("Parse(%q) is version %d\n%s\nwant\n%s", tt.in, doc.Version, got, tt.want)
			}
		})
	}
	for _, in := range []string{
		"n a", "n k=a", "n #true", "n k=#true", "n k = 1", "n (t) 1", "( t)n", "a,b", "n \"\\s\"", "n/-1", "n {} {}", "n\v1", "true", "n \\",
	} {
		if doc, err := kdl.Parse([]byte(in), kdl.Options{Version: 1}); err == nil {
			t.Errorf("Parse(%q) as KDL 1 is %v, want an error", in, doc)
		}
	}
}

func TestVersionOfADocument(t *testing.T) {
	tests := []struct {
		in     string
		option int
		want   int // 0 is an error
	}{
		{"n #true", 0, 2},
		{"n true", 0, 1}, // valid in KDL 1 only
		{"/- kdl-version 1\nn true", 0, 1},
		{"/- kdl-version 2\nn true", 0, 0},
		{"/- kdl-version 1\nn #true", 0, 0},
		{"/- kdl-version 1\nn true", 2, 0},
		{"/- kdl-version 2\nn", 2, 2},
		{"/- kdl-version 3\nn", 0, 2}, // a node that is commented out
		{"/- kdl-version2\nn", 0, 2},
		{"/- kdl-version 2 x\nn", 0, 2},
		{"n", 3, 0},
	}
	for _, tt := range tests {
		doc, err := kdl.Parse([]byte(tt.in), kdl.Options{Version: tt.option})
		switch {
		case tt.want == 0 && err == nil:
			t.Errorf("Parse(%q, %d) is version %d, want an error", tt.in, tt.option, doc.Version)
		case tt.want != 0 && (err != nil || doc.Version != tt.want):
			t.Errorf("Parse(%q, %d): %v, want version %d", tt.in, tt.option, err, tt.want)
		}
	}
}

func TestParseLimits(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("n{", n) + strings.Repeat("}", n) }
	tests := []struct{ name, within, beyond string }{
		{"depth", deep(kdl.MaxDepth), deep(kdl.MaxDepth + 1)},
		{"digits", "n " + strings.Repeat("1", kdl.MaxDigits), "n 0x" + strings.Repeat("1", kdl.MaxDigits)},
		{"items", strings.Repeat("n;", kdl.MaxItems), strings.Repeat("n;", kdl.MaxItems+1)},
		{"bytes", strings.Repeat(" ", kdl.MaxBytes), strings.Repeat(" ", kdl.MaxBytes+1)},
		{"nesting of comments has none", strings.Repeat("/*", 100_000) + strings.Repeat("*/", 100_000), deep(kdl.MaxDepth + 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := kdl.Parse([]byte(tt.within), kdl.Options{}); err != nil {
				t.Errorf("within the limit: %v", err)
			}
			if _, err := kdl.Parse([]byte(tt.beyond), kdl.Options{}); !errors.Is(err, errkind.TooLarge) {
				t.Errorf("beyond the limit: %v, want errkind.TooLarge", err)
			}
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	deep := []kdl.Node{{Name: "n"}}
	for range kdl.MaxDepth + 1 {
		deep = []kdl.Node{{Name: "n", Children: deep}}
	}
	tests := []struct {
		name string
		doc  kdl.Document
	}{
		{"another type", kdl.Document{Nodes: []kdl.Node{{Name: "n", Args: []kdl.Value{{Data: 1}}}}}},
		{"no number", kdl.Document{Nodes: []kdl.Node{{Name: "n", Args: []kdl.Value{{Data: kdl.Number("x")}}}}}},
		{"an empty number", kdl.Document{Nodes: []kdl.Node{{Name: "n", Args: []kdl.Value{{Data: kdl.Number("")}}}}}},
		{"a number in another form", kdl.Document{Nodes: []kdl.Node{{Name: "n", Args: []kdl.Value{{Data: kdl.Number("+1")}}}}}},
		{"text that is not UTF-8", kdl.Document{Nodes: []kdl.Node{{Name: "\xff"}}}},
		{"too deep", kdl.Document{Nodes: deep}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if data, err := kdl.Marshal(&tt.doc); !errors.Is(err, errkind.Invalid) {
				t.Errorf("Marshal is %q, %v, want errkind.Invalid", data, err)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	tests := []struct {
		n     kdl.Number
		isInt bool
		i     string
		f     string
	}{
		{kdl.Int(-15), true, "-15 true", "-15 true"},
		{kdl.Int(9223372036854775807), true, "9223372036854775807 true", "9.223372036854776e+18 true"},
		{"9223372036854775808", true, "", "9.223372036854776e+18 true"},
		{kdl.Float(2), false, "", "2 true"},
		{kdl.Float(1e300), false, "", "1e+300 true"},
		{"1E+1000", false, "", ""},
		{kdl.NegInf, false, "", "-Inf true"},
		{kdl.NaN, false, "", "NaN true"},
	}
	for _, tt := range tests {
		show := func(v any, ok bool) string {
			if !ok {
				return ""
			}
			return fmt.Sprint(v, " ", ok)
		}
		i, iok := tt.n.Int64()
		f, fok := tt.n.Float64()
		if tt.n.IsInt() != tt.isInt || show(i, iok) != tt.i || show(f, fok) != tt.f {
			t.Errorf("%s: IsInt %v, Int64 %q, Float64 %q", tt.n, tt.n.IsInt(), show(i, iok), show(f, fok))
		}
	}
}

func TestNodeProp(t *testing.T) {
	doc, err := kdl.Parse([]byte("n a=1 a=2"), kdl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := doc.Nodes[0].Prop("a"); !ok || !cmp.Equal(v, kdl.Value{Data: kdl.Number("2")}) {
		t.Errorf("Prop(a) = %v, %v", v, ok)
	}
	if _, ok := doc.Nodes[0].Prop("b"); ok {
		t.Error("Prop(b) was found")
	}
}
