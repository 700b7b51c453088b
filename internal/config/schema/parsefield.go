package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config/value"
)

// mergeWords has the strategies by all the names that they have.
var mergeWords = map[string]Merge{
	"lww": LWW, "max": Max, "min": Min, "set": Set, "or-set": Set, "grow": Grow, "grow-set": Grow, "review": Review, "map": PerKey,
}

// typeHints say what to write for the types that people try.
var typeHints = map[string]string{
	"str": "string", "text": "string", "url": "string", "enum": "string with values = [\"a\", \"b\"]", "address": "string",
	"integer": "int", "int64": "int", "uint": "int with range = { min = 0 }", "number": "int or float", "double": "float", "float64": "float",
	"boolean": "bool", "time": "duration, or string", "array": "list", "set": "list with merge = \"set\"", "object": "map", "table": "map", "dict": "map",
	"reference": "ref",
}

// fieldReader reads one field. Each step relies on the steps before: bounds and default need the type.
type fieldReader struct {
	*parser
	n     *node
	where string
	types []string // the names of all entities
	f     Field
	bad   bool // the type could not be read
}

func (r *fieldReader) read(name string) Field {
	r.known(r.n, r.where, "name", "type", "target", "description", "merge", "values_merge", "conflict", "on_conflict", "overlay", "order", "blind",
		"default", "required", "unique", "range", "values", "pattern")
	r.f = Field{Name: name, OnConflict: TakeLast, Overlay: Replace}
	r.f.Description, _ = r.text(r.n, r.where, "description")
	r.readType()
	if r.bad {
		return r.f
	}
	r.readMerge()
	r.readWays()
	r.f.Required = r.flag(r.n, r.where, "required")
	r.f.Unique = r.flag(r.n, r.where, "unique")
	if _, pos := r.n.get("unique"); r.f.Unique && !r.f.Type.scalar() {
		r.note(pos, "unique is for scalars, and the type is %s: leave it out", r.f.Type)
	}
	r.readRange()
	r.readAllowed()
	r.readPattern()
	r.readDefault()
	return r.f
}

func (r *fieldReader) note(pos int, format string, args ...any) { r.add(pos, r.where+format, args...) }

func (r *fieldReader) readType() {
	n, pos := r.n.get("type")
	text, _ := r.text(r.n, r.where, "type")
	if n == nil {
		r.note(pos, "it has no type: write type = \"string\", or int, float, bool, duration, ref<…>, list<…> or map<…>")
	}
	if text == "" {
		r.bad = true
		return
	}
	t, err := r.parseType(text, 1)
	if err != nil {
		r.note(pos, "type: %v", err)
		r.bad = true
		return
	}
	if target, pos := r.text(r.n, r.where, "target"); target != "" {
		inner := &t
		for inner.Elem != nil {
			inner = inner.Elem
		}
		switch {
		case inner.Kind != Ref:
			r.note(pos, "target is for refs, and the type is %s: leave it out", t)
		case inner.Target != "" && inner.Target != target:
			r.note(pos, "target = %s, and the type is %s: keep one of them", quote(target), t)
		default:
			inner.Target = target
			if !slices.Contains(r.types, target) {
				r.note(pos, "target = %s is no entity%s", quote(target), r.guessOrList(target, r.types))
			}
		}
	}
	r.f.Type = t
}

func (r *fieldReader) parseType(text string, depth int) (Type, error) {
	text = strings.TrimSpace(text)
	name, inner, nested := strings.Cut(text, "<")
	name = strings.TrimSpace(name)
	inner, closed := strings.CutSuffix(inner, ">")
	inner = strings.TrimSpace(inner)
	switch kind := Kind(name); {
	case nested && !closed:
		return Type{}, fmt.Errorf("%s has no > at its end", quote(text))
	case nested && inner == "":
		return Type{}, fmt.Errorf("%s says no type: write %s alone, or what is within", quote(text), name)
	case nested && kind == Ref:
		if !slices.Contains(r.types, inner) {
			return Type{}, fmt.Errorf("%s is no entity%s", quote(inner), r.guessOrList(inner, r.types))
		}
		return Type{Kind: Ref, Target: inner}, nil
	case nested && (kind == List || kind == Map):
		if depth == maxTypeDepth {
			return Type{}, fmt.Errorf("types are within each other more than %d times", maxTypeDepth)
		}
		elem, err := r.parseType(inner, depth+1)
		return Type{Kind: kind, Elem: &elem}, err
	case !nested && slices.Contains([]Kind{String, Int, Float, Bool, Duration, Ref, List, Map}, kind):
		return Type{Kind: kind}, nil
	case nested && slices.Contains([]Kind{String, Int, Float, Bool, Duration}, kind):
		return Type{}, fmt.Errorf("%s has nothing within: write %s", name, name)
	}
	if hint, ok := typeHints[strings.ToLower(name)]; ok {
		return Type{}, fmt.Errorf("%s is no type: write %s", quote(text), hint)
	}
	kinds := []string{"string", "int", "float", "bool", "duration", "ref", "list", "map"}
	guess := didYouMean(name, kinds)
	if guess == "" {
		guess = ": use " + either(kinds)
	}
	return Type{}, fmt.Errorf("%s is no type%s", quote(text), guess)
}

func (r *fieldReader) readMerge() {
	t := r.f.Type
	word, pos := r.text(r.n, r.where, "merge")
	merge, ok := mergeWords[word]
	if n, _ := r.n.get("merge"); n != nil && !ok {
		r.note(pos, "merge = %s is no strategy: use %s", quote(word), either(strategies(t)))
	}
	if merge == "" {
		merge = LWW
	}
	if t.Kind == Map {
		r.readMapMerge(merge, pos)
		return
	}
	r.f.Merge = merge
	if _, pos := r.n.get("values_merge"); r.has("values_merge") {
		r.note(pos, "values_merge is for maps, and the type is %s: write merge", t)
	}
	if !slices.Contains(strategies(t), string(merge)) {
		r.note(pos, "merge = %q is not for the type %s: use %s%s", word, t, either(strategies(t)), mergeReason(merge, t))
	}
}

// readMapMerge reads the strategy of a map, whose keys are always merged each on its own: merge is that, or says how, as in the dialect
// that knows nothing else.
func (r *fieldReader) readMapMerge(merge Merge, pos int) {
	r.f.Merge, r.f.MapValues = PerKey, LWW
	switch merge {
	case LWW, PerKey:
	case Review:
		r.f.Review = true
	default:
		r.note(pos, "merge = %q is not for the type %s, whose keys are merged each on its own: leave it out, or write values_merge = \"max\" or \"min\"", merge, r.f.Type)
	}
	word, pos := r.text(r.n, r.where, "values_merge")
	elem := r.f.Type.Element()
	switch values := mergeWords[word]; {
	case word == "":
	case values != LWW && values != Max && values != Min:
		r.note(pos, "values_merge = %s is no strategy of a map's values: use lww, max or min", quote(word))
	case values != LWW && !elem.numeric():
		r.note(pos, "values_merge = %q is not for the type %s: use lww, or write type = \"map<int>\", map<float> or map<duration>", word, r.f.Type)
	default:
		r.f.MapValues = values
	}
}

// strategies returns which strategies a type allows.
func strategies(t Type) []string {
	switch {
	case t.Kind == Map:
		return []string{"lww"}
	case t.Kind == List && t.Element().scalar():
		return []string{"lww", "set", "grow", "review"}
	case t.numeric():
		return []string{"lww", "max", "min", "review"}
	default:
		return []string{"lww", "review"}
	}
}

func mergeReason(m Merge, t Type) string {
	switch {
	case (m == Max || m == Min) && !t.numeric():
		return " (max and min are for int, float and duration)"
	case (m == Set || m == Grow) && t.Kind == List:
		return " (the elements of a set are scalars)"
	case m == Set || m == Grow:
		return " (sets are lists: write type = \"list<" + t.String() + ">\")"
	default:
		return ""
	}
}

func (r *fieldReader) has(name string) bool {
	n, _ := r.n.get(name)
	return n != nil
}

// oneOf returns the word of a key, which is one of some, and its place. What is not there is the first of them.
func (r *fieldReader) oneOf(name string, words ...string) (string, int) {
	word, pos := r.text(r.n, r.where, name)
	if r.has(name) && !slices.Contains(words, word) {
		r.note(pos, "%s = %s is not known: use %s", name, quote(word), either(words))
		return words[0], pos
	}
	if word == "" {
		return words[0], pos
	}
	return word, pos
}

// readWays reads how a field's concurrent writes, overlays and elements are treated. What could have no effect is refused: whoever wrote
// it expects one.
func (r *fieldReader) readWays() {
	isSet := r.f.Merge == Set || r.f.Merge == Grow
	if word, _ := r.oneOf("conflict", "auto", "review"); word == "review" && r.f.Merge != Review {
		r.f.Review = true
	}
	reviewed := r.f.Merge == Review || r.f.Review

	word, pos := r.oneOf("on_conflict", string(TakeLast), string(Hold))
	if r.has("on_conflict") && r.f.Merge != Review {
		r.note(pos, "on_conflict is for merge = \"review\", and this is %q: leave it out", r.f.Merge)
	}
	r.f.OnConflict = OnConflict(word)

	word, pos = r.oneOf("overlay", string(Replace), string(Union))
	if word == string(Union) && !isSet && r.f.Type.Kind != Map {
		r.note(pos, "overlay = \"merge\" is for sets and maps, and the type is %s, merge = %q: leave it out", r.f.Type, r.f.Merge)
	}
	r.f.Overlay = Overlay(word)

	word, pos = r.oneOf("order", "sorted", "insertion")
	if r.has("order") && !isSet {
		r.note(pos, "order is for merge = \"set\" and \"grow\", and this is %q: leave it out", r.f.Merge)
	}
	r.f.ByInsertion = word == "insertion"

	word, pos = r.oneOf("blind", "seen", "conflict")
	if r.has("blind") && !reviewed {
		r.note(pos, "blind is for fields that report conflicts: write conflict = \"review\" too, or leave it out")
	}
	r.f.Blind = word == "conflict"
}

// readRange reads "0,100", [0, 100] or { min = 0, max = 100 }.
func (r *fieldReader) readRange() {
	n, pos := r.n.get("range")
	if n == nil {
		return
	}
	t := r.f.Type.bounded()
	if !t.numeric() {
		r.note(pos, "range is for int, float and duration, and the type is %s: leave it out%s", r.f.Type, rangeHint(r.f.Type))
		return
	}
	var low, high any
	var err error
	text, isText := n.scalar.(string)
	switch {
	case isText:
		from, to, ok := strings.Cut(text, ",")
		if !ok {
			r.note(pos, "range = %s has no comma: write \"0,100\"", quote(text))
			return
		}
		if low, err = bound(t, from); err == nil {
			high, err = bound(t, to)
		}
	case n.isList && len(n.list) == 2:
		if low, err = normalizeNode(t, n.list[0]); err == nil {
			high, err = normalizeNode(t, n.list[1])
		}
	case n.isTable():
		r.known(n, r.where+"range: ", "min", "max")
		lowest, _ := n.get("min")
		highest, _ := n.get("max")
		if low, err = normalizeNode(t, lowest); err == nil {
			high, err = normalizeNode(t, highest)
		}
	default:
		r.note(pos, "range is %s: write [0, 100], { min = 0 } or \"0,100\"", n.what())
		return
	}
	switch {
	case err != nil:
		r.note(pos, "range: %v", err)
	case low == nil && high == nil:
		r.note(pos, "range has no bound: write [0, 100], { min = 0 } or \"0,100\"")
	case low != nil && high != nil && Compare(t, low, high) > 0:
		r.note(pos, "range: %s is more than %s: the least comes first", value.Text(low), value.Text(high))
	default:
		r.f.Low, r.f.High = low, high
	}
}

func rangeHint(t Type) string {
	switch {
	case t.bounded().Kind == String:
		return ", or write pattern = \"…\""
	case t.bounded().Kind == "":
		return ", or say which type its elements have"
	default:
		return ""
	}
}

func bound(t Type, text string) (any, error) {
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	return scalarText(t, text)
}

// scalarText returns a word of one of the texts that the other dialect has for lists.
func scalarText(t Type, text string) (any, error) {
	v, err := parseText(t, text)
	if err != nil {
		return nil, err
	}
	return t.normalize(v)
}

// normalizeNode returns a node as a value of a type; of none it is nil.
func normalizeNode(t Type, n *node) (any, error) {
	if n == nil {
		return nil, nil
	}
	v, err := n.value()
	if err != nil {
		return nil, err
	}
	return t.normalize(v)
}

// readAllowed reads "a,b" or ["a", "b"].
func (r *fieldReader) readAllowed() {
	n, pos := r.n.get("values")
	if n == nil {
		return
	}
	t := r.f.Type.bounded()
	text, isText := n.scalar.(string)
	var all []any
	switch {
	case t.Kind == "":
		r.note(pos, "values needs the type of the elements: write type = \"%s<string>\"", r.f.Type)
		return
	case isText:
		for word := range strings.SplitSeq(text, ",") {
			v, err := scalarText(t, strings.TrimSpace(word))
			if err != nil {
				r.note(pos, "values: %v", err)
				return
			}
			all = append(all, v)
		}
	case n.isList:
		for _, e := range n.list {
			v, err := normalizeNode(t, e)
			if err != nil {
				r.note(e.pos, "values: %v", err)
				return
			}
			all = append(all, v)
		}
	default:
		r.note(pos, "values is %s: write [\"a\", \"b\"] or \"a,b\"", n.what())
		return
	}
	err := distinct(all)
	switch {
	case len(all) == 0:
		r.note(pos, "values is empty: nothing would be allowed")
	case len(all) > maxAllowed:
		r.note(pos, "values has %d, and %d are allowed: write a pattern", len(all), maxAllowed)
	case err != nil:
		r.note(pos, "values: %v", err)
	default:
		r.f.Allowed = all
	}
}

// distinct refuses a list of scalars that has one of them twice.
func distinct(v any) error {
	list, _ := v.([]any)
	seen := make(map[any]bool, len(list))
	for _, e := range list {
		if seen[e] {
			return fmt.Errorf("%s is there twice", show(e))
		}
		seen[e] = true
	}
	return nil
}

func (r *fieldReader) readPattern() {
	text, pos := r.text(r.n, r.where, "pattern")
	if text == "" {
		return
	}
	if kind := r.f.Type.bounded().Kind; kind != String {
		r.note(pos, "pattern is for strings, and the type is %s: leave it out", r.f.Type)
		return
	}
	if len(text) > maxPatternBytes {
		r.note(pos, "pattern has %d bytes, and %d are allowed", len(text), maxPatternBytes)
		return
	}
	if _, err := regexp.Compile(text); err != nil {
		r.note(pos, "pattern = %s cannot be read: %s (the syntax is RE2's: https://github.com/google/re2/wiki/Syntax)", quote(text), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return
	}
	whole, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		r.note(pos, "pattern = %s is too large", quote(text))
		return
	}
	r.f.Pattern, r.f.pattern = text, whole
}

// readDefault reads the default, which keeps to the field's own bounds.
func (r *fieldReader) readDefault() {
	n, pos := r.n.get("default")
	if n == nil {
		return
	}
	v, err := normalizeNode(r.f.Type, n)
	if size := len(value.Encode(v)); size > value.MaxBytes {
		err = fmt.Errorf("it has %d bytes as JSON, and %d are allowed", size, value.MaxBytes)
	}
	if err == nil {
		err = r.f.checkBounds(r.f.Type, v)
	}
	if err == nil && (r.f.Merge == Set || r.f.Merge == Grow) {
		err = distinct(v)
	}
	if err != nil {
		r.note(pos, "default: %v", err)
		return
	}
	r.f.Default = v
}

// grammar describes what a name has to be.
func grammar(ok func(string) bool) string {
	if ok("A") {
		return fmt.Sprintf("letters, digits, - and _, a letter or _ first, up to %d", maxNameBytes)
	}
	return fmt.Sprintf("lower-case letters, digits, - and _, a letter first, up to %d", maxNameBytes)
}
