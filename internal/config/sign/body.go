package sign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

const (
	bodyVersion = 1
	bodyType    = "conflux.op"
)

// The lengths of a body's texts, in bytes. Those of a schema are bounded by the body.
const (
	maxNameBytes     = config.MaxName
	maxPositionBytes = 4 << 10
	maxBaseBytes     = 64 << 10 // a document has few nodes
)

// Body is what a client signs of an operation: who asks for what. What the log adds, as the operation's number and writes, the clock and
// the hash of the operation before, is in the log's chain.
type Body struct {
	Doc     string // the document
	ID      string // chosen by the client and never again: who sends an operation twice is found by it
	Actor   config.Actor
	KeyID   string // the actor's key that signs
	Request config.Request

	ClientTime time.Time // by the signer's clock: it proves nothing
	Expires    time.Time // the operation is not taken from then on; zero: whenever
}

// member is a text of a body: its key, where it is, how long it may be, and whether it must be there.
type member struct {
	key      string
	text     *string
	most     int
	required bool
}

func (b *Body) texts() []member {
	r := &b.Request
	return []member{
		{"doc", &b.Doc, maxNameBytes, true},
		{"id", &b.ID, maxNameBytes, true},
		{"actor", &b.Actor.ID, maxNameBytes, true},
		{"class", (*string)(&b.Actor.Class), maxNameBytes, true},
		{"name", &b.Actor.Name, maxNameBytes, false},
		{"kid", &b.KeyID, maxNameBytes, true},
		{"kind", (*string)(&r.Kind), maxNameBytes, true},
		{"entity", &r.Entity, maxNameBytes, false},
		{"field", &r.Field, maxNameBytes, false},
		{"key", &r.Key, maxNameBytes, false},
		{"env", &r.Env, maxNameBytes, false},
		{"parent", &r.Parent, maxNameBytes, false},
		{"before", &r.Before, maxNameBytes, false},
		{"after", &r.After, maxNameBytes, false},
		{"position", &r.Position, maxPositionBytes, false},
		{"from", &r.From, maxNameBytes, false},
		{"to", &r.To, maxNameBytes, false},
		{"text", &r.Text, MaxBodyBytes, false},
		{"intent", &r.Intent, config.MaxIntent, false},
		{"via", &r.Via, maxNameBytes, false},
	}
}

// flag is a truth value of a body; it is written only if it is true.
type flag struct {
	key string
	on  *bool
}

func (b *Body) flags() []flag {
	r := &b.Request
	return []flag{
		{"override", &r.Override},
		{"no_create", &r.NoCreate},
		{"restore", &r.Restore},
		{"cascade", &r.Cascade},
		{"any_path", &r.AnyPath},
		{"prune", &r.Prune},
		{"strict", &r.Strict},
	}
}

// Encode writes a body as canonical JSON. What is empty is left out; "value" is always there.
func Encode(b Body) ([]byte, error) {
	out := map[string]any{"v": bodyVersion, "typ": bodyType}
	for _, m := range b.texts() {
		if err := checkText(m.key, *m.text, m.most); err != nil {
			return nil, err
		}
		if *m.text != "" {
			out[m.key] = *m.text
		} else if m.required {
			return nil, malformed("it has no %s", m.key)
		}
	}
	if _, err := config.ParseClass(string(b.Actor.Class)); err != nil {
		return nil, fmt.Errorf("operation: %w: %w", err, Malformed)
	}
	for _, f := range b.flags() {
		if *f.on {
			out[f.key] = true
		}
	}
	if err := b.addTimes(out); err != nil {
		return nil, err
	}
	if err := b.addValues(out); err != nil {
		return nil, err
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, malformed("%v", err)
	}
	if text, err = Canonical(text); err != nil {
		return nil, fmt.Errorf("operation: %w: %w", err, Malformed)
	}
	return text, nil
}

func (b *Body) addTimes(out map[string]any) error {
	for _, t := range []struct {
		key  string
		time time.Time
	}{{"client_time", b.ClientTime}, {"exp", b.Expires}} {
		if t.time.IsZero() {
			if t.key == "client_time" {
				return malformed("it has no client_time")
			}
			continue
		}
		text := timeText(t.time)
		if _, err := parseTime(t.key, text); err != nil {
			return err
		}
		out[t.key] = text
	}
	return nil
}

func (b *Body) addValues(out map[string]any) (err error) {
	r := &b.Request
	if out["value"], err = tag(r.Value, 0); err != nil {
		return err
	}
	for key, list := range map[string][]any{"add": r.Add, "remove": r.Remove, "filter_entities": anys(r.Filter.Entities), "filter_fields": anys(r.Filter.Fields)} {
		if len(list) == 0 {
			continue
		}
		if out[key], err = tag(list, 0); err != nil {
			return err
		}
	}
	if len(r.Fields) > 0 {
		if out["fields"], err = tag(r.Fields, 0); err != nil {
			return err
		}
	}
	if r.Seen != nil {
		base := r.Seen.String()
		out["base"] = base // also when it is empty, which is to have seen nothing
		return checkText("base", base, maxBaseBytes)
	}
	return nil
}

func anys(list []string) (out []any) {
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

// Parse reads a body. It takes only what Encode writes, byte by byte: each other text with the same meaning is refused.
func Parse(text []byte) (Body, error) {
	canonical, err := Canonical(text)
	if err != nil {
		return Body{}, fmt.Errorf("operation: %w: %w", err, Malformed)
	}
	if !bytes.Equal(text, canonical) {
		return Body{}, malformed("it is not canonical JSON: write it as RFC 8785 has it, without blanks and with sorted keys")
	}
	var in map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&in); err != nil || in == nil {
		return Body{}, malformed("it is not a JSON object")
	}
	b, err := fromMembers(in)
	if err != nil {
		return Body{}, err
	}
	again, err := Encode(b)
	if err != nil {
		return Body{}, err
	}
	if !bytes.Equal(text, again) {
		return Body{}, malformed("it has an integer or a base that is written in another way than it should be")
	}
	return b, nil
}

// fromMembers takes what it knows out of in: what is left then is unknown.
func fromMembers(in map[string]any) (b Body, err error) {
	take := func(key string) (any, bool) {
		v, there := in[key]
		delete(in, key)
		return v, there
	}
	if v, _ := take("v"); v != json.Number("1") {
		return b, malformed("its v is not 1, which is what this version reads")
	}
	if v, _ := take("typ"); v != bodyType {
		return b, malformed("its typ is not %q", bodyType)
	}
	for _, m := range b.texts() {
		v, there := take(m.key)
		if *m.text, _ = v.(string); there && *m.text == "" {
			return b, malformed("its %s is no text: leave out what is empty", m.key)
		}
		if m.required && !there {
			return b, malformed("it has no %s", m.key)
		}
	}
	for _, f := range b.flags() {
		v, there := take(f.key)
		if *f.on, _ = v.(bool); there && !*f.on {
			return b, malformed("its %s is not true: leave out what is not", f.key)
		}
	}
	for key, t := range map[string]*time.Time{"client_time": &b.ClientTime, "exp": &b.Expires} {
		v, there := take(key)
		if !there && key == "exp" {
			continue
		}
		text, _ := v.(string)
		if *t, err = parseTime(key, text); err != nil {
			return b, err
		}
	}
	if err := b.takeValues(take); err != nil {
		return b, err
	}
	if len(in) > 0 {
		return b, malformed("it has %q, which this version does not know", clip(slices.Sorted(maps.Keys(in))[0]))
	}
	return b, nil
}

func (b *Body) takeValues(take func(string) (any, bool)) error {
	r := &b.Request
	v, there := take("value")
	if !there {
		return malformed("it has no value: write null where there is none")
	}
	var err error
	if r.Value, err = untag(v, 0); err != nil {
		return err
	}
	for key, list := range map[string]*[]any{"add": &r.Add, "remove": &r.Remove} {
		if *list, err = takeList(take, key); err != nil {
			return err
		}
	}
	for key, to := range map[string]*[]string{"filter_entities": &r.Filter.Entities, "filter_fields": &r.Filter.Fields} {
		list, err := takeList(take, key)
		if err != nil {
			return err
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				return malformed("its %s is no list of texts", key)
			}
			*to = append(*to, s)
		}
	}
	if v, there := take("fields"); there {
		fields, err := untag(v, 0)
		if err != nil {
			return err
		}
		if r.Fields, _ = fields.(map[string]any); len(r.Fields) == 0 {
			return malformed(`its fields are no {"map":{…}}: leave out what is empty`)
		}
	}
	if v, there := take("base"); there {
		text, ok := v.(string)
		seen, err := crdt.ParseDots(text)
		if err != nil || !ok {
			return malformed("its base is no version, as an ETag has it")
		}
		r.Seen = &seen
	}
	return nil
}

func takeList(take func(string) (any, bool), key string) ([]any, error) {
	v, there := take(key)
	if !there {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, malformed("its %s is no list: leave out what is empty", key)
	}
	_, err := untag(v, 0) // in place
	return list, err
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// parseTime reads the one way in which a time is written: RFC 3339 in UTC, without zeros at the end of the fraction.
func parseTime(key, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || timeText(t) != text || t.IsZero() {
		return time.Time{}, malformed("its %s is %q: write a time such as 2024-01-23T12:00:00Z", key, clip(text))
	}
	return t.UTC(), nil
}

// checkText keeps control characters out of what is shown to people who decide by it.
func checkText(key, s string, most int) error {
	if len(s) > most {
		return malformed("its %s has %d bytes, and %d are allowed", key, len(s), most)
	}
	if !utf8.ValidString(s) {
		return malformed("its %s is not UTF-8", key)
	}
	prose := key == "intent" || key == "text"
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' && (!prose || r != '\n' && r != '\r' && r != '\t') || r == 0x7f }); i >= 0 {
		return malformed("its %s has a control character", key)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("operation: %s: %w: %w", fmt.Sprintf(format, args...), Malformed, errkind.Invalid)
}

// maxDepth is one more than a value may have, for the top.
const maxDepth = value.MaxDepth + 1
