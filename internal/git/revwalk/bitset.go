package revwalk

import "context"

// bitset is a set of commits.
type bitset []uint64

func (g *Graph) newBitset() bitset { return make(bitset, (g.Len()+63)/64) }

func (b bitset) has(c uint32) bool { return b[c/64]&(1<<(c%64)) != 0 }

// add returns false when c was there.
func (b bitset) add(c uint32) bool {
	if b.has(c) {
		return false
	}
	b[c/64] |= 1 << (c % 64)
	return true
}

// reachable returns tips and all their ancestors.
func (g *Graph) reachable(ctx context.Context, tips []uint32) (bitset, error) {
	seen := g.newBitset()
	var stack []uint32
	for _, c := range tips {
		if seen.add(c) {
			stack = append(stack, c)
		}
	}
	for steps := 1; len(stack) > 0; steps++ {
		if steps%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, p := range g.parents(c) {
			if seen.add(p) {
				stack = append(stack, p)
			}
		}
	}
	return seen, nil
}
