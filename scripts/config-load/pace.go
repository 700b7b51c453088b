package main

import (
	"context"
	"time"
)

// due is when a request arises, and its number.
type due struct {
	at time.Time
	i  int
}

// arrivals has requests arise at a fixed rate, whatever became of those before them, until ctx or the time ends. A request that finds all
// clients busy waits for one, and its time counts from when it arose.
func arrivals(ctx context.Context, perSecond int, last time.Duration) <-chan due {
	n := int(last.Seconds() * float64(perSecond))
	list := make(chan due, n)
	go func() {
		defer close(list)
		start := time.Now()
		for i := range n {
			at := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
			for left := time.Until(at); left > 0 && ctx.Err() == nil; left = time.Until(at) {
				pause(left)
			}
			if ctx.Err() != nil {
				return
			}
			list <- due{at, i}
		}
	}()
	return list
}
