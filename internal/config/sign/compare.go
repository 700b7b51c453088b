package sign

import (
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
)

// An operation's writes are worked out from the request, the schema and the state before it. What follows from the request alone is compared
// here; what follows from the rest is not known:
//   - what a promotion hands on: of its writes only the environments and the filter are compared; of a change of schema, only its text
//   - what Restore brings back, which elements and keys come along where an environment's own set or map takes the place of an inherited
//     one, and what Cascade takes away
//   - whether an element or a key was left out because it was there already, or a removal because there was nothing to remove
//   - positions that were worked out from before and after, and the base's name: a request that names an environment may be the base's

// wrote says in what an operation's writes cannot come from a request; "" if they can.
func wrote(op *config.Op, r *config.Request) string {
	if (r.Kind == config.ChangeSchema) != (op.Schema != nil) || op.Schema != nil && op.Schema.Text != r.Text {
		return "schema"
	}
	switch r.Kind {
	case config.ChangeSchema:
		return ""
	case config.Promote:
		return promoted(op, r)
	default:
	}
	entity, err := config.ParseEntity(r.Entity)
	if err != nil {
		return "entity"
	}
	c := comparison{r: r, entity: entity, marked: slices.ContainsFunc(op.Writes, func(w config.Write) bool { return w.Marks() && w.Do == config.Put })}
	for i := range op.Writes {
		if what := c.write(&op.Writes[i]); what != "" {
			return what
		}
	}
	return c.missing()
}

// promoted compares a promotion.
func promoted(op *config.Op, r *config.Request) string {
	if r.From != "" && op.From != r.From || r.To != "" && op.To != r.To {
		return "environment"
	}
	for i := range op.Writes {
		w := &op.Writes[i]
		switch {
		case w.Do == config.Life || w.Do == config.Move:
			return "kind"
		case w.Env != "" && w.Env != op.To && (!r.Prune || w.Env != op.From):
			return "environment"
		case !r.Filter.Matches(w.Entity, w.Field):
			return "filter"
		}
	}
	return ""
}

// comparison is of one operation whose request names an entity.
type comparison struct {
	r      *config.Request
	entity string
	marked bool            // a set or map became the environment's own
	fields map[string]bool // for which a value was written
	placed bool            // the entity was put somewhere
}

func (c *comparison) write(w *config.Write) string {
	switch {
	case w.Do == config.Life && w.Inc%2 == 0 != (c.r.Kind == config.RemoveEntity):
		return "kind"
	case w.Entity != c.entity && (c.r.Kind != config.RemoveEntity || !c.r.Cascade):
		return "entity"
	case w.Do == config.Life:
		return ""
	case c.r.Kind == config.RemoveEntity:
		return "kind"
	case w.Do == config.Move:
		return c.place(w)
	case c.r.Kind == config.MoveEntity:
		return "kind"
	}
	signed, field := c.r.Value, c.r.Field
	if c.r.Kind == config.InsertEntity {
		v, given := c.r.Fields[w.Field]
		if c.r.Restore && (!given || w.Env != c.r.Env) {
			return "" // of the incarnation before
		}
		if !given {
			return "field"
		}
		signed, field = v, w.Field
	}
	switch {
	case w.Field != field:
		return "field"
	case w.Env != "" && w.Env != c.r.Env:
		return "environment"
	case w.Marks():
		return ""
	}
	if c.r.Kind != config.Resolve && w.Value != nil && !c.strategy(w) {
		return "override"
	}
	if c.fields == nil {
		c.fields = map[string]bool{}
	}
	if w.Key == c.r.Key || c.r.Key == "" {
		c.fields[w.Field] = true
	}
	if !c.value(w, signed) {
		return "value"
	}
	return ""
}

// strategy reports whether a write goes over the strategy of its field only if that was asked for.
func (c *comparison) strategy(w *config.Write) bool {
	if w.Do == config.Override {
		return c.r.Override
	}
	return !c.r.Override || w.Do != config.Put || w.Merge != schema.Max && w.Merge != schema.Min
}

// place compares a move.
func (c *comparison) place(w *config.Write) string {
	c.placed = true
	parent := c.r.Parent
	if parent != "" {
		var err error
		if parent, err = config.ParseEntity(parent); err != nil {
			return "parent"
		}
	}
	switch {
	case c.r.Kind != config.MoveEntity && c.r.Kind != config.InsertEntity:
		return "kind"
	case w.Parent != parent:
		return "parent"
	case c.r.Position != "" && w.Position != c.r.Position:
		return "position"
	}
	return ""
}

// value reports whether what a write to a field has can come from the value that was signed for it.
func (c *comparison) value(w *config.Write, signed any) bool {
	list, isList := signed.([]any)
	has := func(list []any) bool {
		return slices.ContainsFunc(list, func(v any) bool { return becomes(v, w.Value) })
	}
	byElement := len(c.r.Add)+len(c.r.Remove) > 0
	switch {
	case w.Key != "":
		return c.keyed(w, signed)
	case w.Do == config.Add && byElement:
		return has(c.r.Add) || c.marked || w.Merge == schema.Grow // what was inherited comes along
	case w.Do == config.Remove && byElement:
		return has(c.r.Remove)
	case byElement || c.r.Key != "":
		return false
	case w.Do == config.Add:
		return has(list)
	case w.Do == config.Remove:
		return signed == nil || isList && !has(list)
	default:
		return becomes(signed, w.Value)
	}
}

// keyed is value of a map's key.
func (c *comparison) keyed(w *config.Write, signed any) bool {
	if c.r.Key == "" {
		m, isMap := signed.(map[string]any)
		return (signed == nil || isMap) && becomes(m[w.Key], w.Value)
	}
	if w.Key != c.r.Key {
		return w.Do == config.Put && value.Equal(w.Value, w.Old) // it was inherited, and comes along
	}
	return becomes(signed, w.Value)
}

// missing says what was signed and not written; "" if there is nothing that must be.
func (c *comparison) missing() string {
	r := c.r
	switch {
	case r.Kind == config.MoveEntity && !c.placed, r.Kind == config.InsertEntity && !c.placed && (r.Parent != "" || r.Position != ""):
		return "parent"
	case r.Kind == config.InsertEntity && r.Restore && r.Env != "": // of the base by its name, it cannot be told from what was restored
	case r.Kind == config.InsertEntity:
		for name, v := range r.Fields {
			if scalar(v) && !c.fields[name] {
				return "value"
			}
		}
	case r.Kind == config.RemoveEntity, len(r.Add)+len(r.Remove) > 0:
	case (scalar(r.Value) || r.Key != "" && r.Value != nil) && !c.fields[r.Field]:
		return "value"
	}
	return ""
}

// scalar reports whether a value is one of those that are always written as a whole.
func scalar(v any) bool {
	switch v.(type) {
	case nil, []any, map[string]any:
		return false
	default:
		return true
	}
}

// becomes reports whether a field of some type makes of the value that was signed the one that was written: numbers lose or get a fraction of
// zero, durations and names of entities get the one form that they have.
func becomes(signed, written any) bool {
	switch w := written.(type) {
	case int64:
		f, isFloat := signed.(float64)
		return signed == written || isFloat && float64(w) == f
	case float64:
		n, isInt := signed.(int64)
		return signed == written || isInt && float64(n) == w
	case string:
		s, isText := signed.(string)
		return isText && textBecomes(s, w)
	case []any:
		list, isList := signed.([]any)
		return isList && slices.EqualFunc(list, w, becomes)
	case map[string]any:
		m, isMap := signed.(map[string]any)
		if !isMap || len(m) != len(w) {
			return false
		}
		for key, v := range w {
			if was, there := m[key]; !there || !becomes(was, v) {
				return false
			}
		}
		return true
	default:
		return signed == written
	}
}

func textBecomes(signed, written string) bool {
	if signed == written {
		return true
	}
	if d, err := schema.ParseDuration(signed); err == nil && schema.FormatDuration(d) == written {
		return true
	}
	// TYPE/ID for TYPE.ID, or the ID alone where the field says of which type it is.
	if i := strings.IndexAny(signed, "./"); i >= 0 {
		return signed[:i]+"."+signed[i+1:] == written
	}
	_, id, dotted := strings.Cut(written, ".")
	return dotted && id == signed
}
