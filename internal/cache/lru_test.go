package cache_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/cache"
)

func TestLRUDropsWhatWasUsedLeastRecently(t *testing.T) {
	c := cache.NewLRU[string, int](10)
	c.Put("a", 1, 4)
	c.Put("b", 2, 4)
	if _, ok := c.Get("a"); !ok {
		t.Fatal("a is gone")
	}
	if gone := c.Put("c", 3, 4); !cmp.Equal(gone, []int{2}) {
		t.Errorf("Put(c) dropped %v, want b", gone)
	}
	if gone := c.Put("huge", 9, 11); !cmp.Equal(gone, []int{9}) {
		t.Errorf("Put(huge) dropped %v, want itself", gone)
	}
	if gone := c.Put("a", 5, 6); !cmp.Equal(gone, []int{1}) {
		t.Errorf("Put(a) again dropped %v, want the old a", gone)
	}
	if gone := c.SetLimit(6); !cmp.Equal(gone, []int{3}) {
		t.Errorf("SetLimit dropped %v, want c", gone)
	}
	if v, ok := c.Delete("a"); v != 5 || !ok {
		t.Errorf("Delete(a) = %d, %v", v, ok)
	}
	if _, ok := c.Get("a"); ok {
		t.Error("a is there after Delete")
	}
}

func TestLRULoadsOncePerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.NewLRU[string, int](10)
		var runs atomic.Int32
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				v, err := c.Load(t.Context(), "a", func(context.Context) (int, int64, error) {
					runs.Add(1)
					<-start
					return 7, 1, nil
				})
				if v != 7 || err != nil {
					t.Errorf("Load = %d, %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(start)
		wg.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs for one key", runs.Load())
		}
	})
}

func TestLRULoadSurvivesTheFirstCallersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.NewLRU[string, int](10)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Load(ctx, "a", func(ctx context.Context) (int, int64, error) {
				<-ctx.Done()
				return 0, 0, ctx.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("first Load: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			v, err := c.Load(t.Context(), "a", func(context.Context) (int, int64, error) { return 8, 1, nil })
			if v != 8 || err != nil {
				t.Errorf("second Load = %d, %v", v, err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}
