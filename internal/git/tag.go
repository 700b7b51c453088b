package git

import (
	"bytes"
	"fmt"

	"github.com/skep-dev/skep/internal/errkind"
)

// TagInfo is an annotated tag's content, parsed. Its byte slices are parts of the tag's data.
type TagInfo struct {
	Object  OID
	Kind    Kind // of Object
	Name    []byte
	Tagger  Signature // zero in very old tags
	Message []byte
}

// ParseTag reads an annotated tag.
func ParseTag(data []byte) (*TagInfo, error) {
	t := &TagInfo{}
	var rest []byte
	var err error
	if t.Object, t.Kind, rest, err = tagLink(data); err != nil {
		return nil, err
	}
	for len(rest) > 0 {
		line, tail, _ := bytes.Cut(rest, newline)
		if len(line) == 0 {
			t.Message = tail
			break
		}
		key, value, _ := bytes.Cut(line, space)
		switch string(key) {
		case "tag":
			t.Name = value
		case "tagger":
			t.Tagger, _ = ParseSignature(value)
		}
		rest = tail
	}
	return t, nil
}

// TagLink reads only what an annotated tag names.
func TagLink(data []byte) (OID, Kind, error) {
	o, k, _, err := tagLink(data)
	return o, k, err
}

func tagLink(data []byte) (OID, Kind, []byte, error) {
	o, rest, err := oidLine(data, "object ")
	if err != nil {
		return o, 0, nil, fmt.Errorf("tag: %w", err)
	}
	line, rest, _ := bytes.Cut(rest, newline)
	name, ok := bytes.CutPrefix(line, []byte("type "))
	if !ok {
		return o, 0, nil, fmt.Errorf("tag: no \"type\" line where one must be: %w", errkind.Invalid)
	}
	k, err := ParseKind(name)
	return o, k, rest, err
}
