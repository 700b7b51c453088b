package rest

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
)

// Looking chooses operations of the log.
type Looking struct {
	Entity string `query:"entity" maxLength:"512"`
	Actor  string `query:"actor" maxLength:"256"`
	Type   string `query:"type" maxLength:"64" doc:"As set_field"`
	Since  string `query:"since" maxLength:"64" doc:"A day, RFC 3339, or an hlc"`
	Until  string `query:"until" maxLength:"64"`
	Before uint64 `query:"before" doc:"Only operations before this seq: next of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (l *Looking) query() (q service.LogQuery, err error) {
	q = service.LogQuery{Entity: l.Entity, Actor: l.Actor, Type: l.Type, Before: l.Before, Limit: l.Limit}
	if l.Since != "" {
		if q.Since, err = service.ParseTime(l.Since); err != nil {
			return q, err
		}
	}
	if l.Until != "" {
		q.Until, err = service.ParseTime(l.Until)
	}
	return q, err
}

// LookingAtEntity is the same of an entity in the path.
type LookingAtEntity struct {
	Looking
	Name string `path:"entity" maxLength:"512"`
}

// Blaming chooses fields.
type Blaming struct {
	Entity      string `path:"entity" maxLength:"512"`
	Field       string `query:"field" maxLength:"256" doc:"All if empty"`
	Environment string `query:"environment" maxLength:"256"`
	Env         string `query:"env" maxLength:"256" doc:"The same as environment"`
}

func (a *routes) history() {
	handle(a, a.op(http.MethodGet, "/log", "log", "List the operations, the newest first"), a.log)
	handle(a, a.op(http.MethodGet, "/log/{entity}", "entity-log", "List the operations on an entity, the newest first"), a.entityLog)
	handle(a, a.op(http.MethodGet, "/blame/{entity}", "blame", "See who made an entity's values what they are"), a.blame)
}

func (a *routes) log(ctx context.Context, c *Caller, in *Looking) (*body[*wire.Log], error) {
	q, err := in.query()
	if err != nil {
		return nil, err
	}
	page, err := c.Service.Log(ctx, c.Actor, q)
	if err != nil {
		return nil, err
	}
	return &body[*wire.Log]{page}, nil
}

func (a *routes) entityLog(ctx context.Context, c *Caller, in *LookingAtEntity) (*body[*wire.Log], error) {
	in.Entity = in.Name
	return a.log(ctx, c, &in.Looking)
}

func (a *routes) blame(ctx context.Context, c *Caller, in *Blaming) (*body[wire.Blames], error) {
	list, err := c.Service.Blame(ctx, c.Actor, in.Entity, in.Field, (&Reading{Environment: in.Environment, Env: in.Env}).env())
	if err != nil {
		return nil, err
	}
	return &body[wire.Blames]{wire.Blames{Fields: list}}, nil
}
