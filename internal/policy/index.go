package policy

import "math/bits"

// assigned are roles that somebody has together.
type assigned struct {
	roles []*customRole
	all   roleSet   // these and what they inherit
	gives actionSet // what the built-in roles among those let do
}

// assign adds roles to those that somebody has.
func (d *Document) assign(to *assigned, roles []*customRole) {
	to.roles = append(to.roles, roles...)
	for _, r := range roles {
		to.gives |= actionsOf(r.builtin)
		for _, has := range r.inherits {
			to.all.put(has.number)
		}
	}
	d.gives |= to.gives
}

func assignTo[K comparable](d *Document, whose map[K]*assigned, who K, roles []*customRole) {
	to, ok := whose[who]
	if !ok {
		to = &assigned{}
		whose[who] = to
	}
	d.assign(to, roles)
}

// look makes decisions look at a permission.
func (d *Document) look(s *permission) {
	for set := s.actions.about(); set != 0; set &= set - 1 {
		n := bits.TrailingZeros64(uint64(set))
		d.about[n] = append(d.about[n], s)
	}
}

// roleSet has a bit for each of a document's roles, by its number.
type roleSet [maxRoles/64 + 1]uint64

func (s *roleSet) put(number int) { s[number/64] |= 1 << (number % 64) }

func (s *roleSet) add(t *roleSet) {
	for i := range s {
		s[i] |= t[i]
	}
}

func (s *roleSet) contains(number int) bool { return s[number/64]>>(number%64)&1 != 0 }
