package odb_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

var _ pack.BaseCache = (*odb.Cache)(nil)

func TestCacheKeepsWithinItsLimit(t *testing.T) {
	const limit = 1 << 20
	c := odb.NewCache(limit)
	p := new(pack.Pack)
	for at := range pack.Pos(10_000) {
		c.Put(p, at, git.Object{Kind: git.Blob, Data: make([]byte, 1000)})
		if c.Bytes() > limit {
			t.Fatalf("%d bytes after %d objects, the limit is %d", c.Bytes(), at+1, limit)
		}
	}
	if c.Bytes() < limit/2 {
		t.Errorf("only %d bytes are kept of %d", c.Bytes(), limit)
	}
	if _, ok := c.Get(p, 9_999); !ok {
		t.Error("the newest object is gone")
	}
	if _, ok := c.Get(p, 0); ok {
		t.Error("the oldest object is still there")
	}
}

func TestCacheForgetsTheLeastRecentlyUsed(t *testing.T) {
	c := odb.NewCache(1 << 20)
	p, old := new(pack.Pack), new(pack.Pack)
	o := git.Object{Kind: git.Blob, Data: make([]byte, 4000)}
	c.Put(p, 8, o)
	c.Put(old, 8, o)
	for i := range pack.Pos(500) {
		c.Put(p, 16+8*i, o)
		if _, ok := c.Get(p, 8); !ok {
			t.Fatalf("what is used all the time went after %d others", i)
		}
	}
	if _, ok := c.Get(old, 8); ok {
		t.Error("what nobody uses stays, and keeps its pack alive")
	}
}

func TestCacheLeavesOutWhatIsTooBig(t *testing.T) {
	c := odb.NewCache(1 << 20)
	p := new(pack.Pack)
	c.Put(p, 1, git.Object{Kind: git.Blob, Data: make([]byte, 1<<16)})
	if _, ok := c.Get(p, 1); ok {
		t.Error("an object of over a sixteenth of the limit is kept")
	}
	c.Put(p, 1, git.Object{Kind: git.Blob, Data: make([]byte, 1<<15)})
	if _, ok := c.Get(p, 1); !ok {
		t.Error("an object of a thirty-second of the limit is not kept")
	}
	if _, ok := c.Get(new(pack.Pack), 1); ok {
		t.Error("an object is found in a pack that never had it")
	}
}
