package config_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
)

// jsonOp is an operation as encoding/json has it, without the methods of Op.
type jsonOp config.Op

// opTexts are operations of all forms, as Encode writes them and as others may.
var opTexts = []string{
	`{"id":"a#1","hlc":"hlc:1706012400.0042","actor":{"id":"zara","class":"human"},"kind":"set_field","writes":[{"do":"put","entity":"route.api","inc":1,"field":"weight","gen":"a#1","merge":"lww","value":80,"old":90}]}`,
	`{"id":"a#2","hlc":"hlc:1706012400.0043","actor":{"id":"","class":"","name":"Zoë \"Z\""},"kind":"set_field","intent":"a\nb\u003c","via":"import:x","writes":[{"do":"remove","entity":"route.api","inc":1,"field":"tags","merge":"set","value":"x\\","seen":["a#1","b#2.7"]},{"do":"life","entity":"route.b","inc":2}]}`,
	`{"id":"a#3","hlc":"hlc:1706012400.0044","actor":{"id":"p","class":"pipeline"},"kind":"promote","from":"staging","to":"production","writes":[{"do":"override","entity":"route.api","inc":3,"field":"n","key":"k","env":"staging","merge":"map:max","value":1.5,"old":null,"epoch":"b#9","reviewed":true}]}`,
	`{"id":"a#4","hlc":"hlc:1706012400.0045","actor":{"id":"p","class":"pipeline"},"kind":"set_field","writes":[{"do":"put","entity":"route.api","inc":1,"field":"l","merge":"lww","value":[1,{"a":"]"},"}"],"old":{"x":-0.0}}],"signature":{"key":"k","body":"{\"v\":1}","sig":"AA=="}}`,
	`{"id":"a#5","hlc":"hlc:1706012400.0046","actor":{"id":"p","class":"human"},"kind":"change_schema","schema":{"text":"name = \"x\"","gens":{"route.weight":"a#5"}}}`,
	`{"id":"a#6","hlc":"hlc:1706012400.0047","actor":{"id":"p","class":"human"},"kind":"move_entity","writes":[{"do":"move","entity":"route.api","inc":1,"parent":"service.a","position":"V12"}]}`,
	` {"ID":"a#7", "hlc":"hlc:1706012400.0048","unknown":[1],"actor":null,"kind":"x","writes":[{"do":"life","entity":"a.b","inc":1,"inc":3}]}`,
	`{"id":"a#8","hlc":"hlc:1706012400.0049","kind":"x","writes":[],"signature":null}`,
	`{"id":"a#9","hlc":"hlc:1706012400.0049","kind":"x","writes":[{"do":"put","entity":"a.b","inc":01,"field":"f","merge":"lww","value":007}]}`,
	`{"id":"a#9","hlc":"hlc:1706012400.0049","kind":"x","writes":[{"do":"put","entity":"a.b","inc":1,"field":"f","merge":"lww","value": 7 }]}`,
	`{}`, `{"id":""}`, `null`, `[`,
}

// What the own parser reads, encoding/json reads alike; what it writes comes back.
func checkOpText(t *testing.T, data []byte) {
	t.Helper()
	op, err := config.DecodeOp(data)
	var want jsonOp
	if jsonErr := json.Unmarshal(data, &want); jsonErr != nil {
		if err == nil {
			t.Fatalf("DecodeOp(%q) reads what encoding/json refuses: %v", data, jsonErr)
		}
		return
	}
	if err != nil {
		return // it was read, and cannot be applied
	}
	if diff := cmp.Diff(config.Op(want), *op); diff != "" {
		t.Fatalf("DecodeOp(%q) is not what encoding/json reads: %s", data, diff)
	}
	text, err := op.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.DecodeOp(text)
	if err != nil {
		t.Fatalf("DecodeOp(%q), which Encode wrote: %v", text, err)
	}
	second, err := again.Encode()
	if err != nil || string(second) != string(text) {
		t.Fatalf("encoded again it is %q, %v, and was %q", second, err, text)
	}
}

func TestOpText(t *testing.T) {
	read := 0
	for _, text := range opTexts {
		checkOpText(t, []byte(text))
		op, err := config.DecodeOp([]byte(text))
		if err != nil {
			continue
		}
		read++
		if again, err := op.Encode(); err != nil || strings.HasPrefix(text, `{"id":"a#1"`) && string(again) != text {
			t.Errorf("Encode = %s, %v, want %s", again, err, text)
		}
	}
	if read < 7 {
		t.Errorf("%d texts are read", read)
	}
	bad := config.Op{ID: crdt.Dot{Node: "a", Seq: 1}, Time: 1, Intent: "\xff"}
	if _, err := bad.Encode(); err == nil {
		t.Error("text that is not UTF-8 is encoded")
	}
}

func FuzzOpText(f *testing.F) {
	for _, text := range opTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(checkOpText)
}

func BenchmarkDecodeOp(b *testing.B) {
	for b.Loop() {
		if _, err := config.DecodeOp([]byte(opTexts[0])); err != nil {
			b.Fatal(err)
		}
	}
}
