package bulk

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// MaxEntities is how many entities one file may have.
const MaxEntities = 100_000

// The keys of an entity that are no fields. They are those of a milestone's files.
const (
	keyType     = "_type"
	keyID       = "_id"
	keyParent   = "_parent"
	keyPosition = "_position"
)

// Entity is an entity as a file has it.
type Entity struct {
	ID     string // TYPE.ID
	Parent string
	Placed bool           // the file says where it is, be it at the top
	Fields map[string]any // normalized; nil: to be unset
}

// Defaults are what entities are that do not say it.
type Defaults struct {
	Type string // "": they must say it
	ID   string // of a file that is one entity
}

// Entities finds the entities in what a file says. It may be
//
//	one entity                     {"image": "app:1", "replicas": 3}
//	a list of entities             [{"id": "api", "image": "app:1"}, …]
//	entities by their IDs          {"api": {"image": "app:1"}, "service.web": {…}}
//	these by their types           {"service": {"api": {…}}, "routes": [{…}]}
//
// where an entity may have its type in _type, its ID in _id, or in id or name if these are no fields of it, and its parent in _parent.
func Entities(v any, d Defaults, s *schema.Schema) ([]Entity, error) {
	r := &reader{schema: s}
	if err := r.any(v, d); err != nil {
		return nil, err
	}
	return r.found, nil
}

// known is what is known of an entity before it is looked at.
type known struct {
	typ     string
	certain bool // the file says the type: an ID that looks as if it had one has none
	id      string
	file    string // the ID if nothing else says one
}

type reader struct {
	schema *schema.Schema
	found  []Entity
}

func (r *reader) any(v any, d Defaults) error {
	switch v := v.(type) {
	case []any:
		return r.list(v, known{typ: d.Type})
	case map[string]any:
		switch {
		case r.isEntity(v, d.Type):
			return r.entity(v, known{typ: d.Type, file: d.ID})
		case r.isByType(v):
			return r.byType(v)
		case allMaps(v):
			return r.byID(v, known{typ: d.Type})
		}
		return r.entity(v, known{typ: d.Type, file: d.ID})
	default:
		return fmt.Errorf("it is %.40s, and no entity: %w", value.Text(v), errkind.Invalid)
	}
}

// isEntity reports whether a map says itself that it is one, or has a field of the type.
func (r *reader) isEntity(m map[string]any, typ string) bool {
	for _, key := range []string{keyType, keyID} {
		if _, ok := m[key].(string); ok {
			return true
		}
	}
	t := r.schema.Entity(typ)
	if t == nil {
		return false
	}
	for key := range m {
		if t.Field(key) != nil {
			return true
		}
	}
	return false
}

// typeOf returns the type that a key names: the type itself, or its plural as files and folders are called.
func (r *reader) typeOf(key string) string { return TypeOf(key, r.schema) }

// TypeOf returns the type that a file, folder or key is named after, as services.yaml is after service; "" if it is none.
func TypeOf(name string, s *schema.Schema) string {
	for _, t := range []string{name, strings.TrimSuffix(name, "s")} {
		if s.Entity(t) != nil {
			return t
		}
	}
	return ""
}

// isByType reports whether all keys of a map are types, and what is in them is entities and not their fields.
func (r *reader) isByType(m map[string]any) bool {
	for key, v := range m {
		typ := r.typeOf(key)
		if typ == "" {
			return false
		}
		switch v := v.(type) {
		case map[string]any:
			if !allMaps(v) || r.isEntity(v, typ) {
				return false
			}
		case []any:
		default:
			return false
		}
	}
	return len(m) > 0
}

func allMaps(m map[string]any) bool {
	for _, v := range m {
		if _, ok := v.(map[string]any); !ok {
			return false
		}
	}
	return true
}

func (r *reader) byType(m map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		var err error
		switch v := m[key].(type) {
		case []any:
			err = r.list(v, known{typ: r.typeOf(key), certain: true})
		case map[string]any:
			err = r.byID(v, known{typ: r.typeOf(key), certain: true})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", clip(key), err)
		}
	}
	return nil
}

func (r *reader) byID(m map[string]any, k known) error {
	for _, id := range slices.Sorted(maps.Keys(m)) {
		fields, ok := m[id].(map[string]any)
		if !ok {
			return fmt.Errorf("%s: it is %.40s, and no entity: %w", clip(id), value.Text(m[id]), errkind.Invalid)
		}
		k.id = id
		if err := r.entity(fields, k); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) list(list []any, k known) error {
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("[%d]: it is %.40s, and no entity: %w", i, value.Text(v), errkind.Invalid)
		}
		if err := r.entity(m, k); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

// entity reads one entity.
func (r *reader) entity(m map[string]any, k known) error {
	if len(r.found) == MaxEntities {
		return fmt.Errorf("it has more than %d entities: %w", MaxEntities, errkind.TooLarge)
	}
	m = maps.Clone(m)
	take := func(key string) (string, bool) {
		text, ok := m[key].(string)
		if ok {
			delete(m, key)
		}
		return text, ok
	}
	if text, ok := take(keyType); ok {
		k.typ, k.certain = text, true
	}
	if text, ok := take(keyID); ok {
		k.id = text
	}
	t := r.schema.Entity(k.typ)
	for _, key := range []string{"id", "name"} {
		if k.id == "" && (t == nil || t.Field(key) == nil) {
			k.id, _ = take(key)
		}
	}
	if k.id == "" {
		k.id = k.file
	}
	e := Entity{Fields: map[string]any{}}
	e.Parent, e.Placed = take(keyParent)
	delete(m, keyPosition) // it is worked out again
	var err error
	if e.ID, err = r.name(k); err != nil {
		return err
	}
	if t = r.schema.Entity(config.Type(e.ID)); t == nil {
		return fmt.Errorf("entity %s: the schema has no type %q: %w", clip(e.ID), clip(config.Type(e.ID)), errkind.Invalid)
	}
	for key, v := range m {
		f := t.Field(key)
		if f == nil {
			return fmt.Errorf("entity %s: the type %s has no field %q: add it to the schema, or leave it out: %w", e.ID, t.Name, clip(key), errkind.Invalid)
		}
		if e.Fields[key], err = f.Type.Normalize(v); err != nil {
			return fmt.Errorf("%s.%s: %w", e.ID, key, err)
		}
	}
	r.found = append(r.found, e)
	return nil
}

// name makes TYPE.ID of a type and an ID, which may have the type in it already.
func (r *reader) name(k known) (string, error) {
	if k.id == "" {
		return "", fmt.Errorf("an entity does not say its ID: write %s: %w", keyID, errkind.Invalid)
	}
	if before, _, ok := strings.Cut(k.id, "."); ok && r.schema.Entity(before) != nil && (!k.certain || k.typ == before) {
		return config.ParseEntity(k.id)
	}
	if k.typ == "" {
		return "", fmt.Errorf("entity %q does not say its type: write %s, or say it for all: %w", clip(k.id), keyType, errkind.Invalid)
	}
	return config.ParseEntity(k.typ + "." + k.id)
}
