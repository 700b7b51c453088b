package format

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// newXML makes the format XML 1.0, in which an element is a value, the root `config` the whole:
//
//	<weight type="int">80</weight>             also float, bool and null; without a type it is a string
//	<tags type="list"><item>a</item></tags>
//	<backend><host>a</host></backend>          a map: each child is an entry, its name the key
//	<backend type="map"></backend>             an empty map
//	<entry key="a b">…</entry>                 an entry whose key is no name in XML
//	<key encoding="json">"a\u0000"</key>       a string with characters that XML cannot have; key-encoding for an entry's key
func newXML() Format {
	return twoWay{about{id: "xml", extension: "xml", name: "XML"}, writeXML, readXML}
}

const (
	xmlRoot  = "config"
	xmlItem  = "item"
	xmlEntry = "entry"
)

// xmlName is a key that can be the name of an element. Names that start with xml are reserved.
var xmlName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func writeXML(v any) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(xml.Header)
	w := xmlWriter{out: &out}
	w.element(xmlRoot, "", v, "\n")
	out.WriteByte('\n')
	return out.Bytes(), nil
}

type xmlWriter struct{ out *bytes.Buffer }

func (w xmlWriter) element(name, attributes string, v any, indent string) {
	open := func(typ string) {
		w.out.WriteString("<" + name + attributes)
		if typ != "" {
			w.out.WriteString(` type="` + typ + `"`)
		}
		w.out.WriteByte('>')
	}
	switch v := v.(type) {
	case nil:
		open("null")
	case bool:
		open("bool")
		w.out.WriteString(strconv.FormatBool(v))
	case int64:
		open("int")
		w.out.WriteString(strconv.FormatInt(v, 10))
	case float64:
		open("float")
		w.out.WriteString(floatText(v))
	case string:
		if text, encoded := xmlText(v); encoded {
			w.out.WriteString("<" + name + attributes + ` encoding="json">` + text)
		} else {
			open("")
			w.out.WriteString(text)
		}
	case []any:
		open("list")
		for _, e := range v {
			w.out.WriteString(indent + "  ")
			w.element(xmlItem, "", e, indent+"  ")
		}
		if len(v) > 0 {
			w.out.WriteString(indent)
		}
	case map[string]any:
		w.mapping(open, v, indent)
	}
	w.out.WriteString("</" + name + ">")
}

func (w xmlWriter) mapping(open func(string), m map[string]any, indent string) {
	if len(m) == 0 {
		open("map")
		return
	}
	open("")
	for _, k := range slices.Sorted(maps.Keys(m)) {
		w.out.WriteString(indent + "  ")
		if xmlName.MatchString(k) && k != xmlEntry && !strings.HasPrefix(strings.ToLower(k), "xml") {
			w.element(k, "", m[k], indent+"  ")
			continue
		}
		text, encoded := xmlText(k)
		attributes := ` key="` + text + `"`
		if encoded {
			attributes += ` key-encoding="json"`
		}
		w.element(xmlEntry, attributes, m[k], indent+"  ")
	}
	w.out.WriteString(indent)
}

// xmlText escapes text; what has characters that XML cannot have is written as JSON.
func xmlText(s string) (text string, encoded bool) {
	if strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
	}) {
		s, encoded = jsonText(s), true
	}
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(s)) // a Builder takes everything
	return out.String(), encoded
}

// jsonText is a string as JSON that has nothing XML cannot have.
func jsonText(s string) string {
	return strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`).Replace(string(value.Encode(s)))
}

func readXML(name string, data []byte) (any, error) {
	r := xmlReader{d: xml.NewDecoder(bytes.NewReader(data))}
	v, err := r.document()
	if err != nil {
		line, column := r.d.InputPos()
		if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
			err = errors.New(syntax.Msg)
		}
		return nil, malformed(name, line, column, "%s", reason(err))
	}
	return v, nil
}

// xmlReader reads values from tokens; its errors are for the place of the decoder.
type xmlReader struct{ d *xml.Decoder }

func (r xmlReader) document() (any, error) {
	var v any
	for seen := false; ; {
		t, err := r.d.Token()
		if errors.Is(err, io.EOF) && seen {
			return v, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if seen || t.Name.Local != xmlRoot || t.Name.Space != "" {
				return nil, fmt.Errorf("the root is one element <%s>", xmlRoot)
			}
			seen = true
			if v, err = r.value(t, 0); err != nil {
				return nil, err
			}
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("text stands outside of the root")
			}
		case xml.Directive:
			return nil, errors.New("a document type is not read; remove it")
		default: // comments and the declaration
		}
	}
}

// xmlAttributes are those that an element may have.
type xmlAttributes struct{ typ, encoding, key, keyEncoding string }

func attributesOf(e xml.StartElement) (a xmlAttributes, err error) {
	fields := map[string]*string{"type": &a.typ, "encoding": &a.encoding, "key": &a.key, "key-encoding": &a.keyEncoding}
	for _, attr := range e.Attr {
		field, known := fields[attr.Name.Local]
		if !known || attr.Name.Space != "" {
			return a, fmt.Errorf("<%s> has the attribute %q; there are type, encoding, key and key-encoding", e.Name.Local, attr.Name.Local)
		}
		*field = attr.Value
	}
	return a, nil
}

// value reads an element to its end.
func (r xmlReader) value(e xml.StartElement, depth int) (any, error) {
	a, err := attributesOf(e)
	if err != nil {
		return nil, err
	}
	if depth > MaxDepth {
		return nil, fmt.Errorf("elements stand in each other at most %d deep", MaxDepth)
	}
	var text strings.Builder
	list, m := []any{}, map[string]any{}
	children := false
	for {
		t, err := r.d.Token()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.CharData:
			text.Write(t)
		case xml.StartElement:
			children = true
			v, err := r.value(t, depth+1)
			if err != nil {
				return nil, err
			}
			if a.typ == "list" {
				if t.Name.Local != xmlItem {
					return nil, fmt.Errorf("the children of a list are <%s>", xmlItem)
				}
				list = append(list, v)
				continue
			}
			key, err := xmlKey(t)
			if err != nil {
				return nil, err
			}
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf(`the key %q is there twice; a list is <… type="list"> with <%s>`, key, xmlItem)
			}
			m[key] = v
		case xml.EndElement:
			return xmlValue(a, text.String(), children, list, m)
		case xml.Directive:
			return nil, errors.New("a document type is not read; remove it")
		default: // comments
		}
	}
}

// xmlKey gives the key of an element in a map.
func xmlKey(e xml.StartElement) (string, error) {
	if e.Name.Space != "" {
		return "", fmt.Errorf("<%s> is in a namespace; there are none", e.Name.Local)
	}
	if e.Name.Local != xmlEntry {
		return e.Name.Local, nil
	}
	a, err := attributesOf(e)
	if err != nil {
		return "", err
	}
	return xmlDecoded(a.key, a.keyEncoding)
}

func xmlDecoded(text, encoding string) (string, error) {
	switch encoding {
	case "":
		return text, nil
	case "json":
		var s string
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return "", fmt.Errorf("%q is no string in JSON", text)
		}
		return s, nil
	default:
		return "", fmt.Errorf("the encoding %q is not known; there is json", encoding)
	}
}

// xmlValue makes a value of what an element has.
func xmlValue(a xmlAttributes, text string, children bool, list []any, m map[string]any) (any, error) {
	trimmed := strings.TrimSpace(text)
	if children && trimmed != "" {
		return nil, errors.New("an element has text or children, not both")
	}
	if children && a.typ != "" && a.typ != "list" && a.typ != "map" {
		return nil, fmt.Errorf("an element of the type %s has no children", a.typ)
	}
	switch a.typ {
	case "list":
		if trimmed != "" {
			return nil, errors.New("a list has children and no text")
		}
		return list, nil
	case "map":
		if trimmed != "" {
			return nil, errors.New("a map has children and no text")
		}
		return m, nil
	case "", "string":
		if children {
			return m, nil
		}
		return xmlDecoded(text, a.encoding)
	case "null":
		if trimmed != "" {
			return nil, errors.New("null has no text")
		}
		return nil, nil
	case "bool", "int", "float":
		v, err := value.Decode([]byte(trimmed))
		if typ := xmlType(v); err != nil || typ != a.typ {
			return nil, fmt.Errorf("%q is not of the type %s: %w", trimmed, a.typ, errkind.Invalid)
		}
		return v, nil
	default:
		return nil, fmt.Errorf("the type %q is not known; there are null, bool, int, float, string, list and map", a.typ)
	}
}

// xmlType names the type of a scalar.
func xmlType(v any) string {
	switch v.(type) {
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	default:
		return ""
	}
}
