package revwalk

import "cmp"

// queue gives out commits by key, highest first, and of equal keys the one that came first. It is a binary heap.
type queue struct {
	items []queued
	count uint32
}

type queued struct {
	key    int64
	number uint32 // in order of arrival
	commit uint32
}

func (a queued) before(b queued) bool {
	return cmp.Or(cmp.Compare(b.key, a.key), cmp.Compare(a.number, b.number)) < 0
}

func (q *queue) len() int { return len(q.items) }

func (q *queue) push(key int64, commit uint32) {
	it := queued{key: key, number: q.count, commit: commit}
	q.count++
	i := len(q.items)
	q.items = append(q.items, it)
	for i > 0 {
		up := (i - 1) / 2
		if !it.before(q.items[up]) {
			break
		}
		q.items[i], i = q.items[up], up
	}
	q.items[i] = it
}

func (q *queue) pop() uint32 {
	top, last := q.items[0].commit, q.items[len(q.items)-1]
	q.items = q.items[:len(q.items)-1]
	i := 0
	for len(q.items) > 0 {
		down := 2*i + 1
		if down+1 < len(q.items) && q.items[down+1].before(q.items[down]) {
			down++
		}
		if down >= len(q.items) || !q.items[down].before(last) {
			q.items[i] = last
			break
		}
		q.items[i], i = q.items[down], down
	}
	return top
}
