package pack

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/skep-dev/skep/internal/git"
)

const (
	// bucketRows is about how many IDs a bucket of an idOrder has: few enough for the processor's cache.
	bucketRows = 256
	// maxBucketBits bounds the list of buckets to 256 KiB.
	maxBucketBits = 16
)

// idOrder is numbers in the order of their IDs, and equal ones in their own order. The first bits of an ID say in which
// bucket it is. IDs are spread evenly, unless somebody takes pains; then a bucket is large, and takes longer to sort.
type idOrder struct {
	nums   []int32
	starts []uint32 // of the buckets in nums, and one more: the end of the last
	shift  int      // what an ID's first 32 bits are shifted by to be its bucket
}

// sortIDs sorts the numbers from 0 to n by the IDs that id has of them.
func sortIDs(mem *arena, n int, id func(int32) *git.OID) (*idOrder, error) {
	k := min(bits.Len(uint(n/bucketRows)), maxBucketBits)
	x := &idOrder{starts: make([]uint32, 1<<k+1), shift: 32 - k}
	var err error
	if x.nums, err = newArray[int32](mem, n); err != nil {
		return nil, err
	}
	// Count what goes into each bucket, put it there, then sort each bucket.
	for i := range int32(n) {
		x.starts[x.bucketOf(id(i))+1]++
	}
	largest := uint32(0)
	for b := range 1 << k {
		largest = max(largest, x.starts[b+1])
		x.starts[b+1] += x.starts[b]
	}
	next := slices.Clone(x.starts)
	for i := range int32(n) {
		b := x.bucketOf(id(i))
		x.nums[next[b]] = i
		next[b]++
	}
	keys, err := newArray[idKey](mem, int(largest))
	if err != nil {
		return nil, err
	}
	defer release(mem, keys)
	for b := range 1 << k {
		sortBucket(x.nums[x.starts[b]:x.starts[b+1]], keys, id)
	}
	return x, nil
}

// idKey has a part of the ID beside the number: comparisons then seldom go elsewhere.
type idKey struct {
	prefix uint64
	num    int32
}

// sortBucket sorts numbers by their IDs. It needs as many keys.
func sortBucket(nums []int32, keys []idKey, id func(int32) *git.OID) {
	keys = keys[:len(nums)]
	for i, num := range nums {
		keys[i] = idKey{binary.BigEndian.Uint64(id(num)[:]), num}
	}
	slices.SortFunc(keys, func(a, b idKey) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return cmp.Or(bytes.Compare(id(a.num)[8:], id(b.num)[8:]), cmp.Compare(a.num, b.num))
	})
	for i := range keys {
		nums[i] = keys[i].num
	}
}

func (x *idOrder) bucketOf(o *git.OID) uint32 { return binary.BigEndian.Uint32(o[:]) >> x.shift }

// bucket returns the numbers in o's bucket.
func (x *idOrder) bucket(o *git.OID) []int32 {
	b := x.bucketOf(o)
	return x.nums[x.starts[b]:x.starts[b+1]]
}
