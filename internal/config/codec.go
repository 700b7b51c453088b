package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Encode returns an operation's text, in which it is kept and sent.
func (o *Op) Encode() ([]byte, error) {
	b, err := o.append(make([]byte, 0, 512))
	if err != nil {
		return nil, fmt.Errorf("encode operation %s: %w", o.ID, err)
	}
	if len(b) > MaxOpSize {
		return nil, fmt.Errorf("operation %s has %d bytes, and %d are allowed: do it in parts: %w", o.ID, len(b), MaxOpSize, errkind.TooLarge)
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("operation %s has text that is not UTF-8: %w", o.ID, errkind.Invalid)
	}
	return b, nil
}

// MarshalJSON writes an operation as Encode does.
func (o *Op) MarshalJSON() ([]byte, error) { return o.append(nil) }

func (o *Op) append(b []byte) ([]byte, error) {
	text := func(name, s string) {
		if s != "" {
			b = append(append(append(b, ',', '"'), name...), '"', ':')
			b = value.Append(b, s)
		}
	}
	b = value.Append(append(b, `{"id":`...), o.ID.String())
	text("hlc", o.Time.String())
	b = value.Append(append(b, `,"actor":{"id":`...), o.Actor.ID)
	b = value.Append(append(b, `,"class":`...), string(o.Actor.Class))
	text("name", o.Actor.Name)
	b = value.Append(append(b, `},"kind":`...), string(o.Kind))
	text("intent", o.Intent)
	text("from", o.From)
	text("to", o.To)
	text("via", o.Via)
	if o.Schema != nil {
		s, err := json.Marshal(o.Schema)
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		b = append(append(b, `,"schema":`...), s...)
	}
	for i := range o.Writes {
		if i == 0 {
			b = append(b, `,"writes":[`...)
		} else {
			b = append(b, ',')
		}
		b = o.Writes[i].append(b)
	}
	if len(o.Writes) > 0 {
		b = append(b, ']')
	}
	if s := o.Signature; s != nil {
		b = value.Append(append(b, `,"signature":{"key":`...), s.Key)
		b = value.Append(append(b, `,"body":`...), s.Body)
		b = append(value.Append(append(b, `,"sig":`...), s.Sig), '}')
	}
	return append(b, '}'), nil
}

// DecodeOp reads an operation, from this node or another one, and checks that it can be applied.
func DecodeOp(data []byte) (*Op, error) {
	if len(data) > MaxOpSize {
		return nil, fmt.Errorf("read operation: it has %d bytes, and %d are allowed: %w", len(data), MaxOpSize, errkind.TooLarge)
	}
	o := new(Op)
	if p := (parser{rest: data}); !p.op(o) {
		*o = Op{}
		if err := json.Unmarshal(data, o); err != nil {
			return nil, fmt.Errorf("read operation: %w: %w", err, errkind.Invalid)
		}
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("read operation %s: %w: %w", o.ID, err, errkind.Invalid)
	}
	return o, nil
}

// parser reads the text of an operation in the form that Encode gives it. A log has millions of them, and encoding/json takes most of the time
// that a document needs to open. The parser gives up on whatever it does not expect, and encoding/json decides what that means: what
// it does read it reads alike.
type parser struct{ rest []byte }

// eat goes past a text, if it comes next.
func (p *parser) eat(text string) bool {
	if len(p.rest) < len(text) || string(p.rest[:len(text)]) != text {
		return false
	}
	p.rest = p.rest[len(text):]
	return true
}

// object reads an object. member reads the value of one member, and reports whether it could. names bounds the members, none of which may come twice.
func (p *parser) object(names []string, member func(i int) bool) bool {
	if !p.eat("{") {
		return false
	}
	had := 0
	for first := true; ; first = false {
		if p.eat("}") {
			return !first
		}
		if !first && !p.eat(",") {
			return false
		}
		name, ok := p.plain()
		if !ok || !p.eat(":") {
			return false
		}
		i := index(names, name)
		if i < 0 || had&(1<<i) != 0 || !member(i) {
			return false
		}
		had |= 1 << i
	}
}

func index(names []string, name []byte) int {
	for i, n := range names {
		if n == string(name) {
			return i
		}
	}
	return -1
}

// plain reads a string in which nothing is escaped.
func (p *parser) plain() ([]byte, bool) {
	if len(p.rest) < 2 || p.rest[0] != '"' {
		return nil, false
	}
	n := bytes.IndexByte(p.rest[1:], '"')
	if n < 0 {
		return nil, false
	}
	s := p.rest[1 : 1+n]
	for _, c := range s {
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			return nil, false
		}
	}
	p.rest = p.rest[n+2:]
	return s, true
}

// token returns the text of a string that is next, with its quotes.
func (p *parser) token() ([]byte, bool) {
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return nil, false
	}
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '"':
			s := p.rest[:i+1]
			p.rest = p.rest[i+1:]
			return s, true
		}
	}
	return nil, false
}

func (p *parser) text(to *string) bool {
	if s, ok := p.plain(); ok {
		*to = string(s)
		return true
	}
	s, ok := p.token()
	return ok && utf8.Valid(s) && json.Unmarshal(s, to) == nil
}

func (p *parser) dot(to *crdt.Dot) bool {
	s, ok := p.plain()
	return ok && to.UnmarshalText(s) == nil
}

func (p *parser) number(to *uint32) bool {
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	if n == 0 || p.rest[0] == '0' && n > 1 {
		return false
	}
	v, err := strconv.ParseUint(string(p.rest[:n]), 10, 32)
	*to, p.rest = uint32(v), p.rest[n:]
	return err == nil
}

// ends are what comes after a scalar.
const ends = ",}]"

// value reads a field's value.
func (p *parser) value(to *any) bool {
	if len(p.rest) == 0 {
		return false
	}
	before := p.rest
	switch p.rest[0] {
	case '"':
		var s string
		if !p.text(&s) || len(before)-len(p.rest) > value.MaxBytes {
			return false
		}
		*to = s
		return true
	case '[', '{':
		n := extent(p.rest)
		p.rest = p.rest[n:]
	default:
		n := bytes.IndexAny(p.rest, ends)
		if n < 0 {
			return false
		}
		p.rest = p.rest[n:]
		if v, ok := integer(before[:n]); ok {
			*to = v
			return true
		}
	}
	text := before[:len(before)-len(p.rest)]
	v, err := value.Decode(text)
	*to = v
	return err == nil && text[len(text)-1] > ' '
}

// integer reads what most values are.
func integer(text []byte) (int64, bool) {
	digits := bytes.TrimPrefix(text, []byte("-"))
	if len(digits) == 0 || digits[0] == '0' && len(digits) > 1 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseInt(string(text), 10, 64)
	return v, err == nil
}

// extent returns how long the list or map is with which a text begins; whether it is well-formed is left to who reads it.
func extent(text []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[', c == '{':
			depth++
		case c == ']', c == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

var (
	opNames        = []string{"id", "hlc", "actor", "kind", "intent", "from", "to", "via", "writes", "signature", "schema"}
	actorNames     = []string{"id", "class", "name"}
	signatureNames = []string{"key", "body", "sig"}
	writeNames     = []string{
		"do", "entity", "inc", "field", "key", "env", "gen", "merge", "value", "old", "epoch", "seen", "reviewed", "parent", "position",
	}
)

func (p *parser) op(o *Op) bool {
	ok := p.object(opNames, func(i int) bool {
		switch opNames[i] {
		case "id":
			return p.dot(&o.ID)
		case "hlc":
			s, ok := p.plain()
			return ok && o.Time.UnmarshalText(s) == nil
		case "actor":
			return p.object(actorNames, func(i int) bool {
				return p.text([]*string{&o.Actor.ID, (*string)(&o.Actor.Class), &o.Actor.Name}[i])
			})
		case "writes":
			return p.writes(o)
		case "signature":
			o.Signature = new(Signature)
			return p.object(signatureNames, func(i int) bool {
				return p.text([]*string{&o.Signature.Key, &o.Signature.Body, &o.Signature.Sig}[i])
			})
		case "schema":
			n := extent(p.rest)
			text := p.rest[:n]
			p.rest = p.rest[n:]
			return json.Unmarshal(text, &o.Schema) == nil
		default:
			return p.text([]*string{3: (*string)(&o.Kind), 4: &o.Intent, 5: &o.From, 6: &o.To, 7: &o.Via}[i])
		}
	})
	return ok && len(p.rest) == 0
}

func (p *parser) writes(o *Op) bool {
	if !p.eat("[") {
		return false
	}
	for {
		if len(o.Writes) > MaxWrites {
			return false
		}
		o.Writes = append(o.Writes, Write{})
		if !p.write(&o.Writes[len(o.Writes)-1]) {
			return false
		}
		if p.eat("]") {
			return true
		}
		if !p.eat(",") {
			return false
		}
	}
}

func (p *parser) write(w *Write) bool {
	return p.object(writeNames, func(i int) bool {
		switch writeNames[i] {
		case "inc":
			return p.number(&w.Inc)
		case "gen":
			return p.dot(&w.Gen)
		case "epoch":
			return p.dot(&w.Epoch)
		case "value":
			return p.value(&w.Value)
		case "old":
			return p.value(&w.Old)
		case "seen":
			return p.seen(w)
		case "reviewed":
			w.Reviewed = true
			return p.eat("true")
		default:
			return p.text([]*string{
				0: (*string)(&w.Do), 1: &w.Entity, 3: &w.Field, 4: &w.Key, 5: &w.Env, 7: (*string)(&w.Merge), 13: &w.Parent, 14: &w.Position,
			}[i])
		}
	})
}

func (p *parser) seen(w *Write) bool {
	if !p.eat("[") {
		return false
	}
	for {
		s, ok := p.plain()
		var t crdt.Tag
		if !ok || t.UnmarshalText(s) != nil {
			return false
		}
		w.Seen = append(w.Seen, t)
		if p.eat("]") {
			return true
		}
		if !p.eat(",") {
			return false
		}
	}
}
