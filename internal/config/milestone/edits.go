package milestone

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// EditKind is what somebody did to a file in Git.
type EditKind string

// The kinds.
const (
	Added   EditKind = "added"
	Changed EditKind = "changed"
	Deleted EditKind = "deleted"
)

// Edit is a file of a projection that is not as the last milestone left it.
type Edit struct {
	Path string
	Kind EditKind
}

func (e Edit) String() string { return word(e.Path) + " (" + string(e.Kind) + ")" }

// editsOf compares the files of a milestone with those of a later commit.
func editsOf(m *Manifest, was, now map[string]string) []Edit {
	if len(was) == 0 {
		return nil
	}
	var list []Edit
	for _, p := range m.paths() {
		switch now[p] {
		case was[p]:
		case "":
			list = append(list, Edit{p, Deleted})
		default:
			list = append(list, Edit{p, Changed})
		}
	}
	return list
}

// Import is what edits in Git come to.
type Import struct {
	Commit   string // the branch's tip: Options.Imported of the milestone that follows
	Edits    []Edit
	Requests []*config.Request // in the order in which they have to be done
	Skipped  []string          // what the document has overtaken, and why
}

// ReadEdits compares the files of a branch with those of its last milestone, and returns what has to be asked of the document so that it
// takes the edits over. Whoever edited had seen that milestone, and nothing after it: the requests say so, and are merged with what others
// wrote meanwhile. Values that an environment inherits are asked for once, where they come from. The state is read only.
//
// view shows the document as it is. It is called for moments only, never while files are read: others may wait for it to end.
func ReadEdits(ctx context.Context, r Repo, view func(func(s *config.State) error) error, branch string, read Unmarshal) (*Import, error) {
	in, err := readEdits(ctx, r, view, branch, read)
	if err != nil {
		return nil, fmt.Errorf("import edits of %s: %w", branch, err)
	}
	return in, nil
}

func readEdits(ctx context.Context, r Repo, view func(func(s *config.State) error) error, branch string, read Unmarshal) (*Import, error) {
	tip, err := r.Tip(ctx, branch)
	if err != nil {
		return nil, err
	}
	last, err := Last(ctx, r, tip)
	if err != nil {
		return nil, err
	}
	if last == nil {
		return nil, fmt.Errorf("it has no milestone that they could be compared with: import the files instead: %w", errkind.NotFound)
	}
	m, err := manifestOf(ctx, r, last.ID)
	if err != nil {
		return nil, err
	}
	now, was, err := filesOf(ctx, r, tip, last, slices.Clone(m.Environments))
	if err != nil {
		return nil, err
	}
	in := &Import{Commit: tip, Edits: editsOf(m, was, now)}
	var files []string // of the projection, at the tip
	for _, p := range m.Files {
		if now[p] != "" {
			files = append(files, p)
		}
	}
	if err := view(func(s *config.State) error {
		if v := s.Version(); !v.Covers(&last.Version) {
			return fmt.Errorf("its last milestone, %.12s, has operations that this document has not: %w", last.ID, errkind.Conflict)
		}
		if len(m.Files) == 0 {
			return nil
		}
		for _, p := range pathsOf(s, m.Environments, strings.TrimPrefix(path.Ext(m.Files[0]), ".")) {
			if now[p] != "" && !slices.Contains(m.Files, p) {
				in.Edits, files = append(in.Edits, Edit{p, Added}), append(files, p)
			}
		}
		return nil
	}); err != nil || len(in.Edits) == 0 {
		return in, err
	}
	d := &editing{manifest: m, via: "git:" + tip, in: in}
	if d.old, err = load(ctx, r, last.ID, m, m.Files, read); err != nil {
		return nil, err
	}
	if d.now, err = load(ctx, r, tip, m, files, read); err != nil {
		return nil, err
	}
	return in, view(func(s *config.State) error {
		d.s = s
		for _, e := range s.Schema().Environments {
			if slices.Contains(m.Environments, e.Name) {
				d.envs = append(d.envs, e.Name)
			}
		}
		return d.run()
	})
}

// editing turns the difference between two projections into requests.
type editing struct {
	s        *config.State
	manifest *Manifest
	via      string
	envs     []string // in the order of the schema: the base first
	old, now Values
	in       *Import

	inserts, moves, fields, removes []*config.Request
}

func (d *editing) run() error {
	ids := map[string]bool{}
	for _, env := range d.envs {
		for id := range d.old[env] {
			ids[id] = true
		}
		for id := range d.now[env] {
			ids[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if err := d.entity(id); err != nil {
			return err
		}
	}
	// A parent is there before its children, and goes after them.
	slices.SortStableFunc(d.inserts, func(a, b *config.Request) int { return cmp.Compare(depth(d.now, a.Entity), depth(d.now, b.Entity)) })
	slices.SortStableFunc(d.removes, func(a, b *config.Request) int { return cmp.Compare(depth(d.old, b.Entity), depth(d.old, a.Entity)) })
	d.in.Requests = slices.Concat(d.inserts, d.moves, d.fields, d.removes)
	return nil
}

// maxParents ends the way up where somebody edited a circle into it.
const maxParents = 1000

func depth(v Values, id string) int {
	n := 0
	for ; id != "" && n < maxParents; n++ {
		up := ""
		for _, entities := range v {
			up = cmp.Or(up, entities[id].Parent)
		}
		id = up
	}
	return n
}

func (d *editing) request(kind config.Kind, id string) *config.Request {
	return &config.Request{Kind: kind, Entity: id, Seen: &d.manifest.Version, Via: d.via}
}

func (d *editing) skip(id, why string) { d.in.Skipped = append(d.in.Skipped, entityText(id)+": "+why) }

func (d *editing) entity(id string) error {
	var had, has, lacks []string
	for _, env := range d.envs {
		_, before := d.old[env][id]
		_, after := d.now[env][id]
		if before {
			had = append(had, env)
		}
		if after {
			has = append(has, env)
		}
		if before && !after {
			lacks = append(lacks, env)
		}
	}
	if _, err := config.ParseEntity(id); err != nil {
		return err
	}
	alive := d.s.Alive(id)
	switch {
	case len(has) == 0 && alive:
		d.removes = append(d.removes, d.request(config.RemoveEntity, id))
		return nil
	case len(has) == 0:
		return nil
	case len(lacks) > 0:
		return fmt.Errorf("%s was removed from %s and is still in %s: an entity is in all environments: remove it from all files, or from none: %w",
			entityText(id), strings.Join(lacks, ", "), strings.Join(has, ", "), errkind.Invalid)
	case len(had) == 0 && !alive:
		return d.insert(id, has[0])
	case !alive:
		d.skip(id, "it was removed meanwhile")
		return nil
	}
	if err := d.place(id, had, has); err != nil {
		return err
	}
	return d.changes(id, "")
}

// insert asks for a new entity with what it has in one environment, and then for what is different in others.
func (d *editing) insert(id, env string) error {
	e := d.now[env][id]
	q := d.request(config.InsertEntity, id)
	q.Env, q.Fields, q.Parent, q.Position = env, map[string]any{}, e.Parent, e.Position
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		f, err := d.field(id, name, env)
		if err == nil && e.Fields[name] != nil {
			q.Fields[name], err = d.normal(f, id, env, e.Fields[name])
		}
		if err != nil {
			return err
		}
	}
	d.inserts = append(d.inserts, q)
	return d.changes(id, env)
}

// place asks for a move if the files have one.
func (d *editing) place(id string, had, has []string) error {
	if len(had) == 0 {
		return nil
	}
	old := d.old[had[0]][id]
	var to *Entity
	for _, env := range has {
		e := d.now[env][id]
		switch {
		case e.Parent == old.Parent && e.Position == old.Position:
		case to != nil && (to.Parent != e.Parent || to.Position != e.Position):
			return fmt.Errorf("%s was moved to different places in different environments: %w", entityText(id), errkind.Invalid)
		default:
			to = &e
		}
	}
	if to == nil {
		return nil
	}
	q := d.request(config.MoveEntity, id)
	q.Parent = to.Parent
	if to.Position != old.Position {
		q.Position = to.Position
	}
	d.moves = append(d.moves, q)
	return nil
}

// changes asks for the fields of an entity that differ, in all environments but one.
func (d *editing) changes(id, but string) error {
	for _, env := range d.envs {
		if env == but {
			continue
		}
		old, now := d.old[env][id].Fields, d.now[env][id].Fields
		names := maps.Clone(old)
		if names == nil {
			names = map[string]any{}
		}
		maps.Copy(names, now)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if value.Equal(old[name], now[name]) || d.inherited(id, name, env) {
				continue
			}
			f, err := d.field(id, name, env)
			if err != nil {
				if now[name] == nil {
					continue // the schema has lost the field, and so has the file
				}
				return err
			}
			if err := d.change(f, id, env, old[name], now[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// inherited reports whether an environment had and has what it inherits.
func (d *editing) inherited(id, name, env string) bool {
	for _, up := range d.s.Schema().Chain(env)[1:] {
		if slices.Contains(d.envs, up) {
			return value.Equal(d.old[env][id].Fields[name], d.old[up][id].Fields[name]) &&
				value.Equal(d.now[env][id].Fields[name], d.now[up][id].Fields[name])
		}
	}
	return false
}

func (d *editing) field(id, name, env string) (*schema.Field, error) {
	t := d.s.Schema().Entity(config.Type(id))
	if t == nil {
		return nil, fmt.Errorf("%s@%s: the schema has no such type: %w", entityText(id), env, errkind.Invalid)
	}
	f := t.Field(name)
	if f == nil {
		return nil, fmt.Errorf("%s@%s: the schema has no field %s: %w", entityText(id), env, word(name), errkind.Invalid)
	}
	return f, nil
}

func (d *editing) normal(f *schema.Field, id, env string, v any) (any, error) {
	v, err := f.Type.Normalize(v)
	if err == nil {
		err = f.Check(v)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where(id, f.Name, env), err)
	}
	return v, nil
}

// change asks for what was edited of one field, and for no more: of a set the elements, of a map the keys.
func (d *editing) change(f *schema.Field, id, env string, old, now any) error {
	q := d.request(config.SetField, id)
	seen := d.manifest.version(env)
	q.Field, q.Env, q.NoCreate, q.Seen = f.Name, env, true, &seen
	ordered := f.Merge == schema.Max || f.Merge == schema.Min || f.Merge == schema.Grow
	if now == nil {
		q.Override = ordered // there is no other way to take such a value away
		d.fields = append(d.fields, q)
		return nil
	}
	now, err := d.normal(f, id, env, now)
	if err != nil {
		return err
	}
	q.Value = now
	switch now := now.(type) {
	case []any:
		if before, ok := old.([]any); ok && (f.Merge == schema.Set || f.Merge == schema.Grow) {
			q.Add, q.Remove = without(now, before), without(before, now)
			switch {
			case len(q.Add)+len(q.Remove) == 0:
				return nil // only the order
			case f.Merge == schema.Grow && len(q.Remove) > 0:
				q.Add, q.Remove, q.Override = nil, nil, true
			default:
				q.Value = nil
			}
		}
	case map[string]any:
		if before, ok := old.(map[string]any); ok && f.Merge == schema.PerKey {
			d.keys(q, f, before, now)
			return nil
		}
	}
	d.fields = append(d.fields, q)
	return nil
}

// keys asks for the keys of a map that differ.
func (d *editing) keys(q *config.Request, f *schema.Field, old, now map[string]any) {
	all := maps.Clone(old)
	maps.Copy(all, now)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if value.Equal(old[key], now[key]) {
			continue
		}
		one := *q
		one.Key, one.Value = key, now[key]
		one.Override = now[key] == nil && (f.MapValues == schema.Max || f.MapValues == schema.Min)
		d.fields = append(d.fields, &one)
	}
}

// without returns the elements of a list that another one has not.
func without(list, other []any) []any {
	var rest []any
	has := make(map[string]bool, len(other))
	for _, v := range other {
		has[string(value.Encode(v))] = true
	}
	for _, v := range list {
		if !has[string(value.Encode(v))] {
			rest = append(rest, v)
		}
	}
	return rest
}
