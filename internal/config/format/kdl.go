package format

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/skep-dev/skep/internal/config/kdl"
	"github.com/skep-dev/skep/internal/errkind"
)

// newKDL makes the format that writes KDL 2, and reads KDL 1 and 2. A node is an entry of a map:
//
//	weight 80                        // a value
//	(list)tags a b                   // a list of values; also `tags a b`, if it has two at least
//	(list)rules { - 1; - { a 1 } }   // a list of anything, its elements nodes with the name -
//	backend { host a; port 80 }      // a map; also `backend host=a port=80`
//	(map)empty                       // an empty map
//	route "api" { weight 80 }        // read only: a map in a map, as `route { api { weight 80 } }`
func newKDL() Format {
	return twoWay{about{id: "kdl", extension: "kdl", name: "KDL"}, writeKDL, readKDL}
}

// The annotations of nodes.
const (
	kdlList = "list"
	kdlMap  = "map"
)

// kdlElement is the name of a node that is an element of a list.
const kdlElement = "-"

func writeKDL(v any) ([]byte, error) {
	m, err := topMap("KDL", v)
	if err != nil {
		return nil, err
	}
	return kdl.Marshal(&kdl.Document{Nodes: kdlNodes(m)})
}

func kdlNodes(m map[string]any) []kdl.Node {
	nodes := make([]kdl.Node, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		nodes = append(nodes, kdlNode(k, m[k]))
	}
	return nodes
}

func kdlNode(name string, v any) kdl.Node {
	n := kdl.Node{Name: name}
	switch v := v.(type) {
	case []any:
		n.Type = new(kdlList)
		flat := !slices.ContainsFunc(v, nested)
		for _, e := range v {
			if flat {
				n.Args = append(n.Args, kdl.Value{Data: kdlData(e)})
			} else {
				n.Children = append(n.Children, kdlNode(kdlElement, e))
			}
		}
	case map[string]any:
		n.Children = kdlNodes(v)
		if len(v) == 0 {
			n.Type = new(kdlMap)
		}
	default:
		n.Args = []kdl.Value{{Data: kdlData(v)}}
	}
	return n
}

// nested says whether a value has values in it.
func nested(v any) bool { return kind(v) == "list" || kind(v) == "map" }

func kdlData(v any) any {
	switch v := v.(type) {
	case int64:
		return kdl.Int(v)
	case float64:
		return kdl.Float(v)
	default:
		return v
	}
}

func readKDL(name string, data []byte) (any, error) {
	doc, err := kdl.Parse(data, kdl.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := map[string]any{}
	if err := kdlEntries(m, doc.Nodes, 1); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, err, errkind.Invalid)
	}
	return m, nil
}

// kdlEntries adds nodes to a map.
func kdlEntries(m map[string]any, nodes []kdl.Node, depth int) error {
	for i := range nodes {
		n := &nodes[i]
		if err := kdlEntry(m, n, depth); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return nil
}

func kdlEntry(m map[string]any, n *kdl.Node, depth int) error {
	labelled := len(n.Args) > 0 && (len(n.Children) > 0 || len(n.Props) > 0) && n.Type == nil
	if !labelled {
		if _, twice := m[n.Name]; twice {
			return errors.New("this node is there twice; write a list as (list)name a b, or with children named -")
		}
		v, err := kdlValue(n, depth)
		m[n.Name] = v
		return err
	}
	// Arguments before properties or children are keys of maps within maps.
	path := []string{n.Name}
	for _, a := range n.Args {
		label, ok := a.Data.(string)
		if !ok {
			return errors.New("a node that has properties or children may have strings as arguments, and no other values")
		}
		path = append(path, label)
	}
	for _, key := range path {
		inner, ok := m[key].(map[string]any)
		if _, there := m[key]; there && !ok {
			return fmt.Errorf("%s is there twice, once as a %s", key, kind(m[key]))
		} else if !there {
			inner = map[string]any{}
			m[key] = inner
		}
		m = inner
		if depth++; depth > MaxDepth {
			return fmt.Errorf("it is deeper than %d levels", MaxDepth)
		}
	}
	return kdlFields(m, n, depth)
}

// kdlFields adds the properties and the children of a node to a map.
func kdlFields(m map[string]any, n *kdl.Node, depth int) error {
	for _, p := range n.Props {
		if _, twice := m[p.Key]; twice {
			return fmt.Errorf("the key %q is there twice", p.Key)
		}
		v, err := kdlScalar(p.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Key, err)
		}
		m[p.Key] = v
	}
	return kdlEntries(m, n.Children, depth)
}

// kdlValue makes the value of a node.
func kdlValue(n *kdl.Node, depth int) (any, error) {
	annotation := ""
	if n.Type != nil {
		annotation = *n.Type
	}
	switch {
	case depth > MaxDepth:
		return nil, fmt.Errorf("it is deeper than %d levels", MaxDepth)
	case annotation == kdlList:
		return kdlListOf(n, depth)
	case annotation == kdlMap || len(n.Children) > 0 || len(n.Props) > 0:
		if len(n.Args) > 0 {
			return nil, errors.New("a map has properties and children, and no arguments")
		}
		m := map[string]any{}
		return m, kdlFields(m, n, depth+1)
	case len(n.Args) == 1:
		return kdlScalar(n.Args[0])
	case len(n.Args) > 1:
		return kdlListOf(n, depth)
	default:
		return nil, fmt.Errorf("a node with nothing has no value; write (map)%[1]s, (list)%[1]s, %[1]s #true or %[1]s #null", n.Name)
	}
}

func kdlListOf(n *kdl.Node, depth int) (any, error) {
	if len(n.Props) > 0 || len(n.Args) > 0 && len(n.Children) > 0 {
		return nil, errors.New("a list has arguments, or children named -, and nothing else")
	}
	list := make([]any, 0, len(n.Args)+len(n.Children))
	for i, a := range n.Args {
		v, err := kdlScalar(a)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		list = append(list, v)
	}
	for i := range n.Children {
		e := &n.Children[i]
		if e.Name != kdlElement {
			return nil, fmt.Errorf("the children of a list have the name -, this one is %q", e.Name)
		}
		v, err := kdlValue(e, depth+1)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		list = append(list, v)
	}
	return list, nil
}

func kdlScalar(v kdl.Value) (any, error) {
	n, ok := v.Data.(kdl.Number)
	if !ok {
		return v.Data, nil
	}
	if i, fits := n.Int64(); fits {
		return i, nil
	}
	f, fits := n.Float64()
	if n.IsInt() || !fits || n[0] == '#' {
		return nil, fmt.Errorf("%.40s does not fit into 64 bits; put it in quotes", string(n))
	}
	if f == 0 {
		f = 0 // without the sign: two values that are equal must not have two texts
	}
	return f, nil
}
