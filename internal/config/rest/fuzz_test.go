package rest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/rest"
)

func FuzzOperation(f *testing.F) {
	for _, text := range []string{
		`{"type":"set_field","entity_id":"service.api","field":"replicas","value":5,"intent":"Scale"}`,
		`{"type":"set_field","entity_id":"service.api","field":"image","value":null}`,
		`{"type":"set_field","entity_id":"service.api","field":"ports","add":[80,9007199254740993],"remove":["x",null]}`,
		`{"type":"insert_entity","entity_id":"a.b","fields":{"x":{"y":[1.5,true]}}}`,
		`{"value":null,"chosen_value":null,"operations":[{"value":null}]}`, `{}`, `[]`, `{"value":1e999}`, `{"value":"\ud800"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ops, err := rest.DecodeOperation(text)
		if err != nil {
			return
		}
		once, err := json.Marshal(ops[0])
		if err != nil {
			t.Fatalf("%s is read, and cannot be written: %v", text, err)
		}
		again, err := rest.DecodeOperation(once)
		if err != nil {
			t.Fatalf("%s was written as %s: %v", text, once, err)
		}
		if twice, _ := json.Marshal(again[0]); string(twice) != string(once) {
			t.Fatalf("%s became %s and then %s", text, once, twice)
		}
	})
}

func FuzzETag(f *testing.F) {
	for _, tag := range []string{`"a:1;xyz"`, `a:1,b:2`, `W/"a:1"`, `"`, `*`, `"a:1;x", "b:2;y"`} {
		f.Add(tag)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		version, err := rest.VersionOf(tag)
		if err == nil && !strings.Contains(tag, version) {
			t.Fatalf("the version of %q is %q", tag, version)
		}
		if mine := `"` + version + `;view"`; !rest.Matches(mine, mine) {
			t.Fatalf("%q does not match itself", mine)
		}
		rest.Matches(tag, `"a:1;view"`)
	})
}
