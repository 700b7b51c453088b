package rest

import (
	"context"
	"fmt"
	"net/http"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// LookingBack chooses an earlier state. Without any it is that of the last milestone.
type LookingBack struct {
	Milestone   string   `query:"milestone" maxLength:"64" pattern:"^[0-9a-f]{7,64}$" doc:"That of this milestone: its commit, or how that begins. Default: the last one"`
	Version     string   `query:"version" maxLength:"4096" doc:"That of this version"`
	At          string   `query:"at" maxLength:"64" doc:"That of this time: a day, RFC 3339, or an hlc"`
	Environment string   `query:"environment" maxLength:"256" doc:"All if empty"`
	Env         string   `query:"env" maxLength:"256" doc:"The same as environment"`
	Entity      []string `query:"entity,explode" maxItems:"100" doc:"Only these, as TYPE or TYPE.ID, with * for any text"`
	Field       []string `query:"field,explode" maxItems:"100"`
}

func (a *routes) since() {
	handle(a, a.op(http.MethodGet, "/diff", "since", "See what has changed since a milestone, a version or a time"), a.changes)
}

func (a *routes) changes(ctx context.Context, c *Caller, in *LookingBack) (*body[wire.Changes], error) {
	then, err := in.then(ctx, c)
	if err != nil {
		return nil, err
	}
	env := (&Reading{Environment: in.Environment, Env: in.Env}).env()
	list, err := c.Service.Since(ctx, c.Actor, then, env, config.Filter{Entities: in.Entity, Fields: in.Field})
	if err != nil {
		return nil, err
	}
	return &body[wire.Changes]{wire.Changes{Changes: list}}, nil
}

// then finds the state. Of a milestone only its version is used, and the caller's rules count for what has changed: so whoever may not read
// what a milestone tells can ask for that too.
func (in *LookingBack) then(ctx context.Context, c *Caller) (then service.Then, err error) {
	named := 0
	for _, s := range [...]string{in.Milestone, in.Version, in.At} {
		if s != "" {
			named++
		}
	}
	version := in.Version
	switch {
	case named > 1:
		return then, fmt.Errorf("milestone, version and at name one state: say one of them: %w", errkind.Invalid)
	case in.At != "":
		then.Time, err = service.ParseTime(in.At)
		return then, err
	case version == "":
		m, err := c.Milestones.Show(ctx, in.Milestone)
		if err != nil {
			return then, err //nolint:wrapcheck // it says all
		}
		version = m.Version
	}
	seen, err := crdt.ParseDots(version)
	if err != nil {
		return then, fmt.Errorf("version %s: %w", clip(version), err)
	}
	then.Version = &seen
	return then, nil
}
