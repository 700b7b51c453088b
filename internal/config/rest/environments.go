package rest

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/wire"
)

// Environments are those of the schema.
type Environments struct {
	Environments []wire.Environment `json:"environments" doc:"The base first"`
}

// Differing chooses what is compared.
type Differing struct {
	From   string   `query:"from" maxLength:"256"`
	To     string   `query:"to" maxLength:"256"`
	Entity []string `query:"entity,explode" maxItems:"100" doc:"Only these, as TYPE or TYPE.ID, with * for any text"`
	Field  []string `query:"field,explode" maxItems:"100"`
}

// Diff is what differs between two environments.
type Diff struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	Changes []wire.Change `json:"changes" doc:"What would change if from became as to"`
}

// Conflicts are the fields for which somebody has to choose.
type Conflicts struct {
	Conflicts []wire.Conflict `json:"conflicts"`
}

// Violations are the rules of the schema that the state breaks.
type Violations struct {
	Violations []wire.Violation `json:"violations"`
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

func (a *routes) listEnvironments(_ context.Context, c *Caller, _ *struct{}) (*body[Environments], error) {
	return &body[Environments]{Environments{c.Service.Environments()}}, nil
}

func (a *routes) environmentState(ctx context.Context, c *Caller, in *ReadingEnvironment) (*Fresh[wire.State], error) {
	return a.stateOf(ctx, c, &in.Reading, in.Name)
}

func (a *routes) diff(ctx context.Context, c *Caller, in *Differing) (*body[Diff], error) {
	list, err := c.Service.Diff(ctx, c.Actor, in.From, in.To, config.Filter{Entities: in.Entity, Fields: in.Field})
	if err != nil {
		return nil, err
	}
	return &body[Diff]{Diff{in.From, in.To, list}}, nil
}

func (a *routes) conflicts(ctx context.Context, c *Caller, _ *struct{}) (*body[Conflicts], error) {
	return &body[Conflicts]{Conflicts{c.Service.Conflicts(ctx, c.Actor)}}, nil
}

func (a *routes) violations(ctx context.Context, c *Caller, in *OfEnvironment) (*body[Violations], error) {
	return &body[Violations]{Violations{c.Service.Violations(ctx, c.Actor, in.Env)}}, nil
}
