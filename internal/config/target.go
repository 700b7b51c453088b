package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// target is a cell that a plan writes to.
type target struct {
	f    *schema.Field
	w    Write // with the cell's address
	path string
	cell *cell // nil: nothing was written to it
	old  Resolved
	seen *crdt.Dots // what the actor saw of it; nil: all
	none bool       // or none of the siblings
	from int        // where in the operation its writes begin
}

func (p *plan) target(name string, f *schema.Field, env string) *target {
	t := &target{f: f, cell: p.s.cell(name, f, env), seen: p.r.Seen, none: p.r.Seen == nil && f.Blind, path: name + "." + f.Name + "@" + env}
	if t.old.Value = f.Default; p.s.Alive(name) {
		t.old = p.s.resolve(name, f, env)
	}
	at := p.s.place(name, f, env)
	t.w = Write{Entity: name, Inc: p.begin(name), Field: f.Name, Env: at.Env, Gen: at.Gen, Merge: at.Merge, Reviewed: f.Review && single(f)}
	t.from = len(p.op.Writes)
	return t
}

// single reports whether a field's strategy takes one write for one value, and keeps no siblings anyway.
func single(f *schema.Field) bool {
	return f.Merge == schema.LWW || f.Merge == schema.Max || f.Merge == schema.Min
}

// note adds, where the field is one of many elements to be reviewed, what the operation makes of it: so siblings are whole values, as a field of
// one value has them, and the writes of one operation are none of each other.
func (t *target) note(p *plan) {
	if len(p.op.Writes) > t.from {
		t.remark(p)
	}
}

// remark is note also of an operation that changes nothing: a choice of what is there.
func (t *target) remark(p *plan) {
	if !t.f.Review || t.f.Merge == schema.Review || single(t.f) {
		return
	}
	c := new(cell)
	if t.cell != nil {
		c = t.cell.clone()
	}
	by := &crdt.Origin{Dot: p.dot, Time: math.MaxUint64}
	for i, w := range p.op.Writes[t.from:] {
		c.tell(&w, &crdt.Entry{Origin: by, N: uint32(i), Value: w.Value}, p.s.known) //nolint:gosec // below MaxWrites
	}
	f := *t.f
	f.ByInsertion = false // in whatever order, the same elements are the same set
	w := t.to(Note, c.value(&f))
	w.Old, w.Reviewed = t.old.Value, true
	p.write(w)
}

// to returns a write of a value to the target.
func (t *target) to(do Verb, v any) Write {
	w := t.w
	w.Do, w.Value = do, v
	if t.cell == nil {
		return w
	}
	if t.cell.ext != nil && do == Put {
		w.Epoch = t.epoch(t.cell.ext.Epoch())
	}
	if t.cell.grow != nil && do == Add {
		w.Epoch = t.epoch(t.cell.grow.Epoch())
	}
	if t.cell.mvr != nil {
		for _, e := range t.cell.mvr.Sorted() {
			// Who wants the same is in no conflict: one write of a value is enough.
			if t.saw(e.Dot) || value.Equal(e.Value, v) {
				w.Seen = append(w.Seen, e.Tag())
			}
		}
	}
	return w
}

func (t *target) saw(d crdt.Dot) bool { return !t.none && (t.seen == nil || t.seen.Has(d)) }

// epoch returns the epoch that a write belongs to: the current one, or that before everything if its maker had not seen the current one begin.
func (t *target) epoch(current crdt.Dot) crdt.Dot {
	if t.seen != nil && !t.seen.Has(current) {
		return crdt.Dot{}
	}
	return current
}

// crowded refuses one write more that would wait for a choice where many do already.
func (t *target) crowded() error {
	if t.cell == nil || t.cell.mvr == nil || len(t.cell.mvr.Siblings) < MaxSiblings {
		return nil
	}
	for _, e := range t.cell.mvr.Siblings {
		if !t.saw(e.Dot) {
			return fmt.Errorf("%s: %d writes wait for somebody to choose: resolve them first: %w", t.path, len(t.cell.mvr.Siblings), errkind.Conflict)
		}
	}
	return nil
}

// unchanged reports what was written to the cell after what the actor saw.
func (t *target) unchanged(seen *crdt.Dots) error {
	for _, e := range t.cell.entries() {
		if !seen.Has(e.Dot) {
			return fmt.Errorf("%s: %s wrote %s at %s, after what you saw: look again: %w", t.path, e.Actor, value.Text(e.Value), e.Time, errkind.Conflict)
		}
	}
	return nil
}

// whole writes a value in the place of what is there.
func (p *plan) whole(t *target, v any) error {
	if v == nil {
		switch {
		case !needsOverride(t.f) || p.override:
		case !t.cell.present(t.f):
			return nil // and no epoch begun for it
		default:
			return fmt.Errorf("%s: only an override takes the value of a field with strategy %s away: %w", t.path, t.f.Merge, errkind.Invalid)
		}
		t.unset(p)
		return nil
	}
	v, err := t.f.Type.Normalize(v)
	if err == nil {
		err = t.f.Check(v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	switch t.f.Merge {
	case schema.Set:
		return t.wholeSet(p, v.([]any)) //nolint:errcheck // Normalize returned a list
	case schema.Grow:
		return t.wholeGrow(p, v.([]any)) //nolint:errcheck // as above
	case schema.PerKey:
		return t.wholeMap(p, v.(map[string]any)) //nolint:errcheck // Normalize returned a map
	case schema.LWW, schema.Max, schema.Min, schema.Review:
		t.put(p, v, t.old.Value)
	}
	return nil
}

func needsOverride(f *schema.Field) bool {
	return f.Merge == schema.Max || f.Merge == schema.Min || f.Merge == schema.Grow
}

// put writes one value.
func (t *target) put(p *plan, v, old any) {
	do := Put
	if p.override && (t.f.Merge == schema.Max || t.f.Merge == schema.Min) {
		do = Override
	}
	w := t.to(do, v)
	w.Old = old
	p.write(w)
}

// fill writes a value to a cell that nothing was written to.
func (t *target) fill(p *plan, v any) {
	switch list := v.(type) {
	case nil:
	case []any:
		if t.f.Merge != schema.Set && t.f.Merge != schema.Grow {
			p.write(t.to(Put, v))
			return
		}
		for _, e := range list {
			p.write(t.to(Add, e))
		}
		if t.f.Merge == schema.Set {
			t.mark(p)
		}
	case map[string]any:
		if len(list) == 0 || !t.merged() {
			t.mark(p)
		}
		for _, key := range keysOf(list) {
			w := t.to(Put, list[key])
			w.Key = key
			p.write(w)
		}
	default:
		p.write(t.to(Put, v))
	}
}

// hide takes away again, of a map that is merged with what it inherits, the keys that another cell had taken away.
func (t *target) hide(p *plan, c *cell, f *schema.Field) {
	if t.f.Merge != schema.PerKey || f.Merge != schema.PerKey || !t.merged() {
		return
	}
	for _, key := range keysOf(c.keys) {
		if c.hides(c.keys[key].winner(ofKeys(strategy(f)))) {
			t.putKey(p, key, nil)
		}
	}
}

// mark says of a set or map that the environment has its own from now on: without it, whoever takes the last element away would get
// those back that are inherited.
func (t *target) mark(p *plan) {
	if !t.cell.owned() {
		p.write(t.to(Put, true))
	}
}

// Marks reports whether a write only says that there is a set or map, or what the other writes make of it, and changes nothing in it.
func (w *Write) Marks() bool {
	return w.Do == Note || w.Do == Put && w.Value == true && w.Key == "" && (w.Merge == schema.Set || ofMap(w.Merge))
}

// unset takes away what the environment has of its own.
func (t *target) unset(p *plan) {
	switch t.f.Merge { //nolint:exhaustive // the others have nothing but the value
	case schema.Set:
		for _, e := range sorted(t.cell.elements(), false) {
			t.removeElement(p, e.Value)
		}
	case schema.PerKey:
		if t.cell != nil {
			for _, key := range keysOf(t.cell.keys) {
				t.putKey(p, key, nil)
			}
		}
	}
	do := Put
	if needsOverride(t.f) {
		do = Override
	}
	w := t.to(do, nil)
	w.Old = t.old.Value
	p.write(w)
}

// wholeSet turns a whole set into the additions and removals that lead to it, so that elements on which both agree keep who put them there.
func (t *target) wholeSet(p *plan, list []any) error {
	want := map[string]any{}
	for _, v := range list {
		want[elementKey(v)] = v
	}
	own, have := t.cell.elements(), t.shown()
	for _, e := range sorted(have, false) {
		key := elementKey(e.Value)
		if _, keep := want[key]; keep {
			continue
		}
		if own[key] == nil {
			return inherits(t.path, e.Value)
		}
		t.removeElement(p, e.Value)
	}
	for _, v := range list {
		key := elementKey(v)
		if _, first := want[key]; first && !t.holds(have, key) {
			p.write(t.to(Add, v))
		}
		delete(want, key)
	}
	if len(p.op.Writes) > t.from || len(list) == 0 && !t.cell.present(t.f) {
		t.mark(p)
	}
	return nil
}

// holds reports whether an element is there by an addition that the actor saw: another one may be taken away by somebody who, in turn, has not
// seen that the actor wants the element too.
func (t *target) holds(have map[string]*crdt.Entry, key string) bool {
	if have[key] == nil || t.seen == nil || t.cell == nil || t.cell.set == nil || len(t.cell.set.Elems[key]) == 0 {
		return have[key] != nil
	}
	return slices.ContainsFunc(t.cell.set.Seen(key), func(tag crdt.Tag) bool { return t.seen.Has(tag.Dot) })
}

// merged reports whether the target's environment adds to what it inherits.
func (t *target) merged() bool { return t.w.Env != "" && t.f.Overlay == schema.Union }

// shown returns the elements that a new whole set takes the place of: the cell's own, and those that it is merged with.
func (t *target) shown() map[string]*crdt.Entry {
	if !t.merged() {
		return t.cell.elements()
	}
	m := make(map[string]*crdt.Entry, len(t.old.By))
	for _, e := range t.old.By {
		m[elementKey(e.Value)] = e
	}
	return m
}

func (t *target) removeElement(p *plan, v any) {
	w := t.to(Remove, v)
	w.Seen = nil
	for _, tag := range t.cell.set.Seen(elementKey(v)) {
		if t.seen == nil || t.seen.Has(tag.Dot) {
			w.Seen = append(w.Seen, tag)
		}
	}
	if len(w.Seen) > 0 {
		p.write(w)
	}
}

func (t *target) wholeGrow(p *plan, list []any) error {
	own, have := t.cell.elements(), t.shown()
	want := map[string]bool{}
	for _, v := range list {
		want[elementKey(v)] = true
	}
	for _, e := range sorted(have, false) {
		switch key := elementKey(e.Value); {
		case want[key]:
		case own[key] == nil:
			return inherits(t.path, e.Value)
		case !p.override:
			return growOnly(t.path, e.Value)
		}
	}
	if p.override {
		w := t.to(Override, list)
		w.Old = t.old.Value
		p.write(w)
		return nil
	}
	for _, v := range list {
		if key := elementKey(v); have[key] == nil && want[key] {
			want[key] = false
			p.write(t.to(Add, v))
		}
	}
	return nil
}

func inherits(path string, v any) error {
	return fmt.Errorf("%s: it inherits %s, which is merged into what it has itself, and cannot be taken away here: %w", path, value.Text(v), errkind.Invalid)
}

func growOnly(path string, v any) error {
	return fmt.Errorf("grow_only: %s: elements are only added to it, and %s would be taken away: an override can: %w", path, value.Text(v), errkind.Conflict)
}

// wholeMap writes the keys that differ. One that is missing is taken away, also where it was inherited and merged with.
func (t *target) wholeMap(p *plan, m map[string]any) error {
	old, _ := t.cell.value(t.f).(map[string]any)
	if t.merged() && t.old.From != "" {
		old, _ = t.old.Value.(map[string]any)
	}
	for _, key := range keysOf(old) {
		if _, keep := m[key]; !keep {
			if err := p.mayUnsetKey(t, key); err != nil {
				return err
			}
			t.putKey(p, key, nil)
		}
	}
	for _, key := range keysOf(m) {
		if err := checkKey(key); err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
		if was, ok := old[key]; !ok || !value.Equal(was, m[key]) {
			t.putKey(p, key, m[key])
		}
	}
	// Where a map is merged, its keys alone say what it has, and what it has taken away.
	if wrote := len(p.op.Writes) > t.from; wrote && !t.merged() || !wrote && len(m) == 0 && !t.cell.present(t.f) {
		t.mark(p)
	}
	return nil
}

func (p *plan) mayUnsetKey(t *target, key string) error {
	if ofKeys(t.w.Merge) != schema.LWW && !p.override {
		return fmt.Errorf("%s: only an override takes the key %q away, since keys merge by %s: %w", t.path, key, t.f.MapValues, errkind.Invalid)
	}
	return nil
}

func (t *target) putKey(p *plan, key string, v any) {
	of := *t
	if t.cell != nil {
		of.cell = t.cell.keys[key]
	}
	do := Put
	if ofKeys(t.w.Merge) != schema.LWW && (p.override || v == nil) {
		do = Override
	}
	w := of.to(do, v)
	w.Key = key
	if old, ok := t.old.Value.(map[string]any); ok {
		w.Old = old[key]
	}
	p.write(w)
}

// key writes one key of a map.
func (p *plan) key(t *target, key string, v any) error {
	if t.f.Merge != schema.PerKey {
		return fmt.Errorf("%s: it is no map, and has no key %q: %w", t.path, clip(key), errkind.Invalid)
	}
	if err := checkKey(key); err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	if v == nil {
		if old, _ := t.old.Value.(map[string]any); old[key] == nil {
			return nil
		}
		if err := p.mayUnsetKey(t, key); err != nil {
			return err
		}
	} else {
		m, err := t.f.Type.Normalize(map[string]any{key: v})
		if err == nil {
			err = t.f.Check(m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
		v = m.(map[string]any)[key] //nolint:errcheck // Normalize returned a map
	}
	p.adoptInherited(t, func(old any) {
		inherited := old.(map[string]any) //nolint:errcheck // the field is a map
		for _, k := range keysOf(inherited) {
			if k != key {
				t.putKey(p, k, inherited[k])
			}
		}
	})
	t.putKey(p, key, v)
	if !t.merged() {
		t.mark(p)
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || len(key) > MaxName || !utf8.ValidString(key) {
		return fmt.Errorf("key %q: a map's key has 1 to %d bytes of UTF-8: %w", clip(key), MaxName, errkind.Invalid)
	}
	return nil
}

// adoptInherited makes an environment's own what it inherited so far, or had by default, where its first own element would otherwise hide the
// rest.
func (p *plan) adoptInherited(t *target, copyOld func(old any)) {
	if !t.cell.present(t.f) && t.old.Value != nil && (!t.merged() || t.old.From == "") {
		copyOld(t.old.Value)
	}
}

// change adds elements to a set and removes some.
func (p *plan) change(t *target, add, remove []any) error {
	if t.f.Merge != schema.Set && t.f.Merge != schema.Grow {
		return fmt.Errorf("%s: elements are added to and removed from fields of strategy set and grow only: write the whole value: %w", t.path, errkind.Invalid)
	}
	both, err := t.f.Type.Normalize(append(slices.Clone(add), remove...))
	if err == nil {
		err = t.f.Check(both)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	list := both.([]any) //nolint:errcheck // Normalize returned a list
	add, remove = list[:len(add)], list[len(add):]
	if t.f.Merge == schema.Grow && len(remove) > 0 {
		return growOnly(t.path, remove[0])
	}
	gone := map[string]bool{}
	for _, v := range remove {
		gone[elementKey(v)] = true
	}
	have := t.cell.elements()
	adopted := false
	p.adoptInherited(t, func(old any) {
		adopted = true
		add = append(slices.Clone(old.([]any)), add...) //nolint:errcheck // the field is a list
	})
	written := maps.Clone(gone)
	for _, v := range add {
		if key := elementKey(v); !t.holds(have, key) && !written[key] {
			written[key] = true
			p.write(t.to(Add, v))
		}
	}
	for _, v := range remove {
		if have[elementKey(v)] != nil {
			t.removeElement(p, v)
		}
	}
	if t.f.Merge == schema.Set && (adopted || len(p.op.Writes) > t.from) {
		t.mark(p)
	}
	return nil
}
