package webhook

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Events that are published are kept as values of their own, numbered in their order.
const (
	keyEvent = "webhook/event/"
	// MaxPublished is how many published events are kept for subscriptions that are behind.
	MaxPublished = 1000
)

func eventKey(n uint64) string { return fmt.Sprintf("%s%020d", keyEvent, n) }

func eventNumber(key string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(key, keyEvent), 10, 64)
	return n
}

// published returns the numbers of the events that are kept, after one.
func (h *Hooks) published(ctx context.Context, after uint64) ([]uint64, error) {
	var list []uint64
	for last := eventKey(after); ; {
		keys, err := h.store.Keys(ctx, keyEvent, last)
		if err != nil {
			return nil, fmt.Errorf("list published events: %w", err)
		}
		if len(keys) == 0 {
			return list, nil
		}
		for _, key := range keys {
			list = append(list, eventNumber(key))
		}
		last = keys[len(keys)-1]
	}
}

func (h *Hooks) lastPublished(ctx context.Context) (uint64, error) {
	list, err := h.published(ctx, 0)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1], nil
}

// Publish tells of an event that is in no Source. It is durable when Publish returns. What can be delivered of it is bounded by the store's
// size of a value. Without subscriptions it is told to nobody: one gets what happens after it was made.
func (h *Hooks) Publish(ctx context.Context, e Event) error {
	if ids, err := h.ids(ctx); err != nil || len(ids) == 0 {
		return err
	}
	for {
		list, err := h.published(ctx, 0)
		if err != nil {
			return err
		}
		next := uint64(1)
		if len(list) > 0 {
			next = list[len(list)-1] + 1
		}
		for ; len(list) >= MaxPublished; list = list[1:] {
			if err := h.store.DeleteMeta(ctx, eventKey(list[0])); err != nil {
				return fmt.Errorf("publish event %s: %w", e.ID, err)
			}
		}
		err = h.put(ctx, eventKey(next), nil, &e)
		if errors.Is(err, errkind.Conflict) {
			continue // another process has taken the number
		}
		if err != nil {
			return fmt.Errorf("publish event %s: %w", e.ID, err)
		}
		h.wake()
		return nil
	}
}
