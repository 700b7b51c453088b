package format

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// newHCL makes the format that writes HCL's native syntax, an attribute for each key, and reads literals from it. Keys at the top that are no
// identifiers stand in the object of an attribute `_`. Blocks are read, as maps within maps by type and labels.
//
// HCL has text in Unicode's normal form C, whatever the form it is written in.
func newHCL() Format {
	return twoWay{about{id: "hcl", extension: "hcl", name: "HCL", alternate: []string{"tf"}}, writeHCL, readHCL}
}

// hclName is a key that can be the name of an attribute. HCL has identifiers in all of Unicode; outside of ASCII they are not made
// normal, and the first one may follow a byte order mark.
var hclName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// maxHCLBytes bounds a text that is read: a token takes some 100 bytes, and may have one character.
const maxHCLBytes = 4 << 20

// maxHCLLabels bounds the maps within maps that a block stands for.
const maxHCLLabels = 4

// hclRest is the attribute for the keys that cannot be attributes.
const hclRest = "_"

func writeHCL(v any) ([]byte, error) {
	m, err := topMap("HCL", v)
	if err != nil {
		return nil, err
	}
	if err := sameInHCL(m); err != nil {
		return nil, err
	}
	var tokens hclwrite.Tokens
	attribute := func(name string, v any) {
		tokens = append(tokens, hclToken(hclsyntax.TokenIdent, name), hclToken(hclsyntax.TokenEqual, "="))
		tokens = append(append(tokens, hclTokens(v)...), hclToken(hclsyntax.TokenNewline, "\n"))
	}
	rest := map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k == hclRest || !hclName.MatchString(k) {
			rest[k] = m[k]
			continue
		}
		attribute(k, m[k])
	}
	if len(rest) > 0 {
		attribute(hclRest, rest)
	}
	return hclwrite.Format(tokens.Bytes()), nil
}

// sameInHCL refuses maps with two keys that are one in normal form C.
func sameInHCL(v any) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := sameInHCL(e); err != nil {
				return err
			}
		}
	case map[string]any:
		seen := make(map[string]bool, len(v))
		for k, e := range v {
			normal := cty.StringVal(k).AsString()
			if seen[normal] {
				return fmt.Errorf("write HCL: two keys are %q in Unicode's normal form C, which HCL has all text in: rename one: %w", normal, errkind.Invalid)
			}
			seen[normal] = true
			if err := sameInHCL(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func hclToken(typ hclsyntax.TokenType, text string) *hclwrite.Token {
	return &hclwrite.Token{Type: typ, Bytes: []byte(text)}
}

// hclTokens writes a value. Numbers are their own text: cty has no floats apart from integers.
func hclTokens(v any) hclwrite.Tokens {
	number := func(text string) hclwrite.Tokens { return hclwrite.Tokens{hclToken(hclsyntax.TokenNumberLit, text)} }
	switch v := v.(type) {
	case nil:
		return hclwrite.TokensForValue(cty.NullVal(cty.DynamicPseudoType))
	case bool:
		return hclwrite.TokensForValue(cty.BoolVal(v))
	case int64:
		return number(strconv.FormatInt(v, 10))
	case float64:
		return number(floatText(v))
	case string:
		return hclwrite.TokensForValue(cty.StringVal(v))
	case []any:
		elements := make([]hclwrite.Tokens, len(v))
		for i, e := range v {
			elements[i] = hclTokens(e)
		}
		return hclwrite.TokensForTuple(elements)
	case map[string]any:
		// Not hclwrite.TokensForObject, which formats the object, and so what is in it again at each level.
		tokens := hclwrite.Tokens{hclToken(hclsyntax.TokenOBrace, "{")}
		if len(v) > 0 {
			tokens = append(tokens, hclToken(hclsyntax.TokenNewline, "\n"))
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			tokens = append(append(tokens, hclwrite.TokensForValue(cty.StringVal(k))...), hclToken(hclsyntax.TokenEqual, "="))
			tokens = append(append(tokens, hclTokens(v[k])...), hclToken(hclsyntax.TokenNewline, "\n"))
		}
		return append(tokens, hclToken(hclsyntax.TokenCBrace, "}"))
	default:
		panic(fmt.Sprintf("bug: %T is no value", v))
	}
}

func readHCL(name string, data []byte) (any, error) {
	if len(data) > maxHCLBytes {
		return nil, fmt.Errorf("%s: it has %d bytes, and %d are allowed: %w", name, len(data), maxHCLBytes, errkind.TooLarge)
	}
	if err := checkHCLTokens(name, data); err != nil {
		return nil, err
	}
	file, diagnostics := hclsyntax.ParseConfig(data, name, hcl.InitialPos)
	if diagnostics.HasErrors() {
		return nil, hclError(name, diagnostics)
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return nil, fmt.Errorf("%s: the body is a %T: %w", name, file.Body, errkind.Internal)
	}
	m := map[string]any{}
	r := hclReader{name: name, data: data}
	return m, r.body(m, body)
}

// hclError is the first of HCL's diagnostics.
func hclError(name string, diagnostics hcl.Diagnostics) error {
	for _, d := range diagnostics {
		if d.Severity == hcl.DiagError && d.Subject != nil {
			return malformed(name, d.Subject.Start.Line, d.Subject.Start.Column, "%s; %s", d.Summary, d.Detail)
		}
	}
	return fmt.Errorf("%s: %w: %w", name, diagnostics, errkind.Invalid)
}

// hclLiteral has the tokens that literals are made of.
var hclLiteral = map[hclsyntax.TokenType]bool{
	hclsyntax.TokenIdent: true, hclsyntax.TokenNumberLit: true, hclsyntax.TokenQuotedLit: true, hclsyntax.TokenStringLit: true,
	hclsyntax.TokenOQuote: true, hclsyntax.TokenCQuote: true, hclsyntax.TokenOHeredoc: true, hclsyntax.TokenCHeredoc: true,
	hclsyntax.TokenOBrace: true, hclsyntax.TokenCBrace: true, hclsyntax.TokenOBrack: true, hclsyntax.TokenCBrack: true,
	hclsyntax.TokenEqual: true, hclsyntax.TokenColon: true, hclsyntax.TokenComma: true, hclsyntax.TokenMinus: true,
	hclsyntax.TokenNewline: true, hclsyntax.TokenComment: true, hclsyntax.TokenEOF: true,
}

// checkHCLTokens refuses what is no literal, and what is too deep, before HCL's parser sees it: the parser calls itself as deep
// as the text says, and would end the process with its stack.
func checkHCLTokens(name string, data []byte) error {
	tokens, diagnostics := hclsyntax.LexConfig(data, name, hcl.InitialPos)
	if diagnostics.HasErrors() {
		return hclError(name, diagnostics)
	}
	depth := 0
	var before hclsyntax.TokenType
	for _, t := range tokens {
		at := t.Range.Start
		if t.Type == hclsyntax.TokenOBrace || t.Type == hclsyntax.TokenOBrack {
			depth++
		}
		if t.Type == hclsyntax.TokenCBrace || t.Type == hclsyntax.TokenCBrack {
			depth--
		}
		if depth > MaxDepth {
			return fmt.Errorf("%s: line %d column %d: it is deeper than %d levels: %w", name, at.Line, at.Column, MaxDepth, errkind.TooLarge)
		}
		if !hclLiteral[t.Type] || t.Type == hclsyntax.TokenMinus && before == t.Type {
			return malformed(name, at.Line, at.Column, "%.20q: only literal values are read, no variables, functions, operators and templates", t.Bytes)
		}
		before = t.Type
	}
	return nil
}

// hclReader makes values of a syntax tree. It needs the text, for cty has no floats apart from integers.
type hclReader struct {
	name string
	data []byte
}

func (r hclReader) malformed(at hcl.Range, message string, args ...any) error {
	return malformed(r.name, at.Start.Line, at.Start.Column, message, args...)
}

func (r hclReader) body(m map[string]any, body *hclsyntax.Body) error {
	for _, k := range slices.Sorted(maps.Keys(body.Attributes)) {
		a := body.Attributes[k]
		v, err := r.value(a.Expr)
		if err != nil {
			return err
		}
		entries := map[string]any{k: v}
		if rest, ok := v.(map[string]any); ok && k == hclRest {
			entries = rest
		}
		for k, v := range entries {
			if _, twice := m[k]; twice {
				return r.malformed(a.NameRange, "%s is there twice; remove one", k)
			}
			m[k] = v
		}
	}
	for _, b := range body.Blocks {
		if len(b.Labels) > maxHCLLabels {
			return r.malformed(b.TypeRange, "a block has at most %d labels", maxHCLLabels)
		}
		inner := m
		for _, key := range append([]string{b.Type}, b.Labels...) {
			next, ok := inner[key].(map[string]any)
			if _, there := inner[key]; there && !ok {
				return r.malformed(b.TypeRange, "%s is there twice, once as a %s", key, kind(inner[key]))
			} else if !there {
				next = map[string]any{}
				inner[key] = next
			}
			inner = next
		}
		if err := r.body(inner, b.Body); err != nil {
			return err
		}
	}
	return nil
}

func (r hclReader) value(e hclsyntax.Expression) (any, error) {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		if e.Val.Type() == cty.Number {
			return r.number(e.SrcRange, "")
		}
		if e.Val.IsNull() {
			return nil, nil
		}
		return e.Val.True(), nil
	case *hclsyntax.UnaryOpExpr:
		if literal, ok := e.Val.(*hclsyntax.LiteralValueExpr); ok && literal.Val.Type() == cty.Number {
			return r.number(literal.SrcRange, "-")
		}
	case *hclsyntax.TemplateExpr:
		return r.text(e)
	case *hclsyntax.TupleConsExpr:
		list := make([]any, 0, len(e.Exprs))
		for _, element := range e.Exprs {
			v, err := r.value(element)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case *hclsyntax.ObjectConsExpr:
		return r.object(e)
	}
	return nil, r.malformed(e.Range(), "only literal values are read; text needs quotes")
}

func (r hclReader) text(e hclsyntax.Expression) (any, error) {
	v, diagnostics := e.Value(nil)
	if diagnostics.HasErrors() || v.IsNull() || v.Type() != cty.String {
		return nil, r.malformed(e.Range(), "only literal values are read")
	}
	return v.AsString(), nil
}

func (r hclReader) number(at hcl.Range, sign string) (any, error) {
	v, err := value.Normalize(json.Number(sign + string(at.SliceBytes(r.data))))
	if err != nil {
		return nil, r.malformed(at, "%s", reason(err))
	}
	return v, nil
}

func (r hclReader) object(e *hclsyntax.ObjectConsExpr) (any, error) {
	m := make(map[string]any, len(e.Items))
	for _, item := range e.Items {
		v, diagnostics := item.KeyExpr.Value(nil)
		if diagnostics.HasErrors() || v.IsNull() || v.Type() != cty.String {
			return nil, r.malformed(item.KeyExpr.Range(), "a key is a name or a string in quotes")
		}
		key := v.AsString()
		if _, twice := m[key]; twice {
			return nil, r.malformed(item.KeyExpr.Range(), "the key %q is there twice; remove one", key)
		}
		var err error
		if m[key], err = r.value(item.ValueExpr); err != nil {
			return nil, err
		}
	}
	return m, nil
}
