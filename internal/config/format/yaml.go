package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// yamlFormat writes YAML that readers of 1.1 and of 1.2 understand alike, and reads YAML as go.yaml.in/yaml does.
type yamlFormat struct{ twoWay }

func newYAML() Format {
	about := about{id: "yaml", extension: "yaml", name: "YAML", alternate: []string{"yml"}}
	return yamlFormat{twoWay{about, writeYAML, readYAML}}
}

func writeYAML(v any) ([]byte, error) { return encodeYAML(yamlNode(v)) }

func encodeYAML(n *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}

// yamlNode makes the node for a value.
func yamlNode(v any) *yaml.Node {
	scalar := func(tag, text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text} }
	switch v := v.(type) {
	case nil:
		return scalar("!!null", "null")
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	case int64:
		return scalar("!!int", strconv.FormatInt(v, 10))
	case float64:
		return scalar("!!float", floatText(v))
	case string:
		return yamlString(v, true)
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, e := range v {
			n.Content = append(n.Content, yamlNode(e))
		}
		if len(v) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			n.Content = append(n.Content, yamlString(k, false), yamlNode(v[k]))
		}
		if len(v) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	default:
		panic(fmt.Sprintf("bug: %T is no value", v))
	}
}

// yamlPlain is text that no reader of YAML takes for anything but a string, as long as it is not one of yamlWords: it starts
// with a letter, a slash or an underscore, and has nothing that YAML gives a meaning.
var yamlPlain = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./@+%-]*( [A-Za-z0-9_./@+%()-]+)*$`)

// yamlWords are what YAML 1.1 or 1.2 reads as something else than a string, in small letters.
var yamlWords = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

// yamlString makes the node of a string: plain where nothing takes it for something else, as a block where it has lines, or
// in quotes.
func yamlString(s string, block bool) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	switch {
	case yamlPlain.MatchString(s) && !slices.Contains(yamlWords, strings.ToLower(s)):
	case block && yamlBlock(s):
		n.Style = yaml.LiteralStyle
	default:
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// yamlBlock says whether text reads well as a block, and safely: lines of printable characters, none of which starts or ends
// with a blank.
func yamlBlock(s string) bool {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	if len(lines) < 2 || lines[0] == "" || lines[len(lines)-1] == "" {
		return false
	}
	for i, line := range lines {
		if strings.TrimRight(line, " \t") != line || i == 0 && strings.TrimLeft(line, " \t") != line ||
			strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && !strconv.IsPrint(r) || r > 0x7e && !strconv.IsGraphic(r) }) {
			return false
		}
	}
	return true
}

func readYAML(name string, data []byte) (any, error) {
	doc, err := parseYAML(name, data)
	if err != nil {
		return nil, err
	}
	return valueOfYAML(name, doc)
}

// parseYAML reads the one document of a file. It is nil for an empty file.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	if err := checkMarks(name, data); err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if more := d.Decode(&second); more == nil {
			return nil, malformed(name, second.Line, second.Column, "a second document starts here; write one document in a file")
		} else if !errors.Is(more, io.EOF) {
			err = more
		}
	}
	if err != nil {
		// Its text has the line.
		return nil, fmt.Errorf("%s: %s: %w", name, strings.TrimPrefix(err.Error(), "yaml: "), errkind.Invalid)
	}
	return &doc, nil
}

// valueOfYAML makes a value of a document.
func valueOfYAML(name string, doc *yaml.Node) (any, error) {
	if doc == nil {
		return nil, nil
	}
	r := yamlReader{name: name}
	return r.value(doc.Content[0], 0)
}

// yamlReader counts the values of a document: aliases can make an exponential number of them.
type yamlReader struct {
	name  string
	items int
}

func (r *yamlReader) malformed(n *yaml.Node, message string, args ...any) error {
	return malformed(r.name, n.Line, n.Column, message, args...)
}

func (r *yamlReader) value(n *yaml.Node, depth int) (any, error) {
	if r.items++; r.items > MaxItems || depth > MaxDepth {
		return nil, fmt.Errorf("%s: line %d column %d: a document has at most %d values, with what aliases repeat, in at most %d levels: %w",
			r.name, n.Line, n.Column, MaxItems, MaxDepth, errkind.TooLarge)
	}
	switch n.Kind {
	case yaml.AliasNode:
		// An alias within what it names would be found by depth; each level counts.
		return r.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		if tag := n.ShortTag(); tag != "!!seq" {
			return nil, r.malformed(n, "the tag %s is not known; leave it out", tag)
		}
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := r.value(e, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		if tag := n.ShortTag(); tag != "!!map" && tag != "!!set" {
			return nil, r.malformed(n, "the tag %s is not known; leave it out", tag)
		}
		return r.mapping(n, depth)
	default:
		return r.scalar(n)
	}
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) (any, error) {
	m := make(map[string]any, len(n.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, e := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, e)
			continue
		}
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" && key.ShortTag() != "!!timestamp" {
			return nil, r.malformed(key, "a key must be a string; put it in quotes")
		}
		if _, twice := m[key.Value]; twice {
			return nil, r.malformed(key, "the key %q is there twice; remove one", key.Value)
		}
		v, err := r.value(e, depth+1)
		if err != nil {
			return nil, err
		}
		m[key.Value] = v
	}
	for _, e := range merged {
		if err := r.merge(m, e, depth); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// merge adds what `<<` names, where the map has no value of its own.
func (r *yamlReader) merge(m map[string]any, n *yaml.Node, depth int) error {
	v, err := r.value(n, depth+1)
	if err != nil {
		return err
	}
	sources, list := v.([]any)
	if !list {
		sources = []any{v}
	}
	for _, source := range sources {
		from, ok := source.(map[string]any)
		if !ok {
			return r.malformed(n, "after << comes a map, or a list of maps")
		}
		for k, e := range from {
			if _, own := m[k]; !own {
				m[k] = e
			}
		}
	}
	return nil
}

func (r *yamlReader) scalar(n *yaml.Node) (any, error) {
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return nil, nil
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!int", "!!float", "!!bool":
		if tag == "!!float" && strings.Trim(n.Value, "+-0123456789_") == "" {
			return nil, r.malformed(n, "%s does not fit into 64 bits; put it in quotes", n.Value)
		}
		var raw any
		if err := n.Decode(&raw); err != nil {
			return nil, r.malformed(n, "%s is not a %s", n.Value, strings.TrimPrefix(tag, "!!"))
		}
		v, err := value.Normalize(raw)
		if err != nil {
			return nil, r.malformed(n, "%s", reason(err))
		}
		return v, nil
	default:
		return nil, r.malformed(n, "the tag %s is not known; write the text in quotes", tag)
	}
}
