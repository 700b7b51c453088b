package format_test

import (
	"testing"

	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// HashiCorp's own parser, as its tools use it, reads what is exported: attributes with values that need no context.
func TestHashiCorpsParserReadsTheExport(t *testing.T) {
	data, err := serializer(t, "hcl").Marshal(t.Context(), map[string]any{
		"backend":  map[string]any{"host": "10.0.0.1", "port": int64(9007199254740993), "weight": 1.5, "none": nil},
		"template": "${not} %{one} \"quoted\"\n",
		"tags":     []any{"a", true, []any{}},
		"api.v1":   int64(-1),
	})
	if err != nil {
		t.Fatal(err)
	}
	file, diagnostics := hclparse.NewParser().ParseHCL(data, "export.hcl")
	if diagnostics.HasErrors() {
		t.Fatalf("%v\n%s", diagnostics, data)
	}
	attributes, diagnostics := file.Body.JustAttributes()
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	want := map[string]string{
		"backend":  `{"host":"10.0.0.1","none":null,"port":9007199254740993,"weight":1.5}`,
		"template": `"${not} %{one} \"quoted\"\n"`,
		"tags":     `["a",true,[]]`,
		"_":        `{"api.v1":-1}`,
	}
	if len(attributes) != len(want) {
		t.Errorf("there are %d attributes, want %d:\n%s", len(attributes), len(want), data)
	}
	for name, text := range want {
		v, diagnostics := attributes[name].Expr.Value(nil)
		if diagnostics.HasErrors() {
			t.Errorf("%s: %v", name, diagnostics)
			continue
		}
		got, err := ctyjson.Marshal(v, v.Type())
		if v.Type() == cty.DynamicPseudoType || err != nil || string(got) != text {
			t.Errorf("%s is %s, %v, want %s", name, got, err, text)
		}
	}
}
