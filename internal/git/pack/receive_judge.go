package pack

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"

	"github.com/pjbgf/sha1cd"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// judge decides on objects whose whole content is at hand: it computes their IDs, refuses what git fsck refuses, and
// notes what they name. Each worker has one.
type judge struct {
	links   linkCollector
	hash    collisionHash
	buf     [64]byte
	commits *commitLog
	parents []git.OID                             // of one commit
	check   func(git.Kind, git.OID, []byte) error // the caller's own; nil: git.Check
}

// commitLog keeps what the pack's table says of commits, until all are known. Safe for concurrent use. Workers share one,
// and wait while an array of it grows: most objects are no commits.
type commitLog struct {
	mem  *arena
	most int // of all parents together

	mu      sync.Mutex
	rows    []commitRow // guarded by mu; in no order
	parents []git.OID   // guarded by mu; of all commits, one after the other
}

// commitRow is what the pack's table says of a commit.
type commitRow struct {
	num     int32
	parents uint32 // how many
	first   uint32 // where they start in the log's parents
	tree    git.OID
	when    int64
}

func (l *commitLog) add(num int32, tree git.OID, when int64, parents []git.OID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.parents)+len(parents) > l.most {
		return fmt.Errorf("pack's commits have more than %d parents together: %w", l.most, errkind.TooLarge)
	}
	row := commitRow{num: num, first: uint32(len(l.parents)), parents: uint32(len(parents)), tree: tree, when: when}
	for _, p := range parents {
		if err := push(l.mem, &l.parents, p); err != nil {
			return err
		}
	}
	return push(l.mem, &l.rows, row)
}

// sort puts the rows in the order of numbers. Nobody adds any more.
func (l *commitLog) sort() {
	slices.SortFunc(l.rows, func(a, b commitRow) int { return cmp.Compare(a.num, b.num) })
}

// parentsOf returns a row's parents.
func (l *commitLog) parentsOf(row *commitRow) []git.OID { return l.parents[row.first:][:row.parents] }

// collisionHash is a SHA-1 that knows the traces of the known collision attacks.
type collisionHash interface {
	hash.Hash
	CollisionResistantSum(in []byte) ([]byte, bool)
}

func newCollisionHash() collisionHash {
	h, ok := sha1cd.New().(collisionHash)
	if !ok {
		panic("bug: sha1cd does not detect collisions")
	}
	return h
}

func newJudge(links *linkSet, commits *commitLog) *judge {
	return &judge{links: linkCollector{set: links}, commits: commits, hash: newCollisionHash()}
}

// see judges object num and returns its ID. Of a delta's object, base is what the delta was applied to: content that was
// judged before.
func (j *judge) see(num int32, kind git.Kind, data, base []byte) (git.OID, error) {
	o, err := j.sum(kind, data)
	if err != nil {
		return o, err
	}
	if j.check != nil {
		return o, j.seeLoosely(num, kind, o, data)
	}
	if kind == git.Tree && base != nil {
		if same, err := j.sameNames(num, data, base); same {
			return o, err
		}
	}
	if err := git.Check(kind, data); err != nil {
		return o, fmt.Errorf("%s %s: %w", kind, o, err)
	}
	if err := j.note(num, kind, data); err != nil {
		return o, fmt.Errorf("%s %s: %w", kind, o, err)
	}
	return o, nil
}

// seeLoosely judges an object by the caller's own check. What cannot be read of it names nothing.
func (j *judge) seeLoosely(num int32, kind git.Kind, o git.OID, data []byte) error {
	if err := j.check(kind, o, data); err != nil {
		return err
	}
	if err := j.note(num, kind, data); err != nil && !errors.Is(err, errkind.Invalid) {
		return fmt.Errorf("%s %s: %w", kind, o, err)
	}
	return nil
}

// sameNames judges a tree that differs from a judged one in the IDs of its entries alone, as most versions of a tree do:
// what was found right of modes, names and their order still is, and what has not changed was noted then. It returns
// false for other trees; what it has noted of them by then is not wrong.
func (j *judge) sameNames(num int32, data, base []byte) (bool, error) {
	if len(data) != len(base) {
		return false, nil
	}
	for at := 0; at < len(data); {
		id := at + bytes.IndexByte(base[at:], 0) + 1
		end := id + git.OIDSize
		if string(data[at:end]) == string(base[at:end]) {
			at = end
			continue
		}
		if string(data[at:id]) != string(base[at:id]) || git.OID(data[id:end]).IsZero() {
			return false, nil
		}
		e, _, err := git.NextEntry(data[at:])
		if err != nil {
			return false, nil //nolint:nilerr // the full check will say it
		}
		if e.Mode != git.ModeGitlink {
			if err := j.links.add(e.OID, e.Mode.Kind(), uint32(num)); err != nil {
				return true, err
			}
		}
		at = end
	}
	return true, nil
}

// sum computes an object's ID.
func (j *judge) sum(kind git.Kind, data []byte) (git.OID, error) {
	j.startHash(kind, int64(len(data)))
	j.hash.Write(data)
	return j.endHash()
}

// startHash, writes to hash and endHash are sum for content that comes in pieces.
func (j *judge) startHash(kind git.Kind, size int64) {
	j.hash.Reset()
	j.hash.Write(git.AppendHeader(j.buf[:0], kind, size))
}

func (j *judge) endHash() (git.OID, error) {
	sum, collision := j.hash.CollisionResistantSum(j.buf[:0])
	o := git.OID(sum)
	if collision {
		return o, fmt.Errorf("object %s is part of a SHA-1 collision attack: %w", o, errkind.Invalid)
	}
	return o, nil
}

// note keeps what an object names.
func (j *judge) note(num int32, kind git.Kind, data []byte) error {
	switch kind {
	case git.Commit:
		tree, parents, when, err := git.CommitLinks(data, j.parents[:0])
		if err != nil {
			return err
		}
		j.parents = parents
		if err := j.commits.add(num, tree, when, parents); err != nil {
			return err
		}
		if err := j.links.add(tree, git.Tree, uint32(num)); err != nil {
			return err
		}
		for _, p := range parents {
			if err := j.links.add(p, git.Commit, uint32(num)); err != nil {
				return err
			}
		}
		return nil
	case git.Tree:
		return j.links.tree(data, uint32(num))
	case git.Tag:
		target, k, err := git.TagLink(data)
		if err != nil {
			return err
		}
		return j.links.add(target, k, uint32(num))
	default:
		return nil
	}
}
