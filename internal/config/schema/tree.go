package schema

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/skep-dev/skep/internal/config/value"
)

// node is a value of a TOML text, with its place: a table, a list or a scalar.
type node struct {
	pos    int
	keys   []key          // of a table, in the order of the text
	byName map[string]int // where in keys; nil of what is no table
	list   []*node        // of a list
	isList bool
	scalar any    // string, bool, int64 or float64, or nil of what no field can have
	text   string // of a scalar that is no string
}

type key struct {
	name string
	pos  int
	node *node
}

func newTable(pos int) *node { return &node{pos: pos, byName: map[string]int{}} }

func (n *node) isTable() bool { return n.byName != nil }

// get returns the value of a key, and the place of the key.
func (n *node) get(name string) (*node, int) {
	i, ok := n.byName[name]
	if !ok {
		return nil, n.pos
	}
	return n.keys[i].node, n.keys[i].pos
}

func (n *node) set(name string, pos int, v *node) {
	n.byName[name] = len(n.keys)
	n.keys = append(n.keys, key{name, pos, v})
}

// what describes a node's type for an error.
func (n *node) what() string {
	switch {
	case n.isTable():
		return "a table"
	case n.isList:
		return "a list"
	}
	switch n.scalar.(type) {
	case string:
		return "a string"
	case nil:
		return n.text
	default:
		return value.Text(n.scalar)
	}
}

// value returns a node as a field's value.
func (n *node) value() (any, error) {
	raw, err := n.raw()
	if err != nil {
		return nil, err
	}
	v, err := value.Normalize(raw)
	if err != nil {
		return nil, errors.New(plain(err))
	}
	return v, nil
}

func (n *node) raw() (any, error) {
	switch {
	case n.isTable():
		m := make(map[string]any, len(n.keys))
		for _, k := range n.keys {
			v, err := k.node.raw()
			if err != nil {
				return nil, err
			}
			m[k.name] = v
		}
		return m, nil
	case n.isList:
		list := make([]any, len(n.list))
		for i, e := range n.list {
			v, err := e.raw()
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case n.scalar == nil:
		return nil, fmt.Errorf("%s is no value that a field can have: put it in quotes", n.text)
	default:
		return n.scalar, nil
	}
}

// maxNesting bounds the lists and inline tables within each other.
const maxNesting = value.MaxDepth + 8

// readTree reads a TOML text into a tree with places. The library's decoder, which knows no places, has taken the text before: what it
// finds, as a key that is there twice, is not looked for again.
func readTree(data []byte) (*node, error) {
	if err := toml.Unmarshal(data, &map[string]any{}); err != nil {
		return nil, err
	}
	root := newTable(0)
	current := root
	p := &unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			current = descend(root, e.Key())
		case unstable.ArrayTable:
			parent, last := descendToLast(root, e.Key())
			list, _ := parent.get(string(last.Data))
			pos := int(last.Raw.Offset)
			if list == nil {
				list = &node{pos: pos, isList: true}
				parent.set(string(last.Data), pos, list)
			}
			current = newTable(pos)
			list.list = append(list.list, current)
		case unstable.KeyValue:
			if err := readKeyValue(current, e, 0); err != nil {
				return nil, err
			}
		default:
		}
	}
	return root, p.Error()
}

// descend returns the table at a path of keys, and makes what is not there.
func descend(n *node, path unstable.Iterator) *node {
	parent, last := descendToLast(n, path)
	return step(parent, last)
}

// descendToLast returns the table above the last key of a path, and that key.
func descendToLast(n *node, path unstable.Iterator) (*node, *unstable.Node) {
	path.Next()
	last := path.Node()
	for path.Next() {
		n = step(n, last)
		last = path.Node()
	}
	return n, last
}

// step returns the table of a key, which is the last one where the key has a list of them.
func step(n *node, k *unstable.Node) *node {
	pos := int(k.Raw.Offset)
	next, _ := n.get(string(k.Data))
	switch {
	case next == nil:
		next = newTable(pos)
		n.set(string(k.Data), pos, next)
	case next.isList:
		next = next.list[len(next.list)-1]
	}
	return next
}

func readKeyValue(table *node, e *unstable.Node, depth int) error {
	parent, last := descendToLast(table, e.Key())
	v, err := readValue(e.Value(), int(last.Raw.Offset), depth)
	if err != nil {
		return err
	}
	parent.set(string(last.Data), int(last.Raw.Offset), v)
	return nil
}

// readValue reads a value. A list has no place of its own in the library's tree: it gets that of its key or of its list.
func readValue(v *unstable.Node, pos, depth int) (*node, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("lists and tables are within each other more than %d times", maxNesting)
	}
	if v.Raw.Length > 0 {
		pos = int(v.Raw.Offset)
	}
	n := &node{pos: pos, text: string(v.Data)}
	children := v.Children()
	switch v.Kind {
	case unstable.Array:
		n.isList = true
		for children.Next() {
			e, err := readValue(children.Node(), pos, depth+1)
			if err != nil {
				return nil, err
			}
			n.list = append(n.list, e)
		}
	case unstable.InlineTable:
		n.byName = map[string]int{}
		for children.Next() {
			if err := readKeyValue(n, children.Node(), depth+1); err != nil {
				return nil, err
			}
		}
	case unstable.String:
		n.scalar = n.text
	case unstable.Bool:
		n.scalar = n.text == "true"
	case unstable.Integer:
		if i, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, 64); err == nil {
			n.scalar = i
		}
	case unstable.Float:
		// inf and nan, and what is out of range, are no values.
		if f, err := strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64); err == nil {
			if normal, err := value.Normalize(f); err == nil {
				n.scalar = normal
			}
		}
	default: // dates and times
	}
	return n, nil
}
