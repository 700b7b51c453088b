package format_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// What people write, and what it is as canonical JSON.
func TestUnmarshal(t *testing.T) {
	tests := []struct{ id, what, in, want string }{
		{"yaml", "nothing", "", `null`},
		{"yaml", "anchors and merge keys", "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a", `{"a":{"x":1,"y":2},"b":{"x":1,"y":3},"c":{"x":1,"y":2}}`},
		{"yaml", "a list of merge keys: the first wins", "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}", `{"a":{"x":1},"b":{"x":2,"y":2},"c":{"x":1,"y":2}}`},
		{"yaml", "dates stay text", "a: 2024-01-01\n2024-01-02: b", `{"2024-01-02":"b","a":"2024-01-01"}`},
		{"yaml", "numbers", "[0x10, 0o17, 1e3, 1.0, -1, 9223372036854775807]", `[16,15,1000.0,1.0,-1,9223372036854775807]`},
		{"yaml", "words of YAML 1.1 are strings", "[no, on, y]", `["no","on","y"]`},
		{"yaml", "blocks", "a: |\n  x\n  y\nb: >-\n  x\n  y", `{"a":"x\ny\n","b":"x y"}`},
		{"json", "everything", `{"a": [1, 1.0, null, true, {}], "b": "\u00e9"}`, `{"a":[1,1.0,null,true,{}],"b":"é"}`},
		{"toml", "nothing", "", `{}`},
		{
			"toml", "dates and times become text", "a = 2024-01-01\nb = 12:30:45\nc = 2024-01-01T12:30:45\nd = 2024-01-01T12:30:45.5+01:00\ne = [2024-01-01]",
			`{"a":"2024-01-01","b":"12:30:45","c":"2024-01-01T12:30:45","d":"2024-01-01T12:30:45.5+01:00","e":["2024-01-01"]}`,
		},
		{"toml", "tables", "[a.b]\nc = 1_000\n[[d]]\ne = 1.5\n[[d]]", `{"a":{"b":{"c":1000}},"d":[{"e":1.5},{}]}`},
		{"kdl", "values", "a 1\nb 1.0\nc #true\nd #null\ne text\nf \"1\"", `{"a":1,"b":1.0,"c":true,"d":null,"e":"text","f":"1"}`},
		{"kdl", "lists", "a 1 2\n(list)b 1\n(list)c\n(list)d { - 1; (list)- 2; - { x 1 } }", `{"a":[1,2],"b":[1],"c":[],"d":[1,[2],{"x":1}]}`},
		{"kdl", "maps", "a { x 1; y 2 }\nb x=1 y=2\nc x=1 { y 2 }\n(map)d", `{"a":{"x":1,"y":2},"b":{"x":1,"y":2},"c":{"x":1,"y":2},"d":{}}`},
		{"kdl", "entities by type and ID", "route api { weight 80 }\nroute web weight=20\nroute a b c=1", `{"route":{"a":{"b":{"c":1}},"api":{"weight":80},"web":{"weight":20}}}`},
		{"kdl", "KDL 1", "a true \"x\"\nb r\"\\n\"", `{"a":[true,"x"],"b":"\\n"}`},
		{"kdl", "annotations of values are not looked at", "a (u8)1", `{"a":1}`},
		{"xml", "maps, lists and types", "<config><!-- c --><a>1</a><b type=\"int\"> 1 </b><c type=\"list\"><item type=\"bool\">true</item></c></config>", `{"a":"1","b":1,"c":[true]}`},
		{"xml", "CDATA and entities", "<?xml version=\"1.0\"?><config><a><![CDATA[<x> ]]>&amp;&#10;</a></config>", `{"a":"<x> &\n"}`},
		{"xml", "a value alone", "<config type=\"null\"/>", `null`},
		{"xml", "text without a type", "<config/>", `""`},
		{"hcl", "literals", "a = 1\nb = -1.0\nc = \"x $${y} \\n\"\nd = [1, null, true]\ne = { f = 1, \"g h\" : 2 }\ni = 1e3", `{"a":1,"b":-1.0,"c":"x ${y} \n","d":[1,null,true],"e":{"f":1,"g h":2},"i":1000.0}`},
		{"hcl", "blocks", "route \"api\" {\n  weight = 80\n}\nroute \"web\" {\n  weight = 20\n}\nplain {\n}", `{"plain":{},"route":{"api":{"weight":80},"web":{"weight":20}}}`},
		{"hcl", "heredocs", "a = <<EOT\nx\ny\nEOT\nb = <<-EOT\n  x\n  EOT\n", `{"a":"x\ny\n","b":"x\n"}`},
		{"hcl", "comments", "# a\na = 1 // b\n/* c */", `{"a":1}`},
		{"hcl", "keys that are no names", "a = 1\n_ = { \"b.c\" = 2 }", `{"a":1,"b.c":2}`},
	}
	for _, tt := range tests {
		t.Run(tt.id+"/"+tt.what, func(t *testing.T) {
			v, err := parser(t, tt.id).Unmarshal(t.Context(), "file", []byte(tt.in))
			if err != nil {
				t.Fatalf("%q: %v", tt.in, err)
			}
			if got := string(value.Encode(v)); got != tt.want {
				t.Errorf("%q is %s, want %s", tt.in, got, tt.want)
			}
		})
	}
}

// What is malformed is refused, with its place and what to write.
func TestUnmarshalErrors(t *testing.T) {
	deep := func(open, shut string) string {
		return strings.Repeat(open, format.MaxDepth+2) + strings.Repeat(shut, format.MaxDepth+2)
	}
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		n, m := string(rune('1'+i)), string(rune('0'+i))
		bomb += "a" + n + ": &a" + n + " [" + strings.Repeat("*a"+m+", ", 9) + "*a" + m + "]\n"
	}
	tests := []struct {
		id, in, want string
		kind         errkind.Kind
	}{
		{"yaml", "a: 1\nb: [", "line 2", errkind.Invalid},
		{"yaml", "a: 1\na: 2", `file: line 2 column 1: the key "a" is there twice`, errkind.Invalid},
		{"yaml", "1: a", "line 1 column 1: a key must be a string; put it in quotes", errkind.Invalid},
		{"yaml", "[a]: 1", "a key must be a string", errkind.Invalid},
		{"yaml", "a: 1\n---\nb: 2", "line 2 column 1: a second document", errkind.Invalid},
		{"yaml", "a: .nan", "line 1 column 4: NaN is no number", errkind.Invalid},
		{"yaml", "a: 18446744073709551615", "does not fit into 64 bits", errkind.Invalid},
		{"yaml", "a: 123456789012345678901234567890", "does not fit into 64 bits", errkind.Invalid},
		{"yaml", "a: !!binary eA==", "the tag !!binary is not known", errkind.Invalid},
		{"yaml", "a: !x {}", "the tag !x is not known", errkind.Invalid},
		{"yaml", "a: &a [*a]", "line 1 column 4: a document has at most", errkind.TooLarge},
		{"yaml", "a: *b", "unknown anchor 'b'", errkind.Invalid},
		{"yaml", "a: {<<: 1}", "after << comes a map", errkind.Invalid},
		{"yaml", bomb, "a document has at most", errkind.TooLarge},
		{"yaml", deep("[", "]"), "levels", errkind.TooLarge},
		{"yaml", "[" + strings.Repeat("1,", 3_000_000) + "]", "too many values", errkind.TooLarge},
		{"toml", "a = [" + strings.Repeat("1,", 3_000_000) + "]", "too many values", errkind.TooLarge},
		{"hcl", "a = [" + strings.Repeat("1,", 3_000_000) + "]", "bytes", errkind.TooLarge},
		{"yaml", "a: \xff", "it is not UTF-8", errkind.Invalid},
		{"json", "{\n \"a\": 1,\n}", "line 3", errkind.Invalid},
		{"json", `{"a":1,"a":2}`, `the key "a" is there twice`, errkind.Invalid},
		{"json", deep("[", "]"), "deeper than 40", errkind.Invalid},
		{"json", strings.Repeat(" ", format.MaxBytes) + "1", "bytes", errkind.TooLarge},
		{"toml", "a = 1\nb = ", "line 2 column", errkind.Invalid},
		{"toml", "a = 1\na = 2", "line 2 column 1", errkind.Invalid},
		{"toml", "a = inf", "no number that a field can have", errkind.Invalid},
		{"toml", "a = 9223372036854775808", "line 1 column 5", errkind.Invalid},
		{"toml", "a = " + deep("[", "]"), "deeper than 40 levels", errkind.TooLarge},
		{"toml", strings.Repeat("a.", 100_000) + "b = 1", "deeper than 40 levels", errkind.TooLarge},
		{"kdl", "a 1\nb {", "line 2 column 3: this { is never closed", errkind.Invalid},
		{"kdl", "a 1\na 2", "a: this node is there twice", errkind.Invalid},
		{"kdl", "a", "a: a node with nothing has no value; write (map)a", errkind.Invalid},
		{"kdl", "a 1 { b 2 }", "may have strings as arguments", errkind.Invalid},
		{"kdl", "a 1\na b { c 1 }", "a is there twice, once as a number", errkind.Invalid},
		{"kdl", "(list)a { b 1 }", "the children of a list have the name -", errkind.Invalid},
		{"kdl", "(list)a x=1", "a list has arguments, or children", errkind.Invalid},
		{"kdl", "(map)a 1", "a map has properties and children", errkind.Invalid},
		{"kdl", "a b=1 { b 2 }", "b: this node is there twice", errkind.Invalid},
		{"kdl", "a #inf", "does not fit into 64 bits", errkind.Invalid},
		{"kdl", "a 9223372036854775808", "does not fit into 64 bits", errkind.Invalid},
		{"kdl", "a 1e999", "does not fit into 64 bits", errkind.Invalid},
		{"kdl", deep("a {", "}"), "deeper than 40", errkind.Invalid},
		{"kdl", "a " + strings.Repeat("b ", 100) + "c=1", "deeper than 40", errkind.Invalid},
		{"xml", "<config>\n<a></config>", "line 2 column", errkind.Invalid},
		{"xml", "<other/>", "the root is one element <config>", errkind.Invalid},
		{"xml", "<config/><config/>", "the root is one element", errkind.Invalid},
		{"xml", "<config/>x", "text stands outside of the root", errkind.Invalid},
		{"xml", "<!DOCTYPE config [<!ENTITY a \"b\">]><config>&a;</config>", "a document type is not read", errkind.Invalid},
		{"xml", "<config>&a;</config>", "invalid character entity", errkind.Invalid},
		{"xml", "<config><a/><a/></config>", `the key "a" is there twice`, errkind.Invalid},
		{"xml", "<config>x<a/></config>", "text or children, not both", errkind.Invalid},
		{"xml", "<config type=\"int\">1.5</config>", `"1.5" is not of the type int`, errkind.Invalid},
		{"xml", "<config type=\"date\"/>", `the type "date" is not known`, errkind.Invalid},
		{"xml", "<config type=\"list\"><a/></config>", "the children of a list are <item>", errkind.Invalid},
		{"xml", "<config a=\"b\"/>", `has the attribute "a"`, errkind.Invalid},
		{"xml", "<config><x:a xmlns:x=\"y\"/></config>", "attribute", errkind.Invalid},
		{"xml", "<config encoding=\"json\">x</config>", "no string in JSON", errkind.Invalid},
		{"xml", deep("<config>", "</config>"), "at most 40 deep", errkind.Invalid},
		{"hcl", "a = 1\nb = ", "line 2 column", errkind.Invalid},
		{"hcl", "a = 1\na = 2", "line 2 column 1", errkind.Invalid},
		{"hcl", "a = b", "line 1 column 5: only literal values are read", errkind.Invalid},
		{"hcl", "a = \"${b}\"", "only literal values", errkind.Invalid},
		{"hcl", "a = f(1)", "only literal values", errkind.Invalid},
		{"hcl", "a = 1 + 1", "only literal values", errkind.Invalid},
		{"hcl", "a = [for x in [1] : x]", "only literal values", errkind.Invalid},
		{"hcl", "a = {1 = 2}", "a key is a name or a string", errkind.Invalid},
		{"hcl", "a = {b = 1, b = 2}", `the key "b" is there twice`, errkind.Invalid},
		{"hcl", "a = 9223372036854775808", "does not fit into 64 bits", errkind.Invalid},
		{"hcl", "a = 1\na {\n}", "a is there twice, once as a number", errkind.Invalid},
		{"hcl", "a = " + strings.Repeat("[", 100_000), "deeper than 40", errkind.TooLarge},
		{"hcl", "a = " + strings.Repeat("-", 100_000), "only literal values", errkind.Invalid},
		{"hcl", strings.Repeat("a {\n", 100_000), "deeper than 40", errkind.TooLarge},
		{"hcl", "a " + strings.Repeat(`"b" `, 100) + "{\n}", "at most 4 labels", errkind.Invalid},
	}
	for _, tt := range tests {
		name := tt.in
		if len(name) > 60 {
			name = name[:60]
		}
		t.Run(tt.id+"/"+name, func(t *testing.T) {
			v, err := parser(t, tt.id).Unmarshal(t.Context(), "file", []byte(tt.in))
			if err == nil {
				t.Fatalf("it is %s, want an error", value.Encode(v))
			}
			if !strings.HasPrefix(err.Error(), "file: ") || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, tt.kind) {
				t.Errorf("%v\nwant %q, %v", err, tt.want, tt.kind)
			}
		})
	}
}

// No input makes an importer panic, and what it reads is a value that can be written and comes back.
func fuzzImport(f *testing.F, id string, seeds ...string) {
	f.Helper()
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	s, p := serializer(f, id), parser(f, id)
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := p.Unmarshal(t.Context(), "file", data)
		if err != nil {
			return
		}
		if _, err := value.NormalizeWithin(v, value.Limits{Depth: format.MaxDepth + 1}); err != nil {
			t.Fatalf("%q is no value: %v", data, err)
		}
		written, err := s.Marshal(t.Context(), v)
		if err != nil {
			if id == "yaml" || id == "json" || id == "xml" || id == "toml" {
				t.Fatalf("%q was read and cannot be written: %v", data, err)
			}
			return
		}
		back, err := p.Unmarshal(t.Context(), "file", written)
		if err != nil || !value.Equal(back, v) {
			t.Fatalf("%q is %s, written as\n%s\nand comes back as %v, %v", data, value.Encode(v), written, back, err)
		}
	})
}

func FuzzYAML(f *testing.F) {
	fuzzImport(f, "yaml", "a: &a [1, 'x', null]\nb: *a\nc: {<<: {d: |\n  x\n}}\n", "a: !!str 1\n2024-01-01: .5\n")
}
func FuzzJSON(f *testing.F) { fuzzImport(f, "json", `{"a": [1, -0.0, 1e5, "\u0000"]}`) }
func FuzzTOML(f *testing.F) { fuzzImport(f, "toml", "a.b = [1, 2024-01-01]\n[[c]]\nd = '''\nx'''\n") }
func FuzzKDL(f *testing.F)  { fuzzImport(f, "kdl", "a x { b 1; (list)c 1 2 }\n(map)d\ne f=1\n") }
func FuzzHCL(f *testing.F) {
	fuzzImport(f, "hcl", "a = [1, -2.5, \"x\\n\", null]\nb \"c\" {\n d = { e = <<EOT\nx\nEOT\n }\n}\n_ = {\"x y\" = 1}\n")
}

func FuzzXML(f *testing.F) {
	fuzzImport(f, "xml", `<config><a type="list"><item type="int">1</item></a><entry key="a b" key-encoding=""/><c encoding="json">"x"</c></config>`)
}
