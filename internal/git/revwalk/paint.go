package revwalk

import "context"

// The marks that a walk puts on commits.
const (
	markWant  uint8 = 1 << iota // reachable from what is asked for
	markHave                    // reachable from what is there, or left out
	markStale                   // below a common ancestor that was found: see MergeBases
	markQueued
	cutWant // markWant does not pass to the parents: a shallow boundary
	cutHave // markHave does not

	marksBoth = markWant | markHave
	marksAll  = marksBoth | markStale
)

// checkEvery is how many steps a walk takes between looks at its context.
const checkEvery = 4096

// painter lets marks flow from commits to their ancestors. It takes commits in the graph's order, latest first: when one is
// taken, all its descendants in the walk have been, so that its marks are final.
type painter struct {
	g     *Graph
	marks []uint8
	queue queue
	// open says whether a commit of these marks may lead to something new. Once no queued commit does, the walk is over.
	open    func(marks uint8) bool
	waiting int // queued commits that are open
	steps   int
}

func (g *Graph) newPainter(open func(marks uint8) bool) *painter {
	return &painter{g: g, marks: make([]uint8, g.Len()), open: open}
}

// wanted reports whether a commit's marks say that it is wanted and not there.
func wanted(marks uint8) bool { return marks&marksBoth == markWant }

// apart reports whether a commit is known from one side only.
func apart(marks uint8) bool { return marks&marksBoth != marksBoth }

// fresh reports whether a commit is not known to lie below a common ancestor.
func fresh(marks uint8) bool { return marks&markStale == 0 }

func (p *painter) mark(c uint32, m uint8) {
	old := p.marks[c]
	if old&m == m {
		return
	}
	now := old | m | markQueued
	p.marks[c] = now
	if old&markQueued == 0 {
		p.queue.push(p.g.order[c], c)
	} else if p.open(old) {
		p.waiting--
	}
	if p.open(now) {
		p.waiting++
	}
}

func (p *painter) markAll(list []uint32, m uint8) {
	for _, c := range list {
		p.mark(c, m)
	}
}

// next takes the next commit from the queue. The caller then passes its marks on.
func (p *painter) next(ctx context.Context) (uint32, error) {
	if p.steps++; p.steps%checkEvery == 0 && ctx.Err() != nil {
		return 0, ctx.Err()
	}
	c := p.queue.pop()
	if p.open(p.marks[c]) {
		p.waiting--
	}
	return c, nil
}

// pass gives a commit's marks to its parents.
func (p *painter) pass(c uint32) {
	m := p.marks[c]
	give := m & marksAll
	if m&cutWant != 0 {
		give &^= markWant
	}
	if m&cutHave != 0 {
		give &^= markHave
	}
	if give == 0 {
		return
	}
	for _, parent := range p.g.parents(c) {
		p.mark(parent, give)
	}
}

// missing walks until nothing is left to find, and returns what is wanted and not there, latest first.
func (p *painter) missing(ctx context.Context) ([]uint32, error) {
	var list []uint32
	for p.waiting > 0 {
		c, err := p.next(ctx)
		if err != nil {
			return nil, err
		}
		if wanted(p.marks[c]) {
			list = append(list, c)
		}
		p.pass(c)
	}
	return list, nil
}
