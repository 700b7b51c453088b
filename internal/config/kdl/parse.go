package kdl

// parser reads nodes. The names of its methods are those of the grammar's productions.
type parser struct {
	scanner
	depth int
	items int
}

// parse reads a document of a version from an offset on.
func parse(text string, offset, version int) (doc *Document, err error) {
	p := &parser{scanner: scanner{text: text, pos: offset, v1: version == 1}}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *Error:
			doc, err = nil, r
		default:
			panic(r)
		}
	}()
	p.checkCharacters()
	p.eat(bom)
	nodes := p.nodes()
	if p.pos < len(text) {
		p.fail(p.pos, "this } closes nothing; remove it, or write it in quotes")
	}
	return &Document{Version: version, Nodes: nodes}, nil
}

// nodes reads nodes up to a } or the end.
func (p *parser) nodes() []Node {
	var nodes []Node
	for {
		p.skipLineSpace()
		if p.pos == len(p.text) || p.has("}") {
			return nodes
		}
		drop := p.slashdash()
		if n := p.node(); !drop {
			nodes = append(nodes, n)
		}
	}
}

// slashdash steps over the mark that comments out what follows it.
func (p *parser) slashdash() bool {
	if !p.eat("/-") {
		return false
	}
	if p.v1 {
		p.skipNodeSpace()
	} else {
		p.skipLineSpace()
	}
	return true
}

// count counts an item of the document.
func (p *parser) count() {
	if p.items++; p.items > MaxItems {
		p.tooLarge(p.pos, "a document has at most %d nodes, arguments and properties; split it", MaxItems)
	}
}

func (p *parser) node() Node {
	p.count()
	typ := p.annotation()
	name, _ := p.string()
	n := Node{Type: typ, Name: name}
	closed := false // a block of children was there, commented out or not: nothing but other blocks may follow
	own := false    // one of them was not commented out
	for {
		spaced := p.skipNodeSpace()
		if p.terminator() {
			break
		}
		start := p.pos
		drop := p.slashdash()
		if p.has("{") {
			if own && !drop || closed && p.v1 {
				p.fail(p.pos, "a node has one block of children; put all of them in one")
			}
			children := p.children()
			closed = true
			if !drop {
				own = true
				n.Children = children
			}
			continue
		}
		if closed {
			p.fail(start, "after the children of a node a new line or ; must come, found %s", p.next())
		}
		if !spaced && (!drop || p.v1) {
			p.fail(start, "expected white space before %s", p.next())
		}
		p.entry(&n, drop)
	}
	n.Props = onlyLast(n.Props)
	return n
}

// terminator steps over the end of a node. A } ends one too, and stays; in KDL 1 not by the letter of its grammar, but in
// its examples.
func (p *parser) terminator() bool {
	if p.pos == len(p.text) || p.has("}") && p.depth > 0 || p.eat(";") || p.skipComment() {
		return true
	}
	size := p.newline()
	p.pos += size
	return size > 0
}

func (p *parser) children() []Node {
	start := p.pos
	if p.depth++; p.depth > MaxDepth {
		p.tooLarge(start, "blocks of children stand in each other at most %d deep", MaxDepth)
	}
	p.eat("{")
	nodes := p.nodes()
	if !p.eat("}") {
		p.fail(start, "this { is never closed; write }")
	}
	p.depth--
	return nodes
}

// entry reads an argument or a property.
func (p *parser) entry(n *Node, drop bool) {
	p.count()
	start := p.pos
	if p.has("(") || !p.isString() {
		v := p.value()
		if !drop {
			n.Args = append(n.Args, v)
		}
		if p.has("=") {
			p.fail(start, "a property's key is text without an annotation; a key that looks like another value needs quotes")
		}
		return
	}
	key, bare := p.string()
	end := p.pos
	if !p.v1 {
		p.skipNodeSpace()
	}
	if !p.eat("=") {
		p.pos = end
		if bare && p.v1 {
			p.fail(start, "in KDL 1 text that is an argument needs quotes")
		}
		if !drop {
			n.Args = append(n.Args, Value{Data: key})
		}
		return
	}
	if !p.v1 {
		p.skipNodeSpace()
	}
	v := p.value()
	if !drop {
		n.Props = append(n.Props, Prop{Key: key, Value: v})
	}
}

// annotation reads a type in parentheses, if there is one, and the space after it.
func (p *parser) annotation() *string {
	if !p.eat("(") {
		return nil
	}
	if !p.v1 {
		p.skipNodeSpace()
	}
	typ, _ := p.string()
	if !p.v1 {
		p.skipNodeSpace()
	}
	if !p.eat(")") {
		p.fail(p.pos, "expected ) after the name of a type, found %s", p.next())
	}
	if !p.v1 {
		p.skipNodeSpace()
	}
	return &typ
}

func (p *parser) value() Value {
	v := Value{Type: p.annotation()}
	start, token := p.pos, p.token()
	switch {
	case p.rawHashes() >= 0:
		v.Data, _ = p.string()
	case !p.v1 && p.has("#"):
		v.Data = p.keyword()
	case p.v1 && (token == "true" || token == "false" || token == "null"):
		v.Data = keywords["#"+token]
		p.pos += len(token)
	case numeric(token):
		if len(token) > MaxDigits {
			p.tooLarge(start, "a number has at most %d digits", MaxDigits)
		}
		n, problem := parseNumber(token)
		if problem != "" {
			p.fail(start, "%s", problem)
		}
		if len(n) > MaxDigits { // in base 10 it is longer
			p.tooLarge(start, "a number has at most %d digits", MaxDigits)
		}
		v.Data = n
		p.pos += len(token)
	case token == "" && !p.has(`"`):
		p.fail(start, "expected a value, found %s", p.next())
	default:
		text, bare := p.string()
		if bare && p.v1 {
			p.fail(start, "in KDL 1 text that is a value needs quotes")
		}
		v.Data = text
	}
	return v
}

// keywords has the words of KDL 2 that are values.
var keywords = map[string]any{
	"#true": true, "#false": false, "#null": nil, string(Inf): Inf, string(NegInf): NegInf, string(NaN): NaN,
}

// keyword reads one of them.
func (p *parser) keyword() any {
	start := p.pos
	p.eat("#")
	word := "#" + p.token()
	v, known := keywords[word]
	if !known {
		p.fail(start, "after # comes true, false, null, inf, -inf, nan, or a raw string: #\"…\"#; other text with # needs quotes")
	}
	p.pos = start + len(word)
	return v
}
