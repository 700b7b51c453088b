package sign_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/value/valuetest"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

var (
	noon    = time.Date(2024, 1, 23, 12, 0, 0, 0, time.UTC)
	private = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	public  = private.Public().(ed25519.PublicKey)

	body = sign.Body{
		Doc: "infra", ID: "01HMV7", Actor: config.Actor{ID: "alice", Class: config.Human}, KeyID: "alice@2024-01", ClientTime: noon,
		Request: config.Request{Kind: config.SetField, Entity: "route.api-v1", Field: "weight", Env: "staging", Value: int64(90), Intent: "more traffic"},
	}
)

// asText compares versions by their texts: a set of dots has several forms inside.
var asText = cmp.Transformer("text", func(d crdt.Dots) string { return d.String() })

// registry has alice's key, from the first of January on.
func registry(t interface{ Fatal(...any) }) *sign.Registry {
	r := new(sign.Registry)
	if err := r.Register(sign.Key{ID: "alice@2024-01", Actor: "alice", Public: public, Created: noon.AddDate(0, 0, -22)}); err != nil {
		t.Fatal(err)
	}
	return r
}

func signed(t interface{ Fatal(...any) }, b sign.Body) sign.Signed {
	s, err := sign.Sign(private, b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBodyIsCanonicalJSON(t *testing.T) {
	t.Parallel()
	b := body
	b.Request.Value = map[string]any{"n": int64(1) << 62, "f": 1.0, "s": "9", "l": []any{true, nil, "ü"}, "int": map[string]any{}}
	b.Expires = noon.Add(1500 * time.Millisecond)
	got, err := sign.Encode(b)
	want := `{"actor":"alice","class":"human","client_time":"2024-01-23T12:00:00Z","doc":"infra","entity":"route.api-v1","env":"staging",` +
		`"exp":"2024-01-23T12:00:01.5Z","field":"weight","id":"01HMV7","intent":"more traffic","kid":"alice@2024-01","kind":"set_field","typ":"conflux.op","v":1,` +
		`"value":{"map":{"f":1,"int":{"map":{}},"l":[true,null,"ü"],"n":{"int":"4611686018427387904"},"s":"9"}}}`
	if err != nil || string(got) != want {
		t.Errorf("Encode = %s, %v\nwant %s", got, err, want)
	}
}

func bodies() *rapid.Generator[sign.Body] {
	word := rapid.StringMatching(`[a-zü][a-z.€😀/"-]{0,8}`)
	or := func(g *rapid.Generator[string]) *rapid.Generator[string] { return rapid.OneOf(rapid.Just(""), g) }
	when := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	list := rapid.Custom(func(t *rapid.T) []any {
		if l := rapid.SliceOfN(valuetest.Any(), 0, 3).Draw(t, "list"); len(l) > 0 {
			return l
		}
		return nil
	})
	words := rapid.Custom(func(t *rapid.T) []string {
		if l := rapid.SliceOfN(word, 0, 2).Draw(t, "words"); len(l) > 0 {
			return l
		}
		return nil
	})
	return rapid.Custom(func(t *rapid.T) sign.Body {
		text := func() string { return or(word).Draw(t, "text") }
		on := func() bool { return rapid.Bool().Draw(t, "flag") }
		b := sign.Body{
			Doc: word.Draw(t, "doc"), ID: word.Draw(t, "id"), KeyID: word.Draw(t, "kid"), ClientTime: when.Draw(t, "time"),
			Actor: config.Actor{ID: word.Draw(t, "actor"), Class: rapid.SampledFrom([]config.Class{config.Human, config.System}).Draw(t, "class"), Name: text()},
			Request: config.Request{
				Kind: config.Kind(word.Draw(t, "kind")), Entity: text(), Field: text(), Key: text(), Env: text(), Value: valuetest.Any().Draw(t, "value"),
				Add: list.Draw(t, "add"), Remove: list.Draw(t, "remove"), Override: on(), NoCreate: on(), Parent: text(), Before: text(), After: text(),
				Position: text(), Restore: on(), Cascade: on(), From: text(), To: text(), AnyPath: on(), Prune: on(), Text: text(), Strict: on(), Via: text(),
				Filter: config.Filter{Entities: words.Draw(t, "entities"), Fields: words.Draw(t, "fields")},
				Intent: or(rapid.Map(word, func(s string) string { return s + "\n" + s })).Draw(t, "intent"),
			},
		}
		if m := rapid.MapOfN(word, valuetest.Any(), 0, 3).Draw(t, "fields"); len(m) > 0 {
			b.Request.Fields = m
		}
		if on() {
			b.Request.Seen = &crdt.Dots{}
			for _, n := range rapid.SliceOfN(rapid.Uint64Range(1, 5), 0, 4).Draw(t, "seen") {
				b.Request.Seen.Add(crdt.Dot{Node: rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"), Seq: n})
			}
		}
		if on() {
			b.Expires = when.Draw(t, "exp")
		}
		return b
	})
}

// All that a request says is signed: what is added to requests must be added to bodies, or somebody between client and log could change it.
func TestAllOfARequestIsSigned(t *testing.T) {
	t.Parallel()
	before, err := sign.Encode(body)
	if err != nil {
		t.Fatal(err)
	}
	copied, seen := body, &crdt.Dots{}
	var each func(v reflect.Value, way string)
	each = func(v reflect.Value, way string) {
		for i := range v.NumField() {
			f, name := v.Field(i), way+"."+v.Type().Field(i).Name
			switch name {
			case "Body.Request.Signature", // it is what comes of signing
				"Body.Request.Filter.Only": // what the actor may do, which is not the actor's to say
				continue
			}
			if f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[time.Time]() {
				each(f, name)
				continue
			}
			old := reflect.New(f.Type()).Elem()
			old.Set(f)
			switch f.Interface().(type) {
			case string, config.Kind:
				f.SetString("other")
			case config.Class:
				f.SetString("system")
			case bool:
				f.SetBool(true)
			case []any:
				f.Set(reflect.ValueOf([]any{"x"}))
			case []string:
				f.Set(reflect.ValueOf([]string{"x"}))
			case map[string]any:
				f.Set(reflect.ValueOf(map[string]any{"x": nil}))
			case *crdt.Dots:
				f.Set(reflect.ValueOf(seen))
			case time.Time:
				f.Set(reflect.ValueOf(noon.Add(time.Hour)))
			case int64: // the value
				f.Set(reflect.ValueOf(int64(91)))
			default:
				t.Fatalf("%s is of a type that this test does not know: %s", name, f.Type())
			}
			if after, err := sign.Encode(copied); err != nil || bytes.Equal(before, after) {
				t.Errorf("%s is not signed: %s, %v", name, after, err)
			}
			f.Set(old)
		}
	}
	each(reflect.ValueOf(&copied).Elem(), "Body")
}

func TestBodyRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := bodies().Draw(t, "body")
		text, err := sign.Encode(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sign.Parse(text)
		if err != nil {
			t.Fatalf("Parse(%s): %v", text, err)
		}
		if diff := cmp.Diff(b, got, asText); diff != "" {
			t.Fatalf("Parse(Encode(b)): %s", diff)
		}
	})
}

// A text with the same meaning, or with more than a reader knows, is not what was signed.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := string(signed(t, body).Body)
	replace := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("no %s in %s", from, good)
		}
		return strings.Replace(good, from, to, 1)
	}
	tests := []struct{ name, text, want string }{
		{"a blank", good + " ", "not canonical"},
		{"another order", replace(`{"actor":"alice","class":"human"`, `{"class":"human","actor":"alice"`), "not canonical"},
		{"an escape", replace("alice", `\u0061lice`), "not canonical"},
		{"a key twice", replace(`{"actor":"alice"`, `{"actor":"alice","actor":"bob"`), "Duplicate key"},
		{"a list", "[]", "not a JSON object"},
		{"null", "null", "not a JSON object"},
		{"unknown member", replace(`"value":`, `"valua":1,"value":`), `it has "valua"`},
		{"member in other case", replace(`"actor":`, `"Actor":`), "it has no actor"},
		{"no document", replace(`"doc":"infra",`, ""), "it has no doc"},
		{"no value", replace(`,"value":{"int":"90"}`, ""), "write null"},
		{"empty text", replace(`"env":"staging"`, `"env":""`), "leave out what is empty"},
		{"number for a text", replace(`"env":"staging"`, `"env":1`), "its env is no text"},
		{"long text", replace("infra", strings.Repeat("x", 257)), "its doc has 257 bytes, and 256 are allowed"},
		{"control character", replace("infra", `in\u0007fra`), "control character"},
		{"another version", replace(`"v":1`, `"v":2`), "its v is not 1"},
		{"another type", replace("conflux.op", "conflux.ops"), `its typ is not "conflux.op"`},
		{"time of another zone", replace("12:00:00Z", "13:00:00+01:00"), "write a time such as"},
		{"time with a zero too many", replace("12:00:00Z", "12:00:00.10Z"), "write a time such as"},
		{"no time", replace(`"2024-01-23T12:00:00Z"`, "1706011200"), "write a time such as"},
		{"integer with zeros", replace(`"90"`, `"090"`), "it has an integer or a base that is written in another way"},
		{"integer too large", replace(`"90"`, `"9223372036854775808"`), "not one of 64 bits"},
		{"object of two", replace(`{"int":"90"}`, `{"int":"90","map":{}}`), "neither"},
		{"object of none", replace(`{"int":"90"}`, `{}`), "neither"},
		{"false", replace(`"class":`, `"cascade":false,"class":`), "leave out what is not"},
		{"empty list", replace(`"class":`, `"add":[],"class":`), "its add is no list"},
		{"fields that are no map", replace(`"id":`, `"fields":[],"id":`), "its fields are no"},
		{"filter of numbers", replace(`"id":`, `"filter_fields":[1],"id":`), "no list of texts"},
		{"no version", replace(`"class":`, `"base":"x","class":`), "its base is no version"},
		{"version in another order", replace(`"class":`, `"base":"b:1,a:1","class":`), "a base that is written in another way"},
		{"deep", replace(`{"int":"90"}`, strings.Repeat("[", 40)+strings.Repeat("]", 40)), "deeper than"},
		{"large", strings.Repeat("x", sign.MaxBodyBytes+1), "are allowed"},
	}
	for _, tt := range tests {
		_, err := sign.Parse([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, sign.Malformed) || errkind.Of(err) == errkind.Internal {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*sign.Body)
		want   string
	}{
		{"unknown class", func(b *sign.Body) { b.Actor.Class = "robot" }, "human, pipeline, operator and system"},
		{"no actor", func(b *sign.Body) { b.Actor.ID = "" }, "it has no actor"},
		{"no time", func(b *sign.Body) { b.ClientTime = time.Time{} }, "it has no client_time"},
		{"a year that RFC 3339 does not have", func(b *sign.Body) { b.Expires = noon.AddDate(9000, 0, 0) }, "its exp is"},
		{"no UTF-8", func(b *sign.Body) { b.Request.Entity = "\xff" }, "not UTF-8"},
		{"no UTF-8 in the value", func(b *sign.Body) { b.Request.Value = []any{"\xff"} }, "not UTF-8"},
		{"no UTF-8 in a key", func(b *sign.Body) { b.Request.Value = map[string]any{"\xff": nil} }, "not UTF-8"},
		{"no value of ours", func(b *sign.Body) { b.Request.Value = 1 }, "a int is no value"},
		{"large", func(b *sign.Body) { b.Request.Value = strings.Repeat("x", sign.MaxBodyBytes) }, "are allowed"},
	}
	for _, tt := range tests {
		b := body
		tt.change(&b)
		if _, err := sign.Sign(private, b); err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, sign.Malformed) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := sign.Sign(private[:32], body); errkind.Of(err) != errkind.Invalid {
		t.Errorf("half a key: %v", err)
	}
}

// The error says which rule is broken; the first of several.
func TestVerify(t *testing.T) {
	t.Parallel()
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	mallory := sign.Key{ID: "mallory@1", Actor: "mallory", Public: other.Public().(ed25519.PublicKey), Created: noon}
	tests := []struct {
		name  string
		body  func(*sign.Body)
		key   ed25519.PrivateKey
		keys  func(*sign.Registry) error
		doc   string
		at    time.Time
		rule  sign.Rule
		says  string
		class errkind.Kind
	}{
		{name: "good"},
		{name: "no such key", body: func(b *sign.Body) { b.KeyID = "alice@2025" }, rule: sign.UnknownKey, says: "key alice@2025 is not registered", class: errkind.Unauthorized},
		{name: "signed by another", key: other, rule: sign.BadSignature, says: "not that of key alice@2024-01", class: errkind.Unauthorized},
		{
			name: "in another's name", key: other, body: func(b *sign.Body) { b.KeyID = "mallory@1" }, keys: func(r *sign.Registry) error { return r.Register(mallory) },
			rule: sign.OtherActor, says: "key mallory@1 is mallory's, and the operation says that alice made it", class: errkind.Forbidden,
		},
		{name: "for another document", doc: "web", rule: sign.OtherDocument, says: "for document infra, not web", class: errkind.Forbidden},
		{
			name: "revoked", keys: func(r *sign.Registry) error { return r.Revoke("alice@2024-01", noon) },
			rule: sign.KeyRevoked, says: "revoked since 2024-01-23T12:00:00Z", class: errkind.Unauthorized,
		},
		{name: "revoked afterwards", keys: func(r *sign.Registry) error { return r.Revoke("alice@2024-01", noon.Add(time.Nanosecond)) }},
		{name: "before the key is there", at: noon.AddDate(-1, 0, 0), rule: sign.NotYetValid, says: "registered since", class: errkind.Unauthorized},
		{name: "before the operation ends", body: func(b *sign.Body) { b.Expires = noon.Add(1) }},
		{
			name: "when it ends", body: func(b *sign.Body) { b.Expires = noon },
			rule: sign.BodyExpired, says: "could be used until 2024-01-23T12:00:00Z", class: errkind.Unauthorized,
		},
	}
	for _, tt := range tests {
		b, key, doc, at, keys := body, private, "infra", noon, registry(t)
		if tt.body != nil {
			tt.body(&b)
		}
		if tt.key != nil {
			key = tt.key
		}
		if tt.doc != "" {
			doc = tt.doc
		}
		if !tt.at.IsZero() {
			at = tt.at
		}
		if tt.keys != nil {
			if err := tt.keys(keys); err != nil {
				t.Fatal(err)
			}
		}
		s, err := sign.Sign(key, b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sign.Verify(keys, s, doc, at)
		if tt.rule == "" {
			if diff := cmp.Diff(b, got, asText); err != nil || diff != "" {
				t.Errorf("%s: %v %s", tt.name, err, diff)
			}
			continue
		}
		if !errors.Is(err, tt.rule) || !strings.Contains(err.Error(), tt.says) || errkind.Of(err) != tt.class {
			t.Errorf("%s: %v, want rule %q and %q", tt.name, err, tt.rule, tt.says)
		}
	}
}

func TestExpiredAndRevokedKeys(t *testing.T) {
	t.Parallel()
	keys, err := sign.ParseRegistry([]byte(fmt.Sprintf(`{"keys":{
		"ends": {"actor_id":"alice","public_key":%[1]q,"created_at":"2024-01-01T00:00:00Z","expires_at":"2024-01-23T13:00:00+01:00","revoked":false},
		"gone": {"actor_id":"alice","public_key":%[1]q,"created_at":"2024-01-01T00:00:00Z","revoked":true}
	}}`, sign.PublicText(public))))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		kid  string
		at   time.Time
		want error
	}{
		{"ends", noon.Add(-1), nil},
		{"ends", noon, sign.KeyExpired},
		{"gone", noon, sign.KeyRevoked},
		{"gone", noon.AddDate(0, 0, -20), sign.KeyRevoked}, // nobody knows since when
	} {
		b := body
		b.KeyID = tt.kid
		if _, err := sign.Verify(keys, signed(t, b), "infra", tt.at); !errors.Is(err, tt.want) {
			t.Errorf("%s at %s: %v, want %v", tt.kid, tt.at, err, tt.want)
		}
	}
}

// Whatever bit is changed, in the body with its key ID or in the signature, it is found.
func TestEveryBitCounts(t *testing.T) {
	t.Parallel()
	keys := registry(t)
	s := signed(t, body)
	for _, part := range []struct {
		name string
		bits []byte
	}{{"body", s.Body}, {"signature", s.Signature}} {
		for i := range len(part.bits) * 8 {
			part.bits[i/8] ^= 1 << (i % 8)
			if _, err := sign.Verify(keys, s, "infra", noon); err == nil {
				t.Errorf("bit %d of the %s is not looked at: %s", i, part.name, s.Body)
			}
			part.bits[i/8] ^= 1 << (i % 8)
		}
	}
	if _, err := sign.Verify(keys, s, "infra", noon); err != nil {
		t.Errorf("with all bits put back: %v", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		b := bodies().Draw(t, "body")
		b.Doc, b.Actor, b.KeyID, b.Expires = body.Doc, body.Actor, body.KeyID, time.Time{}
		s := signed(t, b)
		if _, err := sign.Verify(keys, s, "infra", noon); err != nil {
			t.Fatal(err)
		}
		all := append(bytes.Clone(s.Body), s.Signature...)
		bit := rapid.IntRange(0, len(all)*8-1).Draw(t, "bit")
		all[bit/8] ^= 1 << (bit % 8)
		s = sign.Signed{Body: all[:len(s.Body)], Signature: all[len(s.Body):]}
		if _, err := sign.Verify(keys, s, "infra", noon); err == nil {
			t.Fatalf("bit %d is not looked at", bit)
		}
	})
}

// A signature is over the domain and the body: over the body alone it is for something else.
func TestDomain(t *testing.T) {
	t.Parallel()
	s := signed(t, body)
	for _, domain := range []string{"", "conflux-op-v2\n", "conflux-op-v1"} {
		s.Signature = ed25519.Sign(private, append([]byte(domain), s.Body...))
		if _, err := sign.Verify(registry(t), s, "infra", noon); !errors.Is(err, sign.BadSignature) {
			t.Errorf("with the domain %q: %v", domain, err)
		}
	}
}

// Between signer and log JSON may be written anew, with other blanks and another order.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	s := signed(t, body)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var loose any
	if err := json.Unmarshal(text, &loose); err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(loose, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{text, indented} {
		var got sign.Signed
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("read %s: %s", text, diff)
		}
	}
	for name, change := range map[string][2]string{
		"another scheme":        {"ed25519v1", "ed25519v2"},
		"a short signature":     {`"signature":"`, `"signature":"AA==","signatura":"`},
		"no base64":             {`"signature":"`, `"signature":"!`},
		"a zero with a sign":    {`"value":{"int":"90"}`, `"value":-0`},
		"a key twice":           {`"value":`, `"value":1,"value":`},
		"an unknown member":     {`"body":`, `"bodi":1,"body":`},
		"a body that is no map": {`"body":{`, `"body":[{}],"x":{`},
	} {
		var got sign.Signed
		err := json.Unmarshal(bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1), &got)
		if !errors.Is(err, sign.Malformed) || errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseBody(f *testing.F) {
	f.Add(signed(f, body).Body)
	f.Add([]byte(`{"actor":"a","class":"human","client_time":"2024-01-23T12:00:00Z","doc":"d","id":"1","kid":"k","kind":"set_field","typ":"conflux.op","v":1,"value":[{"map":{"int":{"int":"1"}}},1.5]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := sign.Parse(text)
		if err != nil {
			if !errors.Is(err, sign.Malformed) || errkind.Of(err) == errkind.Internal {
				t.Fatalf("Parse(%q): %v", text, err)
			}
			return
		}
		if again, err := sign.Encode(b); err != nil || !bytes.Equal(text, again) {
			t.Fatalf("Encode(Parse(%q)) = %q, %v", text, again, err)
		}
	})
}

func FuzzSigned(f *testing.F) {
	text, err := json.Marshal(signed(f, body))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var s sign.Signed
		if err := s.UnmarshalJSON(text); err != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again sign.Signed
		if err := json.Unmarshal(out, &again); err != nil || !bytes.Equal(s.Body, again.Body) || !bytes.Equal(s.Signature, again.Signature) {
			t.Fatalf("%s is read back as %s: %v", out, again.Body, err)
		}
	})
}
