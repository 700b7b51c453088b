package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of a schema. They are far above what people write by hand, and keep small what every node holds in memory.
const (
	MaxBytes        = 1 << 20 // of the text
	maxEntities     = 1000
	maxFields       = 1000 // of an entity
	maxEnvironments = 100
	maxInheritance  = 20 // environments from one to the base
	maxAllowed      = 1000
	maxPatternBytes = 1000
	maxRules        = 1000 // of all entities: to compile one takes a tenth of a millisecond
	maxRuleBytes    = 4000
	maxTypeDepth    = 4 // types within each other
	maxNameBytes    = 100
)

// DefaultBase is the base environment of a schema that names none.
const DefaultBase = "production"

// Parse reads a schema. The name is what errors call the text; an error about its content is a *Problems.
func Parse(name string, data []byte) (*Schema, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%s has %d bytes, and a schema may have %d: %w", name, len(data), MaxBytes, errkind.TooLarge)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s is not UTF-8: %w", name, errkind.Invalid)
	}
	root, err := readTree(data)
	if err != nil {
		return nil, syntax(name, err)
	}
	p := &parser{notes: newNotes(data), s: &Schema{}}
	p.schema(root)
	if err := p.err(name); err != nil {
		return nil, err
	}
	p.s.index()
	return p.s, nil
}

// parser makes a schema of a tree, and notes everything that is wrong on the way. What it could not read is left out of the schema,
// which nobody gets then.
type parser struct {
	*notes
	s     *Schema
	rules *rules // nil until an entity has some

	compiled int // how many rules
}

func (p *parser) schema(root *node) {
	p.known(root, "", "name", "version", "schema", "environments", "entity")
	header := root
	if n, pos := root.get("schema"); n != nil {
		if !n.isTable() {
			p.add(pos, "schema is %s: write [schema] with name and version", n.what())
		} else {
			header = n
			p.known(n, "[schema]: ", "name", "version")
			for _, k := range []string{"name", "version"} {
				if twice, pos := root.get(k); twice != nil {
					p.add(pos, "%s is written here and in [schema]: keep one of them", k)
				}
			}
		}
	}
	p.s.Name, _ = p.text(header, "", "name")
	p.s.Version, _ = p.text(header, "", "version")
	if n, _ := header.get("name"); n == nil || n.scalar == "" {
		p.add(header.pos, "the schema has no name: write name = \"my-infrastructure\"")
	}
	if n, pos := root.get("environments"); n == nil {
		p.s.Environments = []Environment{{Name: DefaultBase}}
	} else if !n.isTable() {
		p.add(pos, "environments is %s: write [environments] with base and overlays", n.what())
	} else {
		p.environments(n)
	}
	if n, pos := root.get("entity"); n != nil && !n.isTable() {
		p.add(pos, "entity is %s: write a table for each type, as in [entity.service]", n.what())
	} else if n != nil {
		p.entities(n, pos)
	}
}

// known notes the keys of a table that nothing reads.
func (p *parser) known(n *node, where string, names ...string) {
	for _, k := range n.keys {
		if !slices.Contains(names, k.name) {
			guess := didYouMean(k.name, names)
			if guess == "" {
				guess = ": there are " + strings.Join(names, ", ")
			}
			p.add(k.pos, "%sunknown key %s%s", where, quote(k.name), guess)
		}
	}
}

// text returns the string of a key, and its place.
func (p *parser) text(n *node, where, name string) (string, int) {
	v, pos := n.get(name)
	if v == nil {
		return "", pos
	}
	s, ok := v.scalar.(string)
	if !ok {
		p.mistyped(pos, "%s%s is %s: write a string in quotes", where, name, v.what())
	}
	return s, pos
}

// flag returns the bool of a key.
func (p *parser) flag(n *node, where, name string) bool {
	v, pos := n.get(name)
	if v == nil {
		return false
	}
	b, ok := v.scalar.(bool)
	if !ok {
		p.add(pos, "%s%s is %s: write true or false", where, name, v.what())
	}
	return b
}

// named is a table that has a name: by its key, or by a key of its own.
type named struct {
	name string
	pos  int // of the name
	node *node
}

// namedTables returns the tables of a key that may have a list of tables with names or a table by names. What is neither, and names that
// are there twice or against the grammar, is noted and left out.
func (p *parser) namedTables(n *node, pos int, where, what, example string, allowed func(string) bool) []named {
	var all []named
	switch {
	case n.isTable():
		for _, k := range n.keys {
			if !k.node.isTable() {
				p.add(k.pos, "%s%s %s is %s: write a table, as in %s", where, what, quote(k.name), k.node.what(), example)
				continue
			}
			if name, pos := p.text(k.node, where, "name"); name != "" && name != k.name {
				p.add(pos, "%s%s %s has another name within: leave it out", where, what, quote(k.name))
			}
			all = append(all, named(k))
		}
	case n.isList:
		for _, e := range n.list {
			if !e.isTable() {
				p.add(e.pos, "%s%s in a list of %ss: write a table, as in { name = \"…\", … }", where, e.what(), what)
				continue
			}
			name, pos := p.text(e, where, "name")
			if v, _ := e.get("name"); v == nil || v.scalar == "" {
				p.add(e.pos, "%sthe %s has no name: write name = \"…\"", where, what)
			}
			all = append(all, named{name, pos, e})
		}
	default:
		p.add(pos, "%s%s is neither a list of tables nor a table: write %s", where, n.what(), example)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(t named) bool {
		switch {
		case t.name == "":
			return true
		case !allowed(t.name):
			p.add(t.pos, "%s%s %s has a name that is not allowed: write %s", where, what, quote(t.name), grammar(allowed))
			return true
		case seen[t.name]:
			p.add(t.pos, "%s%s %s is there twice", where, what, quote(t.name))
			return true
		}
		seen[t.name] = true
		return false
	})
}

func (p *parser) environments(n *node) {
	const where = "environments: "
	p.known(n, where, "base", "overlays")
	base, pos := p.text(n, where, "base")
	if v, _ := n.get("base"); v == nil {
		base = DefaultBase
	} else if !isEnvironmentName(base) {
		p.add(pos, "%sbase %s is not allowed: write lower-case letters, digits, - and _, a letter first", where, quote(base))
	}
	overlays, pos := n.get("overlays")
	if overlays == nil {
		p.s.Environments = []Environment{{Name: base}}
		return
	}
	tables := p.namedTables(overlays, pos, where, "overlay", "staging = { inherits = \"production\" }", isEnvironmentName)
	if len(tables) >= maxEnvironments {
		p.add(pos, "%sthere are %d, and %d are allowed", where, len(tables)+1, maxEnvironments)
		return
	}
	names := []string{base}
	for _, t := range tables {
		names = append(names, t.name)
	}
	parents := map[string]string{}
	tables = slices.DeleteFunc(tables, func(t named) bool {
		where := fmt.Sprintf("environment %q: ", t.name)
		p.known(t.node, where, "name", "inherits")
		parent, pos := p.text(t.node, where, "inherits")
		if v, _ := t.node.get("inherits"); v == nil {
			parent = base
		}
		switch {
		case t.name == base:
			p.add(t.pos, "%sit is the base already", where)
			return true
		case !slices.Contains(names, parent):
			p.add(pos, "%sinherits = %s is no environment%s", where, quote(parent), p.guessOrList(parent, names))
		}
		parents[t.name] = parent
		return false
	})
	p.s.Environments = p.order(base, tables, parents)
}

// order sorts environments so that each is after the one that it inherits from, and as the text has them otherwise. Those that inherit
// from themselves are noted.
func (p *parser) order(base string, tables []named, parents map[string]string) []Environment {
	sorted := []Environment{{Name: base}}
	depth := map[string]int{base: 1}
	for again := true; again; {
		again = false
		for _, t := range tables {
			parent := parents[t.name]
			if depth[t.name] > 0 || depth[parent] == 0 {
				continue
			}
			depth[t.name] = depth[parent] + 1
			if depth[t.name] == maxInheritance+1 {
				p.add(t.pos, "environment %q: there are more than %d environments from it to the base", t.name, maxInheritance)
			}
			sorted = append(sorted, Environment{t.name, parent})
			again = true
		}
	}
	for _, t := range tables {
		path, at := []string{t.name}, parents[t.name]
		for at != t.name && at != "" && len(path) <= len(tables) {
			path, at = append(path, at), parents[at]
		}
		if at == t.name {
			_, pos := t.node.get("inherits")
			p.add(pos, "environment %q: it inherits from itself (%s): let one of them inherit from %q", t.name, strings.Join(append(path, t.name), " → "), base)
		}
	}
	return sorted
}

func (p *parser) entities(n *node, pos int) {
	tables := p.namedTables(n, pos, "", "entity", "[entity.service]", isName)
	if len(tables) > maxEntities {
		p.add(pos, "there are %d entities, and %d are allowed", len(tables), maxEntities)
		return
	}
	slices.SortFunc(tables, func(a, b named) int { return cmp.Compare(a.name, b.name) })
	var names []string
	for _, t := range tables {
		names = append(names, t.name)
	}
	for _, t := range tables {
		p.s.Entities = append(p.s.Entities, p.entity(t, names))
	}
}

func (p *parser) entity(t named, names []string) Entity {
	where := fmt.Sprintf("entity %q: ", t.name)
	p.known(t.node, where, "name", "description", "fields", "children", "rules")
	e := Entity{Name: t.name}
	e.Description, _ = p.text(t.node, where, "description")
	if n, pos := t.node.get("fields"); n != nil {
		example := fmt.Sprintf("fields = [{ name = \"weight\", type = \"int\" }] or [entity.%s.fields.weight]", t.name)
		tables := p.namedTables(n, pos, where, "field", example, isName)
		if len(tables) > maxFields {
			p.add(pos, "%sthere are %d fields, and %d are allowed", where, len(tables), maxFields)
			return e
		}
		for _, f := range tables {
			r := &fieldReader{parser: p, n: f.node, where: fmt.Sprintf("field %q: ", f.name), types: names}
			e.Fields = append(e.Fields, r.read(f.name))
		}
	}
	if n, pos := t.node.get("children"); n != nil {
		e.Children = p.children(n, pos, where, names)
	}
	if n, pos := t.node.get("rules"); n != nil {
		p.readRules(n, pos, where, &e)
	}
	return e
}

func (p *parser) readRules(n *node, pos int, where string, e *Entity) {
	tables := p.namedTables(n, pos, where, "rule", fmt.Sprintf("[[entity.%s.rules]] with name and check", e.Name), isName)
	if p.compiled += len(tables); p.compiled > maxRules {
		p.add(pos, "%sthere are more rules than the %d that are allowed", where, maxRules)
		return
	}
	if p.rules == nil {
		p.rules = newRules()
	}
	env := p.rules.add(e)
	for _, t := range tables {
		where := fmt.Sprintf("rule %q: ", t.name)
		p.known(t.node, where, "name", "check", "message")
		r := Rule{Name: t.name}
		r.Message, _ = p.text(t.node, where, "message")
		var pos int
		r.Check, pos = p.text(t.node, where, "check")
		switch {
		case r.Check == "":
			p.add(pos, "%sit checks nothing: write check = \"self.min <= self.max\"", where)
			continue
		case len(r.Check) > maxRuleBytes:
			p.add(pos, "%scheck has %d bytes, and %d are allowed", where, len(r.Check), maxRuleBytes)
			continue
		}
		program, err := compile(env, r.Check)
		if err != nil {
			p.add(pos, "%scheck: %v", where, err)
		}
		r.program = program
		e.Rules = append(e.Rules, r)
	}
}

// children reads which types may be below an entity: a list of them, or the other dialect's table of { type, merge }, whose names mean
// nothing here.
func (p *parser) children(n *node, pos int, where string, names []string) []string {
	var children []string
	add := func(v *node, pos int) {
		name, ok := "", false
		if v != nil {
			name, ok = v.scalar.(string)
		}
		switch {
		case !ok:
			p.add(pos, "%sa child has no type: write children = [\"filter\"]", where)
		case !slices.Contains(names, name):
			p.add(pos, "%schild %s is no entity%s", where, quote(name), p.guessOrList(name, names))
		case slices.Contains(children, name):
			p.add(pos, "%schild %q is there twice", where, name)
		default:
			children = append(children, name)
		}
	}
	switch {
	case n.isList:
		for _, e := range n.list {
			add(e, e.pos)
		}
	case n.isTable():
		for _, k := range n.keys {
			if !k.node.isTable() {
				add(nil, k.pos)
				continue
			}
			p.known(k.node, where+"children: ", "type", "merge")
			if merge, pos := p.text(k.node, where+"children: ", "merge"); merge != "" && mergeWords[merge] != Set {
				p.add(pos, "%schildren: merge = %s: entities are added and removed each on its own: leave it out, or write \"set\"", where, quote(merge))
			}
			add(k.node.get("type"))
		}
	default:
		p.add(pos, "%schildren is %s: write a list of types, as in [\"filter\"]", where, n.what())
	}
	slices.Sort(children)
	return children
}

// maxGuesses is how many problems get a guess: the search for one looks at all names.
const maxGuesses = 10 * maxProblems

// guessOrList says what could have been meant: the nearest name, or all of them if they are few.
func (p *parser) guessOrList(word string, names []string) string {
	if len(p.found) > maxGuesses {
		return ""
	}
	if guess := didYouMean(word, names); guess != "" {
		return guess
	}
	if len(names) == 0 || len(names) > maxChoices {
		return ""
	}
	return ": there is " + strings.Join(names, ", ")
}
