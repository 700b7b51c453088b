package format

import (
	"context"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skep-dev/skep/internal/config/value"
)

// oldFile names the text to rewrite in messages.
const oldFile = "the old file"

// Rewrite changes the nodes of the old text whose value changed, and leaves the others with their comments, order and style. New keys
// come after the old ones, sorted, or to their place where the old ones are sorted. What is left out goes with its comments. Blanks
// become those of Marshal; where nothing changes, the old text is the new one.
//
// The result always is the value: where a change of an anchor's node would change its aliases too, they are written out first.
func (f yamlFormat) Rewrite(_ context.Context, old []byte, v any) ([]byte, error) {
	if err := checkSize(oldFile, old); err != nil {
		return nil, err
	}
	for _, expand := range []bool{false, true} {
		doc, err := parseYAML(oldFile, old)
		if err != nil {
			return nil, err
		}
		if doc == nil {
			break
		}
		// This bounds what aliases stand for.
		before, err := valueOfYAML(oldFile, doc)
		if err != nil {
			return nil, err
		}
		if value.Equal(before, v) {
			return old, nil
		}
		if expand {
			doc.Content[0] = withoutAliases(doc.Content[0])
		}
		doc.Content[0] = rewritten(doc.Content[0], v)
		data, err := encodeYAML(doc)
		if err != nil {
			continue
		}
		for _, data := range [][]byte{withBlankLines(data, old), data} {
			if after, err := readYAML(oldFile, data); err == nil && value.Equal(after, v) {
				return data, nil
			}
		}
	}
	return writeYAML(v)
}

// withBlankLines puts the blank lines of the old text before the same lines of the new one: the library keeps none.
func withBlankLines(data, old []byte) []byte {
	lines := strings.SplitAfter(string(data), "\n")
	before := map[string]int{} // how many lines of a text the old one has, up to where it was searched
	rest := strings.SplitAfter(string(old), "\n")
	for _, l := range rest {
		before[l]++
	}
	var out strings.Builder
	blank := false // whether the line before, in the new text, is one
	for _, l := range lines {
		gap := false
		if before[l] > 0 && strings.TrimSpace(l) != "" {
			for found := false; !found; rest = rest[1:] {
				found = rest[0] == l
				before[rest[0]]--
				if !found {
					gap = strings.TrimSpace(rest[0]) == ""
				}
			}
		}
		if gap && !blank && out.Len() > 0 {
			out.WriteByte('\n')
		}
		out.WriteString(l)
		blank = strings.TrimSpace(l) == ""
	}
	return []byte(out.String())
}

// withoutAliases puts a copy of what it names in the place of each alias and of each `<<`.
func withoutAliases(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		comments := *n
		n = withComments(withoutAliases(n.Alias), &comments)
	}
	c := *n
	c.Anchor = ""
	c.Content = nil
	for i, e := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && e.ShortTag() == "!!merge" {
			return mergedOut(n)
		}
		c.Content = append(c.Content, withoutAliases(e))
	}
	return &c
}

// mergedOut is a mapping that has what `<<` gives it.
func mergedOut(n *yaml.Node) *yaml.Node {
	r := yamlReader{}
	v, err := r.mapping(n, 0)
	if err != nil {
		return n
	}
	c := *n
	c.Anchor = ""
	c.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].ShortTag() != "!!merge" {
			c.Content = append(c.Content, n.Content[i], withoutAliases(n.Content[i+1]))
		}
	}
	return rewritten(&c, v)
}

// withComments gives a copy of a node the comments of another.
func withComments(n, from *yaml.Node) *yaml.Node {
	c := *n
	c.HeadComment, c.LineComment, c.FootComment = from.HeadComment, from.LineComment, from.FootComment
	return &c
}

// rewritten is the node with a value; it is the same node where that is its value already.
func rewritten(n *yaml.Node, v any) *yaml.Node {
	r := yamlReader{}
	if before, err := r.value(n, 0); err == nil && value.Equal(before, v) {
		return n
	}
	switch v := v.(type) {
	case map[string]any:
		if n.Kind == yaml.MappingNode && len(v) > 0 {
			rewriteMap(n, v)
			return n
		}
	case []any:
		if n.Kind == yaml.SequenceNode && len(v) > 0 {
			rewriteList(n, v)
			return n
		}
	}
	return withComments(yamlNode(v), n)
}

// yamlEntry is an entry of a mapping.
type yamlEntry struct{ key, value *yaml.Node }

// rewriteMap changes the entries of a mapping.
func rewriteMap(n *yaml.Node, m map[string]any) {
	left := maps.Clone(m)
	withoutMerged(left, n)
	var entries []yamlEntry
	sorted := true
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, e := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.ShortTag() == "!!merge" {
			entries = append(entries, yamlEntry{key, e})
			sorted = false
			continue
		}
		v, kept := m[key.Value]
		if !kept {
			continue
		}
		delete(left, key.Value)
		after := rewritten(e, v)
		if after.LineComment != "" && after.Style&yaml.FlowStyle == 0 && len(after.Content) > 0 {
			// Beside a block there is only the key.
			key, after = withComments(key, key), withComments(after, after)
			key.LineComment, after.LineComment = after.LineComment, ""
		}
		sorted = sorted && (len(entries) == 0 || entries[len(entries)-1].key.Value <= key.Value)
		entries = append(entries, yamlEntry{key, after})
	}
	for _, k := range slices.Sorted(maps.Keys(left)) {
		entries = append(entries, yamlEntry{yamlString(k, false), yamlNode(left[k])})
	}
	if sorted {
		slices.SortStableFunc(entries, func(a, b yamlEntry) int { return strings.Compare(a.key.Value, b.key.Value) })
	}
	n.Content = nil
	for _, e := range entries {
		n.Content = append(n.Content, e.key, e.value)
	}
}

// withoutMerged drops what `<<` gives a mapping already.
func withoutMerged(m map[string]any, n *yaml.Node) {
	given := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if r := (yamlReader{}); n.Content[i].ShortTag() == "!!merge" && r.merge(given, n.Content[i+1], 0) != nil {
			return
		}
	}
	for k, v := range given {
		if e, there := m[k]; there && value.Equal(e, v) {
			delete(m, k)
		}
	}
}

// rewriteList changes the elements of a sequence between those at both ends that stay.
func rewriteList(n *yaml.Node, list []any) {
	same := func(e *yaml.Node, v any) bool {
		r := yamlReader{}
		before, err := r.value(e, 0)
		return err == nil && value.Equal(before, v)
	}
	start, end := 0, 0
	for start < min(len(n.Content), len(list)) && same(n.Content[start], list[start]) {
		start++
	}
	for end < min(len(n.Content), len(list))-start && same(n.Content[len(n.Content)-1-end], list[len(list)-1-end]) {
		end++
	}
	content := slices.Clone(n.Content[:start])
	for i, v := range list[start : len(list)-end] {
		if at := start + i; at < len(n.Content)-end {
			content = append(content, rewritten(n.Content[at], v))
		} else {
			content = append(content, yamlNode(v))
		}
	}
	n.Content = append(content, n.Content[len(n.Content)-end:]...)
}
