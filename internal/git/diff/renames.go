package diff

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// Limits of rename detection. Beyond them only files that moved unchanged are found, as git does beyond diff.renameLimit.
const (
	maxRenamePairs = 1000 * 1000 // deletions times additions to compare
	maxRenameBytes = 64 << 20    // of all their content; what is kept of it takes a quarter as a rule, twice at worst
	// maxAlternatives is among how many deletions of the same content an addition looks for its own file name.
	maxAlternatives = 100
)

// Renames pairs deletions with additions of the same or similar (at least percent) content, as git diff -M does, and
// returns the changes with each pair as one, where its addition was.
//
// The steps are git's: first equal content, preferring equal file names; then deletions and additions of which no other
// has the same file name, if they are rather similar; then all others, the most similar first. A deletion is used once.
func Renames(ctx context.Context, s *odb.Store, changes []Change, percent int) ([]Change, error) {
	return renames(ctx, s, changes, percent)
}

func renames(ctx context.Context, s objects, changes []Change, percent int) ([]Change, error) {
	r := renamer{s: s, least: clampPercent(percent) * maxScore / 100}
	for i, c := range changes {
		switch {
		case c.New.Mode == 0:
			r.sources = append(r.sources, &candidate{side: c.Old, index: i, match: unmatched})
		case c.Old.Mode == 0:
			r.targets = append(r.targets, &candidate{side: c.New, index: i, match: unmatched})
		}
	}
	if len(r.sources) == 0 || len(r.targets) == 0 {
		return changes, nil
	}
	r.equalContent()
	if percent < 100 {
		if err := r.similarContent(ctx); err != nil {
			return nil, fmt.Errorf("find renames: %w", err)
		}
	}
	return r.apply(changes), nil
}

// maxScore is how similar equal files are.
const maxScore = 60000

const unmatched = -1

func clampPercent(p int) int { return max(0, min(p, 100)) }

// renamer is one run of Renames.
type renamer struct {
	s                objects
	least            int // score
	sources, targets []*candidate
}

// candidate is a deletion or an addition.
type candidate struct {
	side   Side
	index  int // in the changes
	match  int // of an addition: the index of its deletion; of a deletion: of its addition
	score  int
	size   int64
	chunks []chunk // once computed
}

func (r *renamer) pair(source, target *candidate, score int) {
	source.match, target.match = target.index, source.index
	source.score, target.score = score, score
}

func regular(m git.Mode) bool { return m == git.ModeFile || m == git.ModeExec || m == git.ModeGroup }

// equalContent pairs what moved unchanged.
func (r *renamer) equalContent() {
	byOID := map[git.OID][]*candidate{}
	for _, s := range r.sources {
		byOID[s.side.OID] = append(byOID[s.side.OID], s)
	}
	for _, t := range r.targets {
		free := byOID[t.side.OID]
		best := -1
		for i, s := range free[:min(len(free), maxAlternatives)] {
			if s.side.Mode != t.side.Mode && (!regular(s.side.Mode) || !regular(t.side.Mode)) {
				continue
			}
			if best < 0 || !sameBase(free[best], t) && sameBase(s, t) {
				best = i
			}
		}
		if best >= 0 {
			r.pair(free[best], t, maxScore)
			byOID[t.side.OID] = slices.Delete(free, best, best+1)
		}
	}
}

func sameBase(a, b *candidate) bool { return path.Base(a.side.Path) == path.Base(b.side.Path) }

// similarContent pairs what moved and changed.
func (r *renamer) similarContent(ctx context.Context) error {
	sources, targets := r.comparable(r.sources), r.comparable(r.targets)
	if len(sources) == 0 || len(targets) == 0 {
		return nil
	}
	total := int64(0)
	for _, c := range slices.Concat(sources, targets) {
		_, size, err := r.s.Stat(c.side.OID)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", c.side.OID, quote(c.side.Path), err)
		}
		c.size = size
		total += min(size, maxTextBytes)
	}
	if total > maxRenameBytes {
		return nil
	}
	if err := r.uniqueNames(sources, targets); err != nil {
		return err
	}
	sources, targets = r.comparable(sources), r.comparable(targets)
	if len(sources)*len(targets) > maxRenamePairs {
		return nil
	}
	return r.mostSimilar(ctx, sources, targets)
}

// comparable returns those that are still without a partner and have content to compare.
func (r *renamer) comparable(in []*candidate) (out []*candidate) {
	for _, c := range in {
		if c.match == unmatched && regular(c.side.Mode) {
			out = append(out, c)
		}
	}
	return out
}

// uniqueNames pairs a deletion and an addition that are alone with their file name. Their similarity must be half way
// from the least to equality.
func (r *renamer) uniqueNames(sources, targets []*candidate) error {
	from, to := byBase(sources), byBase(targets)
	for _, t := range targets {
		base := path.Base(t.side.Path)
		if len(to[base]) != 1 || len(from[base]) != 1 {
			continue
		}
		least := r.least + (maxScore-r.least)/2
		score, err := r.similarity(from[base][0], t, least)
		if err != nil {
			return err
		}
		if score >= least {
			r.pair(from[base][0], t, score)
		}
	}
	return nil
}

func byBase(in []*candidate) map[string][]*candidate {
	out := map[string][]*candidate{}
	for _, c := range in {
		out[path.Base(c.side.Path)] = append(out[path.Base(c.side.Path)], c)
	}
	return out
}

// maxChoices is how many of the most similar deletions an addition remembers.
const maxChoices = 4

// choice is a possible pair.
type choice struct {
	source, target *candidate
	score          int
	sameBase       bool
}

func byScore(a, b choice) int {
	if c := cmp.Compare(b.score, a.score); c != 0 {
		return c
	}
	return cmp.Compare(pick(b.sameBase, 1, 0), pick(a.sameBase, 1, 0))
}

// mostSimilar compares all with all and pairs the most similar first.
func (r *renamer) mostSimilar(ctx context.Context, sources, targets []*candidate) error {
	var all []choice
	for _, t := range targets {
		if err := ctx.Err(); err != nil {
			return err
		}
		var best []choice
		for _, s := range sources {
			score, err := r.similarity(s, t, r.least)
			if err != nil {
				return err
			}
			if score < r.least || score == 0 {
				continue
			}
			best = append(best, choice{s, t, score, sameBase(s, t)})
			slices.SortStableFunc(best, byScore)
			best = best[:min(len(best), maxChoices)]
		}
		all = append(all, best...)
		t.chunks = nil
	}
	slices.SortStableFunc(all, byScore)
	for _, c := range all {
		if c.source.match == unmatched && c.target.match == unmatched {
			r.pair(c.source, c.target, c.score)
		}
	}
	return nil
}

// similarity says how much of the larger file the two have in common. It may be 0 when the answer is below least.
func (r *renamer) similarity(s, t *candidate, least int) (int, error) {
	large, small := max(s.size, t.size), min(s.size, t.size)
	if small == 0 || large > maxTextBytes || large*int64(maxScore-least) < (large-small)*maxScore {
		return 0, nil // even if all of the smaller were in the larger
	}
	for _, c := range []*candidate{s, t} {
		if c.chunks == nil {
			obj, err := r.s.Read(c.side.OID)
			if err != nil {
				return 0, fmt.Errorf("read %s of %s: %w", c.side.OID, quote(c.side.Path), err)
			}
			c.chunks = chunksOf(obj.Data)
		}
	}
	return int(common(s.chunks, t.chunks) * maxScore / large), nil
}

// apply makes the pairs renames.
func (r *renamer) apply(changes []Change) []Change {
	out := slices.Clone(changes)
	for _, t := range r.targets {
		if t.match != unmatched {
			out[t.index].Old = changes[t.match].Old
			out[t.index].Similarity = t.score * 100 / maxScore
		}
	}
	gone := map[int]bool{}
	for _, s := range r.sources {
		gone[s.index] = s.match != unmatched
	}
	kept := out[:0]
	for i, c := range out {
		if !gone[i] {
			kept = append(kept, c)
		}
	}
	return kept
}

// chunk is how many bytes of a file are in pieces that hash to one number. A piece is a line, or 64 bytes of a longer
// one.
type chunk struct {
	hash  uint32
	bytes int32
}

const maxPiece = 64

// chunksOf cuts content into pieces, in order of their hashes. The end of a line counts the same with or without a CR,
// unless the content is binary.
func chunksOf(data []byte) []chunk {
	text := !isBinary(data)
	all := make([]chunk, 0, len(data)/16+1)
	for len(data) > 0 {
		hash, n := uint32(2166136261), int32(0) // FNV-1a: equal pieces must meet, and an adversary gains nothing
		i := 0
		for i < len(data) && n < maxPiece {
			c := data[i]
			i++
			if text && c == '\r' && i < len(data) && data[i] == '\n' {
				continue
			}
			hash = (hash ^ uint32(c)) * 16777619
			n++
			if c == '\n' {
				break
			}
		}
		data = data[i:]
		all = append(all, chunk{hash, n})
	}
	slices.SortFunc(all, func(a, b chunk) int { return cmp.Compare(a.hash, b.hash) })
	out := all[:0]
	for _, c := range all {
		if len(out) > 0 && out[len(out)-1].hash == c.hash {
			out[len(out)-1].bytes += c.bytes
		} else {
			out = append(out, c)
		}
	}
	return slices.Clip(out)
}

// common counts the bytes that both have.
func common(a, b []chunk) (n int64) {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].hash < b[0].hash:
			a = a[1:]
		case a[0].hash > b[0].hash:
			b = b[1:]
		default:
			n += int64(min(a[0].bytes, b[0].bytes))
			a, b = a[1:], b[1:]
		}
	}
	return n
}
