package rest

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/wire"
)

// Differing chooses what is compared.
type Differing struct {
	From   string   `query:"from" maxLength:"256"`
	To     string   `query:"to" maxLength:"256"`
	Entity []string `query:"entity,explode" maxItems:"100" doc:"Only these, as TYPE or TYPE.ID, with * for any text"`
	Field  []string `query:"field,explode" maxItems:"100"`
}

// OfEnvironment chooses an environment.
type OfEnvironment struct {
	Env string `query:"env" maxLength:"256" doc:"All if empty"`
}

func (a *routes) environments() {
	handle(a, a.op(http.MethodGet, "/envs", "environments", "List the environments"), a.listEnvironments)
	handle(a, a.op(http.MethodGet, "/envs/diff", "diff", "Compare two environments"), a.diff)
	handle(a, a.op(http.MethodGet, "/envs/{env}/state", "environment-state", "Read the entities of an environment"), a.environmentState)
	handle(a, a.op(http.MethodGet, "/conflicts", "conflicts", "List the fields for which somebody has to choose"), a.conflicts)
	handle(a, a.op(http.MethodGet, "/violations", "violations", "List the rules of the schema that the state breaks"), a.violations)
}

func (a *routes) listEnvironments(_ context.Context, c *Caller, _ *struct{}) (*body[wire.Environments], error) {
	return &body[wire.Environments]{wire.Environments{Environments: c.Service.Environments()}}, nil
}

func (a *routes) environmentState(ctx context.Context, c *Caller, in *ReadingEnvironment) (*Fresh[wire.State], error) {
	return a.stateOf(ctx, c, &in.Reading, in.Name)
}

func (a *routes) diff(ctx context.Context, c *Caller, in *Differing) (*body[wire.Diff], error) {
	list, err := c.Service.Diff(ctx, c.Actor, in.From, in.To, config.Filter{Entities: in.Entity, Fields: in.Field})
	if err != nil {
		return nil, err
	}
	return &body[wire.Diff]{wire.Diff{From: in.From, To: in.To, Changes: list}}, nil
}

func (a *routes) conflicts(ctx context.Context, c *Caller, _ *struct{}) (*body[wire.Conflicts], error) {
	return &body[wire.Conflicts]{wire.Conflicts{Conflicts: c.Service.Conflicts(ctx, c.Actor)}}, nil
}

func (a *routes) violations(ctx context.Context, c *Caller, in *OfEnvironment) (*body[wire.Violations], error) {
	return &body[wire.Violations]{wire.Violations{Violations: c.Service.Violations(ctx, c.Actor, in.Env)}}, nil
}
