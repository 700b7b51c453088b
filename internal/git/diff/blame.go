package diff

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// maxBlameCommits bounds how many commits one Blame looks into: a million take about half a minute.
const maxBlameCommits = 1 << 20

// blameRename is how similar a file in a parent must be, in percent, to be the same file under another name.
const blameRename = 50

// BlameLine says which commit brought a line.
type BlameLine struct {
	Commit  git.OID
	Path    string // the file's name there
	OldLine int    // the line's number there, from 1
	Line    int    // its number now
}

// Blame attributes each line of a file, following renames, as git blame does.
//
// A commit that has lines to account for, a suspect, passes them on to its parents: all of them to the first parent
// where the file is the same; otherwise, parent by parent, those that the parent's file has as well. What no parent
// takes, the commit has brought. Suspects are asked in order of date, newest first, so that lines that reach a commit on
// several ways are handled together.
func Blame(ctx context.Context, g *revwalk.Graph, commit git.OID, path string) ([]BlameLine, error) {
	return blame(ctx, g.Store(), g, commit, path)
}

// history is what this package needs of a revwalk.Graph.
type history interface {
	Tree(o git.OID) (git.OID, bool)
	Parents(o git.OID) ([]git.OID, bool)
	When(o git.OID) (int64, bool)
}

func blame(ctx context.Context, s objects, g history, commit git.OID, path string) ([]BlameLine, error) {
	b := &blamer{s: s, g: g, known: map[suspectKey]*suspect{}}
	lines, err := b.run(ctx, commit, path)
	if err != nil {
		return nil, fmt.Errorf("blame %s: %w", quote(path), err)
	}
	return lines, nil
}

// blamer is one run of Blame.
type blamer struct {
	s     objects
	g     history
	queue suspects
	known map[suspectKey]*suspect // those in the queue
	found int                     // how many were ever in it
	lines []BlameLine
	texts [4]struct { // the newest few: a suspect's text is its child's parent text
		oid  git.OID
		text text
	}
	nextText int
}

type suspectKey struct {
	commit git.OID
	path   string
}

// suspect is a commit with the lines that it, or a commit before it, has brought to a file.
type suspect struct {
	suspectKey
	when  int64
	order int // of discovery
	at    place
	spans []span
}

// span is a run of lines: from start in the suspect's file, from final in the file that Blame was asked for.
type span struct{ start, final, n int }

func (b *blamer) run(ctx context.Context, commit git.OID, path string) ([]BlameLine, error) {
	tree, ok := b.g.Tree(commit)
	if !ok {
		return nil, fmt.Errorf("find commit %s: %w", commit, errkind.NotFound)
	}
	at, ok, err := findPath(b.s, tree, path, nil)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("find it in %s: %w", commit, errkind.NotFound)
	}
	t, err := b.text(at.oid)
	if err != nil {
		return nil, err
	}
	b.lines = make([]BlameLine, t.len())
	b.add(suspectKey{commit, path}, at, []span{{0, 0, t.len()}})
	for visited := 0; len(b.queue) > 0; visited++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if visited == maxBlameCommits {
			return nil, fmt.Errorf("its lines are older than %d commits: %w", maxBlameCommits, errkind.TooLarge)
		}
		s := heap.Pop(&b.queue).(*suspect) //nolint:errcheck,forcetypeassert // nothing else is in it
		delete(b.known, s.suspectKey)
		slices.SortFunc(s.spans, func(x, y span) int { return cmp.Compare(x.start, y.start) })
		if err := b.ask(ctx, s); err != nil {
			return nil, err
		}
	}
	return b.lines, nil
}

// add gives lines to a suspect.
func (b *blamer) add(k suspectKey, at place, spans []span) {
	if len(spans) == 0 {
		return
	}
	s := b.known[k]
	if s == nil {
		when, _ := b.g.When(k.commit)
		s = &suspect{suspectKey: k, when: when, order: b.found, at: at}
		b.found++
		b.known[k] = s
		heap.Push(&b.queue, s)
	}
	s.spans = append(s.spans, spans...)
}

// ask lets a suspect pass on its lines; those that are left are its own.
func (b *blamer) ask(ctx context.Context, s *suspect) error {
	parents, _ := b.g.Parents(s.commit)
	origins := make([]origin, len(parents))
	for _, renamed := range []bool{false, true} {
		for i, parent := range parents {
			if origins[i].found {
				continue
			}
			o, err := b.origin(ctx, s, parent, renamed)
			if err != nil {
				return err
			}
			if o.found && o.at.oid == s.at.oid {
				b.add(suspectKey{parent, o.path}, o.at, s.spans)
				return nil
			}
			origins[i] = o
		}
	}
	for i, o := range origins {
		if len(s.spans) == 0 {
			return nil
		}
		if !o.found || slices.ContainsFunc(origins[:i], func(p origin) bool { return p.found && p.at.oid == o.at.oid }) {
			continue // an equal file has nothing more to take
		}
		if err := b.pass(s, suspectKey{parents[i], o.path}, o.at); err != nil {
			return err
		}
	}
	for _, sp := range s.spans {
		for i := range sp.n {
			b.lines[sp.final+i] = BlameLine{Commit: s.commit, Path: s.path, OldLine: sp.start + i + 1, Line: sp.final + i + 1}
		}
	}
	return nil
}

// origin is the file in a parent that a suspect's file was made from.
type origin struct {
	found bool
	path  string
	at    place
}

func (b *blamer) origin(ctx context.Context, s *suspect, parent git.OID, renamed bool) (o origin, err error) {
	tree, ok := b.g.Tree(parent)
	if !ok {
		return origin{}, fmt.Errorf("find parent %s of %s: %w", parent, s.commit, errkind.NotFound)
	}
	o.path = s.path
	if renamed {
		if o.path, err = b.oldName(ctx, s, tree); err != nil || o.path == "" {
			return origin{}, err
		}
	}
	like := &s.at
	if renamed {
		like = nil
	}
	o.at, o.found, err = findPath(b.s, tree, o.path, like)
	return o, err
}

// oldName finds what a suspect's file was called in a parent's tree that does not have it; "" when it is new.
func (b *blamer) oldName(ctx context.Context, s *suspect, parentTree git.OID) (string, error) {
	var changes []Change
	for c, err := range trees(ctx, b.s, parentTree, s.at.trees[0]) {
		if err != nil {
			return "", err
		}
		if c.Old.Mode == 0 || c.New.Mode == 0 {
			changes = append(changes, c)
		}
	}
	changes, err := renames(ctx, b.s, changes, blameRename)
	if err != nil {
		return "", err
	}
	for _, c := range changes {
		if c.New.Path == s.path && c.Renamed() {
			return c.Old.Path, nil
		}
	}
	return "", nil
}

// pass gives a parent the lines that its file has as well, and leaves the others.
func (b *blamer) pass(s *suspect, parent suspectKey, at place) error {
	old, err := b.text(at.oid)
	if err != nil {
		return err
	}
	cur, err := b.text(s.at.oid)
	if err != nil {
		return err
	}
	var taken, left []span
	edits := diffLines(old, cur)
	shift, next := 0, 0 // of the equal lines before edits[next]: old line = line + shift
	for _, sp := range s.spans {
		for sp.n > 0 {
			for next < len(edits) && edits[next].b1 <= sp.start {
				shift = edits[next].a1 - edits[next].b1
				next++
			}
			switch {
			case next == len(edits) || sp.start+sp.n <= edits[next].b0: // all of it is equal
				taken = append(taken, span{sp.start + shift, sp.final, sp.n})
				sp.n = 0
			case sp.start < edits[next].b0: // the first part is
				n := edits[next].b0 - sp.start
				taken = append(taken, span{sp.start + shift, sp.final, n})
				sp = span{sp.start + n, sp.final + n, sp.n - n}
			default: // in the edit
				n := min(sp.n, edits[next].b1-sp.start)
				left = append(left, span{sp.start, sp.final, n})
				sp = span{sp.start + n, sp.final + n, sp.n - n}
			}
		}
	}
	s.spans = left
	b.add(parent, at, taken)
	return nil
}

// text reads a version of the file.
func (b *blamer) text(o git.OID) (text, error) {
	for i := range b.texts {
		if b.texts[i].oid == o {
			return b.texts[i].text, nil
		}
	}
	kind, size, err := b.s.Stat(o)
	if err != nil {
		return text{}, err
	}
	if kind != git.Blob {
		return text{}, fmt.Errorf("it is a %s: %w", kind, errkind.Invalid)
	}
	if size > maxTextBytes {
		return text{}, fmt.Errorf("it has more than %d bytes: %w", maxTextBytes, errkind.TooLarge)
	}
	obj, err := b.s.Read(o)
	if err != nil {
		return text{}, err
	}
	if tooManyLines(obj.Data) {
		return text{}, fmt.Errorf("it has more than %d lines: %w", maxTextLines, errkind.TooLarge)
	}
	slot := &b.texts[b.nextText]
	slot.oid, slot.text = o, newText(obj.Data)
	b.nextText = (b.nextText + 1) % len(b.texts)
	return slot.text, nil
}

// place is where a path leads from a root tree.
type place struct {
	path  string
	trees []git.OID // the root, and each directory on the way
	oid   git.OID   // of the file
}

// findPath looks a file up. like may be a place of the same path from another tree: where the directories become the
// same, the rest is as well, and nothing more is read.
func findPath(s objects, root git.OID, path string, like *place) (place, bool, error) {
	p := place{path: path, trees: make([]git.OID, 0, strings.Count(path, "/")+1)}
	at := root
	for rest, more := path, true; more; {
		if like != nil && like.path == path && like.trees[len(p.trees)] == at {
			return place{path, append(p.trees, like.trees[len(p.trees):]...), like.oid}, true, nil
		}
		p.trees = append(p.trees, at)
		var name string
		name, rest, more = strings.Cut(rest, "/")
		e, ok, err := findEntry(s, at, name)
		if err != nil || !ok || more != (e.Mode == git.ModeDir) || e.Mode == git.ModeGitlink {
			return place{}, false, err
		}
		at = e.OID
	}
	p.oid = at
	return p, true, nil
}

func findEntry(s objects, tree git.OID, name string) (git.Entry, bool, error) {
	data, err := readTree(s, tree)
	if err != nil {
		return git.Entry{}, false, err
	}
	for e, err := range git.TreeEntries(data) {
		if err != nil {
			return git.Entry{}, false, fmt.Errorf("read tree %s: %w", tree, err)
		}
		if string(e.Name) == name {
			return e, true, nil
		}
	}
	return git.Entry{}, false, nil
}

// suspects is a heap: the newest first, of equal dates the first found.
type suspects []*suspect

func (q suspects) Len() int { return len(q) }

func (q suspects) Less(i, j int) bool {
	if q[i].when != q[j].when {
		return q[i].when > q[j].when
	}
	return q[i].order < q[j].order
}

func (q suspects) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *suspects) Push(x any) {
	*q = append(*q, x.(*suspect)) //nolint:errcheck,forcetypeassert // nothing else is pushed
}

// Pop implements heap.Interface.
func (q *suspects) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return s
}
