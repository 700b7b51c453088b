package service

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Then is an earlier state: that of a version if there is one, otherwise of a moment.
type Then struct {
	Version *crdt.Dots
	Time    time.Time
}

// Since returns what became of an environment, or of all if that is "", since an earlier state. It reads the whole log.
func (s *Service) Since(ctx context.Context, actor config.Actor, then Then, env string, filter config.Filter) ([]wire.Change, error) {
	if then.Version != nil {
		if err := s.doc.View(func(state *config.State) error {
			if seen := state.Version(); !seen.Covers(then.Version) {
				return fmt.Errorf("version %s: the document does not have all of it: %w", then.Version, errkind.NotFound)
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	old, err := s.doc.StateAt(ctx, func(op *config.Op, _ uint64) bool {
		if then.Version != nil {
			return then.Version.Has(op.ID)
		}
		return op.Time <= crdt.TimeOf(then.Time)
	})
	if err != nil {
		return nil, err
	}
	list := []wire.Change{}
	r := s.reader(actor)
	err = s.doc.View(func(state *config.State) error {
		envs := []string{env}
		if env == "" {
			envs = nil
			for _, e := range state.Schema().Environments {
				envs = append(envs, e.Name)
			}
		}
		for _, e := range envs {
			if _, err := state.Environment(e); err != nil {
				return err
			}
			for _, c := range config.Compare(old, state, e, filter) {
				if r.may(c.Entity, c.Field, e) {
					list = append(list, wire.Change{
						EntityID: c.Entity, Field: c.Field, Environment: e, Old: wireValue(c.Old), New: wireValue(c.New), By: entrySources(c.By),
					})
				}
			}
		}
		return nil
	})
	return list, err
}
