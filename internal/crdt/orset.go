package crdt

import (
	"maps"
	"slices"
)

// ORSet is a set in which elements are added and removed. A removal names the additions that its maker had seen, and takes away just
// these: an addition that it had not seen stays (observed-remove set; Shapiro and others, 2011). Elements are known by a key.
type ORSet struct {
	Elems   map[string]map[Tag]*Entry // the additions of each element that are not removed
	Removed map[Removal]struct{}      // removed before they came
}

// Removal is an element's addition that was removed. The element is part of it: a removal of one element takes no other away, also if it
// comes before the addition that it wrongly names.
type Removal struct {
	Key string
	Tag
}

// Add tells the set of an addition.
func (s *ORSet) Add(key string, e *Entry) {
	t := e.Tag()
	if _, gone := s.Removed[Removal{key, t}]; gone {
		delete(s.Removed, Removal{key, t})
		return
	}
	if s.Elems == nil {
		s.Elems = map[string]map[Tag]*Entry{}
	}
	if s.Elems[key] == nil {
		s.Elems[key] = map[Tag]*Entry{}
	}
	s.Elems[key][t] = e
}

// Remove tells the set that the additions of an element that somebody saw are gone.
func (s *ORSet) Remove(key string, seen []Tag, known func(Dot) bool) {
	adds := s.Elems[key]
	for _, t := range seen {
		delete(adds, t)
		if !known(t.Dot) {
			if s.Removed == nil {
				s.Removed = map[Removal]struct{}{}
			}
			s.Removed[Removal{key, t}] = struct{}{}
		}
	}
	if len(adds) == 0 {
		delete(s.Elems, key)
	}
}

// Seen returns the additions of an element that are there, sorted: what a removal has to name.
func (s *ORSet) Seen(key string) []Tag {
	tags := make([]Tag, 0, len(s.Elems[key]))
	for t := range s.Elems[key] {
		tags = append(tags, t)
	}
	slices.SortFunc(tags, Tag.Compare)
	return tags
}

// First returns an element's earliest addition that is there; nil if the element is not.
func (s *ORSet) First(key string) *Entry { return earliest(s.Elems[key]) }

func earliest[K comparable](m map[K]*Entry) *Entry {
	var first *Entry
	for _, e := range m {
		if first == nil || e.Compare(first) < 0 {
			first = e
		}
	}
	return first
}

// Grow is a set to which elements are only added, until somebody overrides it with another set, a []any: then it has that one's elements and the
// additions of its epoch.
type Grow struct {
	Epochs[map[string]*Entry] // the first addition of each element, by the element's key
}

// Add tells the set of an addition that belongs to an epoch.
func (s *Grow) Add(key string, e *Entry, epoch Dot, known func(Dot) bool) {
	if s.over(epoch, known) {
		return
	}
	if s.Writes[epoch] == nil {
		s.keep(epoch, map[string]*Entry{})
	}
	if first := s.Writes[epoch][key]; first == nil || e.Compare(first) < 0 {
		s.Writes[epoch][key] = e
	}
}

// Clone returns a copy.
func (s *Grow) Clone() *Grow {
	return &Grow{Epochs[map[string]*Entry]{s.Override, cloneNested(s.Writes)}}
}

// Clone returns a copy.
func (s *ORSet) Clone() *ORSet { return &ORSet{cloneNested(s.Elems), maps.Clone(s.Removed)} }

func cloneNested[K, L comparable, V any](m map[K]map[L]V) map[K]map[L]V {
	c := make(map[K]map[L]V, len(m))
	for k, inner := range m {
		c[k] = maps.Clone(inner)
	}
	return c
}
