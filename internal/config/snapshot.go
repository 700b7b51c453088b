package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// snapshotVersion is the form of snapshots that this code writes and reads. One of another form is not used: the log has everything.
const snapshotVersion = 1

// snapshot is a state as JSON. Two equal states have equal snapshots, so that states can be compared by them.
type snapshot struct {
	Version  int              `json:"version"`
	Seen     crdt.Dots        `json:"seen"`
	Latest   crdt.HLC         `json:"latest"`
	Origins  []origin         `json:"origins"` // of the operations that something is left of, sorted
	Schema   *schemaSnapshot  `json:"schema,omitempty"`
	Entities []entitySnapshot `json:"entities"`
	Moves    []moveSnapshot   `json:"moves,omitempty"`
	Asked    []requestID      `json:"asked,omitempty"` // sorted
}

type origin struct {
	ID     crdt.Dot `json:"id"`
	Time   crdt.HLC `json:"hlc"`
	Actor  string   `json:"actor"`
	Class  string   `json:"class,omitempty"`
	Name   string   `json:"name,omitempty"`
	Intent string   `json:"intent,omitempty"`
}

type schemaSnapshot struct {
	By   int                 `json:"by"`
	Text string              `json:"text"`
	Gens map[string]crdt.Dot `json:"gens"`
}

type entitySnapshot struct {
	Name  string         `json:"name"`
	Life  uint32         `json:"life"`
	By    *entry         `json:"by,omitempty"`
	Cells []cellSnapshot `json:"cells,omitempty"`
}

type cellSnapshot struct {
	Inc   uint32          `json:"inc,omitempty"`
	Field string          `json:"field,omitempty"`
	Env   string          `json:"env,omitempty"`
	Gen   crdt.Dot        `json:"gen,omitzero"`
	Merge schema.Merge    `json:"merge,omitempty"`
	Key   string          `json:"key,omitempty"` // of a key's cell within a map's
	Last  *entry          `json:"last,omitempty"`
	Over  *entry          `json:"override,omitempty"` // of ext or grow
	Best  []epochSnapshot `json:"best,omitempty"`     // of ext
	Adds  []epochSnapshot `json:"adds,omitempty"`     // of grow
	Elems []entry         `json:"elems,omitempty"`    // of set
	Gone  []removal       `json:"gone,omitempty"`     // of set: removed before they came
	Cut   *entry          `json:"cut,omitempty"`      // of set: the latest removal
	Sibs  []entry         `json:"siblings,omitempty"`
	Lost  []crdt.Tag      `json:"lost,omitempty"` // of mvr: seen before they came
	Was   *entry          `json:"agreed,omitempty"`
	Keys  []cellSnapshot  `json:"keys,omitempty"`
	Parts string          `json:"parts,omitempty"` // which of the cell's parts there are, where they are empty
}

type removal struct {
	Key string   `json:"key"`
	Tag crdt.Tag `json:"tag"`
}

type epochSnapshot struct {
	Epoch   crdt.Dot `json:"epoch,omitzero"`
	Entries []entry  `json:"entries"`
}

type entry struct {
	By    int             `json:"by"`
	N     uint32          `json:"n,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

type moveSnapshot struct {
	By       int    `json:"by"`
	N        uint32 `json:"n,omitempty"`
	Child    string `json:"child"`
	Inc      uint32 `json:"inc"`
	Parent   string `json:"parent,omitempty"`
	Position string `json:"position,omitempty"`
}

// Snapshot returns the state as a text that RestoreState reads.
func (s *State) Snapshot() ([]byte, error) {
	e := &snapshotter{at: map[crdt.Dot]int{}, known: s.known}
	e.origins(s)
	snap := snapshot{Version: snapshotVersion, Seen: s.seen, Latest: s.latest, Origins: e.list}
	if s.schema.by != nil {
		snap.Schema = &schemaSnapshot{e.at[s.schema.by.Dot], s.schema.text, s.schema.gens}
	}
	for _, name := range keysOf(s.entities) {
		x := s.entities[name]
		out := entitySnapshot{Name: name, Life: x.life, By: e.entry(x.by)}
		for _, inc := range slices.Sorted(maps.Keys(x.cells)) {
			for _, p := range slices.SortedFunc(maps.Keys(x.cells[inc]), place.compare) {
				c := e.cell(x.cells[inc][p])
				c.Inc, c.Field, c.Env, c.Gen, c.Merge = inc, p.Field, p.Env, p.Gen, p.Merge
				out.Cells = append(out.Cells, c)
			}
		}
		snap.Entities = append(snap.Entities, out)
	}
	for _, m := range s.forest.Moves {
		snap.Moves = append(snap.Moves, moveSnapshot{e.at[m.Dot], m.N, m.Child, m.Inc, m.Parent, m.Position})
	}
	snap.Asked = slices.SortedFunc(maps.Keys(s.asked), func(a, b requestID) int { return bytes.Compare(a[:], b[:]) })
	text, err := json.Marshal(snap)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	return text, nil
}

func (p place) compare(q place) int {
	return slices.Compare(
		[]string{p.Field, p.Env, p.Gen.String(), string(p.Merge)},
		[]string{q.Field, q.Env, q.Gen.String(), string(q.Merge)},
	)
}

// snapshotter numbers the origins. What waits for a write of an operation that has come without it waits for ever, and is left out: whether
// it is there depends on which of the two came first.
type snapshotter struct {
	list  []origin
	at    map[crdt.Dot]int
	known func(crdt.Dot) bool
}

func (e *snapshotter) waits(d crdt.Dot) bool { return !e.known(d) }

func (e *snapshotter) origins(s *State) {
	all := map[crdt.Dot]*crdt.Origin{}
	note := func(list ...*crdt.Entry) {
		for _, x := range list {
			if x != nil {
				all[x.Dot] = x.Origin
			}
		}
	}
	for _, x := range s.entities {
		note(x.by)
		for _, cells := range x.cells {
			for _, c := range cells {
				note(c.everything(e.waits)...)
			}
		}
	}
	for _, m := range s.forest.Moves {
		all[m.Dot] = m.Origin
	}
	if s.schema.by != nil {
		all[s.schema.by.Dot] = s.schema.by
	}
	for _, o := range slices.SortedFunc(maps.Values(all), (*crdt.Origin).Compare) {
		e.at[o.Dot] = len(e.list)
		e.list = append(e.list, origin{o.Dot, o.Time, o.Actor, o.Class, o.Name, o.Intent})
	}
}

// everything returns all writes that a cell holds, shown or waiting.
func (c *cell) everything(waits func(crdt.Dot) bool) []*crdt.Entry {
	all := c.entries()
	if c.ext != nil {
		for d, best := range c.ext.Writes {
			if waits(d) {
				all = append(all, best)
			}
		}
	}
	if c.set != nil {
		for _, adds := range c.set.Elems {
			all = slices.AppendSeq(all, maps.Values(adds))
		}
	}
	if c.grow != nil {
		all = append(all, c.grow.Override)
		for d, adds := range c.grow.Writes {
			if waits(d) || d == c.grow.Epoch() {
				all = slices.AppendSeq(all, maps.Values(adds))
			}
		}
	}
	if c.mvr != nil {
		all = append(all, c.mvr.Agreed)
	}
	for _, k := range c.keys {
		all = append(all, k.everything(waits)...)
	}
	return slices.DeleteFunc(all, func(e *crdt.Entry) bool { return e == nil })
}

func (e *snapshotter) entry(x *crdt.Entry) *entry {
	if x == nil {
		return nil
	}
	out := &entry{By: e.at[x.Dot], N: x.N}
	if x.Value != nil {
		out.Value = value.Encode(x.Value)
	}
	return out
}

func (e *snapshotter) sorted(m map[crdt.Tag]*crdt.Entry) []entry {
	var list []entry
	for _, t := range slices.SortedFunc(maps.Keys(m), crdt.Tag.Compare) {
		list = append(list, *e.entry(m[t]))
	}
	return list
}

func compareDots(a, b crdt.Dot) int { return crdt.Tag{Dot: a}.Compare(crdt.Tag{Dot: b}) }

// epochs returns the current epoch and those whose override has not come, sorted.
func epochs[V any](e *snapshotter, all map[crdt.Dot]V, current crdt.Dot) []crdt.Dot {
	list := slices.SortedFunc(maps.Keys(all), compareDots)
	return slices.DeleteFunc(list, func(d crdt.Dot) bool { return d != current && !e.waits(d) })
}

func (e *snapshotter) cell(c *cell) (out cellSnapshot) {
	if c.last != nil {
		out.Last = e.entry(c.last.Best)
	}
	if c.cut != nil {
		out.Cut = e.entry(c.cut.Best)
	}
	if c.ext != nil {
		out.Parts += "e"
		out.Over = e.entry(c.ext.Override)
		for _, d := range epochs(e, c.ext.Writes, c.ext.Epoch()) {
			out.Best = append(out.Best, epochSnapshot{d, []entry{*e.entry(c.ext.Writes[d])}})
		}
	}
	if c.set != nil {
		out.Parts += "s"
		for _, key := range keysOf(c.set.Elems) {
			out.Elems = append(out.Elems, e.sorted(c.set.Elems[key])...)
		}
		for r := range c.set.Removed {
			if e.waits(r.Dot) {
				out.Gone = append(out.Gone, removal{r.Key, r.Tag})
			}
		}
		slices.SortFunc(out.Gone, func(a, b removal) int { return cmp.Or(a.Tag.Compare(b.Tag), cmp.Compare(a.Key, b.Key)) })
	}
	if c.grow != nil {
		out.Parts += "g"
		out.Over = e.entry(c.grow.Override)
		for _, d := range epochs(e, c.grow.Writes, c.grow.Epoch()) {
			var list []entry
			for _, key := range keysOf(c.grow.Writes[d]) {
				list = append(list, *e.entry(c.grow.Writes[d][key]))
			}
			out.Adds = append(out.Adds, epochSnapshot{d, list})
		}
	}
	if c.mvr != nil {
		out.Parts += "m"
		out.Sibs = e.sorted(c.mvr.Siblings)
		out.Lost = slices.SortedFunc(maps.Keys(c.mvr.Gone), crdt.Tag.Compare)
		out.Lost = slices.DeleteFunc(out.Lost, func(t crdt.Tag) bool { return !e.waits(t.Dot) })
		out.Was = e.entry(c.mvr.Agreed)
	}
	for _, key := range keysOf(c.keys) {
		k := e.cell(c.keys[key])
		k.Key = key
		out.Keys = append(out.Keys, k)
	}
	return out
}

// RestoreState reads a snapshot. One that cannot be read is no loss: the log has everything.
func RestoreState(text []byte) (*State, error) {
	var snap snapshot
	if err := json.Unmarshal(text, &snap); err != nil {
		return nil, fmt.Errorf("read snapshot: %w: %w", err, errkind.Invalid)
	}
	if snap.Version != snapshotVersion {
		return nil, fmt.Errorf("read snapshot: its form %d is not known: %w", snap.Version, errkind.Unsupported)
	}
	s := NewState()
	s.seen, s.latest = snap.Seen, snap.Latest
	d := &restorer{}
	for _, o := range snap.Origins {
		d.origins = append(d.origins, &crdt.Origin{Dot: o.ID, Time: o.Time, Actor: o.Actor, Class: o.Class, Name: o.Name, Intent: o.Intent})
	}
	if n := snap.Schema; n != nil {
		parsed, err := schema.Parse("schema", []byte(n.Text))
		if err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		s.schema = adopted{d.origin(n.By), n.Text, n.Gens, parsed}
	}
	for i := range snap.Entities {
		d.entity(s, &snap.Entities[i])
	}
	var moves []*crdt.Move
	for _, m := range snap.Moves {
		moves = append(moves, &crdt.Move{Origin: d.origin(m.By), N: m.N, Child: m.Child, Inc: m.Inc, Parent: m.Parent, Position: m.Position})
	}
	for _, id := range snap.Asked {
		s.asked[id] = struct{}{}
	}
	forest := crdt.Replanted(moves)
	s.forest = &forest
	s.Settle()
	if d.err != nil {
		return nil, fmt.Errorf("read snapshot: %w: %w", d.err, errkind.Invalid)
	}
	return s, nil
}

// restorer finds the origins by their numbers.
type restorer struct {
	origins []*crdt.Origin
	err     error
}

func (d *restorer) origin(n int) *crdt.Origin {
	if n < 0 || n >= len(d.origins) {
		d.err = fmt.Errorf("it has no operation of number %d", n)
		return &crdt.Origin{}
	}
	return d.origins[n]
}

func (d *restorer) entry(in *entry) *crdt.Entry {
	if in == nil {
		return nil
	}
	out := &crdt.Entry{Origin: d.origin(in.By), N: in.N}
	if in.Value != nil {
		v, err := value.Decode(in.Value)
		if err != nil {
			d.err = err
		}
		out.Value = v
	}
	return out
}

func (d *restorer) entity(s *State, in *entitySnapshot) {
	x := s.entity(in.Name)
	x.life, x.by = in.Life, d.entry(in.By)
	if x.life > 0 && x.by == nil {
		d.err = fmt.Errorf("nobody began %q", clip(in.Name))
	}
	for i := range in.Cells {
		n := &in.Cells[i]
		if x.cells[n.Inc] == nil {
			x.cells[n.Inc] = map[place]*cell{}
		}
		p := place{n.Field, n.Env, n.Gen, n.Merge}
		c := d.cell(n)
		x.cells[n.Inc][p] = c
		if c.mvr != nil && len(c.mvr.Siblings) > 1 {
			s.open[cellRef{in.Name, n.Inc, p}] = struct{}{}
		}
	}
}

func (d *restorer) cell(in *cellSnapshot) *cell {
	c := new(cell)
	if in.Last != nil {
		c.last = &crdt.LWW{Best: d.entry(in.Last)}
	}
	if in.Cut != nil {
		c.cut = &crdt.LWW{Best: d.entry(in.Cut)}
	}
	for _, part := range in.Parts {
		switch part {
		case 'e':
			c.ext = &crdt.Extreme{Epochs: crdt.Epochs[*crdt.Entry]{Override: d.entry(in.Over), Writes: map[crdt.Dot]*crdt.Entry{}}}
			for _, b := range in.Best {
				for i := range b.Entries {
					c.ext.Writes[b.Epoch] = d.entry(&b.Entries[i])
				}
			}
		case 's':
			c.set = &crdt.ORSet{Elems: map[string]map[crdt.Tag]*crdt.Entry{}, Removed: map[crdt.Removal]struct{}{}}
			for _, r := range in.Gone {
				c.set.Removed[crdt.Removal{Key: r.Key, Tag: r.Tag}] = struct{}{}
			}
			for i := range in.Elems {
				e := d.entry(&in.Elems[i])
				c.set.Add(elementKey(e.Value), e)
			}
		case 'g':
			c.grow = &crdt.Grow{Epochs: crdt.Epochs[map[string]*crdt.Entry]{Override: d.entry(in.Over), Writes: map[crdt.Dot]map[string]*crdt.Entry{}}}
			for _, a := range in.Adds {
				c.grow.Writes[a.Epoch] = map[string]*crdt.Entry{}
				for i := range a.Entries {
					e := d.entry(&a.Entries[i])
					c.grow.Writes[a.Epoch][elementKey(e.Value)] = e
				}
			}
		case 'm':
			c.mvr = &crdt.MVR{Siblings: map[crdt.Tag]*crdt.Entry{}, Gone: tagSet(in.Lost), Agreed: d.entry(in.Was)}
			for i := range in.Sibs {
				e := d.entry(&in.Sibs[i])
				c.mvr.Siblings[e.Tag()] = e
			}
		}
	}
	for i := range in.Keys {
		if c.keys == nil {
			c.keys = map[string]*cell{}
		}
		c.keys[in.Keys[i].Key] = d.cell(&in.Keys[i])
	}
	return c
}

func tagSet(list []crdt.Tag) map[crdt.Tag]struct{} {
	m := map[crdt.Tag]struct{}{}
	for _, t := range list {
		m[t] = struct{}{}
	}
	return m
}
