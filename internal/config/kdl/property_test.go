package kdl_test

import (
	"cmp"
	"math"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/kdl"
)

// sameDocument compares as KDL does: properties have no order.
func sameDocument() gocmp.Options {
	return gocmp.Options{
		cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(a, b kdl.Prop) int { return cmp.Compare(a.Key, b.Key) }),
		cmpopts.IgnoreFields(kdl.Document{}, "Version"),
	}
}

func texts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a-z"#\\\n\r\t .+\-0-9{}=/]{0,8}`),
		rapid.SampledFrom([]string{"", "true", "null", "inf", "-inf", "-", "-1", ".5", "0x1", "1e3", "\u0085", "\u202e", "\ufeff", `"""`, `"#`, "/-"}),
	)
}

func values() *rapid.Generator[kdl.Value] {
	return rapid.Custom(func(t *rapid.T) kdl.Value {
		return kdl.Value{
			Type: rapid.Ptr(texts(), true).Draw(t, "type"),
			Data: rapid.OneOf(
				rapid.Just[any](nil),
				rapid.Bool().AsAny(),
				texts().AsAny(),
				rapid.Map(rapid.Int64(), kdl.Int).AsAny(),
				rapid.Map(rapid.Float64(), kdl.Float).AsAny(),
			).Draw(t, "data"),
		}
	})
}

func nodes(depth int) *rapid.Generator[[]kdl.Node] {
	node := rapid.Custom(func(t *rapid.T) kdl.Node {
		n := kdl.Node{
			Type: rapid.Ptr(texts(), true).Draw(t, "type"),
			Name: texts().Draw(t, "name"),
			Args: rapid.SliceOfN(values(), 0, 3).Draw(t, "args"),
		}
		for k, v := range rapid.MapOfN(texts(), values(), 0, 3).Draw(t, "props") {
			n.Props = append(n.Props, kdl.Prop{Key: k, Value: v})
		}
		slices.SortFunc(n.Props, func(a, b kdl.Prop) int { return cmp.Compare(a.Key, b.Key) })
		if depth > 0 {
			n.Children = nodes(depth-1).Draw(t, "children")
		}
		return n
	})
	return rapid.SliceOfN(node, 0, 3)
}

// Any document that can be made comes back as it was.
func TestMarshalThenParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := &kdl.Document{Nodes: nodes(2).Draw(t, "nodes")}
		data, err := kdl.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		back, err := kdl.Parse(data, kdl.Options{Version: 2})
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if diff := gocmp.Diff(doc, back, sameDocument()); diff != "" {
			t.Fatalf("%q came back otherwise (-want +got):\n%s", data, diff)
		}
	})
}

// A float comes back with the same bits.
func TestFloatComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64().Draw(t, "float")
		n := kdl.Float(f)
		back, ok := n.Float64()
		if !ok || math.Float64bits(back) != math.Float64bits(f) || n.IsInt() {
			t.Fatalf("%v is %q and comes back as %v", f, n, back)
		}
	})
}

// Parse never panics, and what it reads comes back from what Marshal writes.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"node 1 k=\"v\" {\n child #true\n}\n",
		"/- kdl-version 1\nn r#\"a\"# true /-{ x; } \\ // c\n",
		"n \"\"\"\n  a \\\n b\n  \"\"\" #\"\"\"\n \"\"\"# /-x /*/**/*/",
		"(t)n (\"\")0x1f -0b1_ 1.5e-3 #-inf #nan",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, version := range []int{0, 1, 2} {
			doc, err := kdl.Parse(data, kdl.Options{Version: version})
			if err != nil {
				continue
			}
			printed, err := kdl.Marshal(doc)
			if err != nil {
				t.Fatalf("%q was read and cannot be written: %v", data, err)
			}
			back, err := kdl.Parse(printed, kdl.Options{Version: 2})
			if err != nil {
				t.Fatalf("%q was written as %q, which cannot be read: %v", data, printed, err)
			}
			if diff := gocmp.Diff(doc, back, sameDocument()); diff != "" {
				t.Fatalf("%q came back otherwise:\n%s", data, diff)
			}
		}
	})
}
