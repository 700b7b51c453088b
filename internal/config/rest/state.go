package rest

import (
	"context"
	"net/http"
	"strconv"

	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
)

// Cached is a request that a client may have the answer of already.
type Cached struct {
	IfNoneMatch string `header:"If-None-Match" maxLength:"8192" doc:"An ETag: 304 if nothing has changed since"`
}

// Fresh is an answer with its ETag. With status 304 it has no body.
type Fresh[T any] struct {
	Status       int
	ETag         string `header:"ETag"`
	CacheControl string `header:"Cache-Control"`
	Body         *T
}

// fresh answers with what was asked for, or with 304. What one may see is nobody else's, so no shared cache keeps it.
func fresh[T any](in *Cached, tag string, v *T) *Fresh[T] {
	out := &Fresh[T]{Status: http.StatusOK, ETag: tag, CacheControl: "private, no-cache", Body: v}
	if in.IfNoneMatch != "" && matches(in.IfNoneMatch, tag) {
		out.Status, out.Body = http.StatusNotModified, nil
	}
	return out
}

// Reading chooses what is read of the state.
type Reading struct {
	Cached
	Environment string `query:"environment" maxLength:"256" doc:"The base if empty"`
	Env         string `query:"env" maxLength:"256" doc:"The same as environment"`
	Type        string `query:"type" maxLength:"256" doc:"Only entities of this type"`
	After       string `query:"after" maxLength:"512" doc:"Only entities after this ID: next of the page before"`
	Limit       int    `query:"limit" minimum:"1" maximum:"10000" default:"10000"`
}

func (r *Reading) env() string {
	if r.Environment != "" {
		return r.Environment
	}
	return r.Env
}

// ReadingEnvironment is the same of an environment in the path.
type ReadingEnvironment struct {
	Reading
	Name string `path:"env" maxLength:"256"`
}

// ReadingEntity chooses an entity.
type ReadingEntity struct {
	Cached
	Entity      string `path:"entity" maxLength:"512" doc:"TYPE.ID"`
	Environment string `query:"environment" maxLength:"256" doc:"The base if empty"`
	Env         string `query:"env" maxLength:"256" doc:"The same as environment"`
}

func (r *ReadingEntity) env() string { return (&Reading{Environment: r.Environment, Env: r.Env}).env() }

func (a *routes) state() {
	handle(a, a.op(http.MethodGet, "/state", "state", "Read the entities of an environment"), a.readState)
	handle(a, a.op(http.MethodGet, "/state/{entity}", "entity", "Read one entity"), a.readEntity)
	handle(a, a.op(http.MethodGet, "/status", "status", "See the document at a glance"), a.readStatus)
	handle(a, a.op(http.MethodGet, "/schema", "schema", "Read the schema in force"), a.readSchema)
}

func (a *routes) readState(ctx context.Context, c *Caller, in *Reading) (*Fresh[wire.State], error) {
	return a.stateOf(ctx, c, in, in.env())
}

func (a *routes) stateOf(ctx context.Context, c *Caller, in *Reading, env string) (*Fresh[wire.State], error) {
	tagOf := func(version, env string) string {
		return etag(c, version, "state", env, in.Type, in.After, strconv.Itoa(in.Limit))
	}
	if in.IfNoneMatch != "" {
		// Reconcilers ask again and again, and mostly nothing has changed: that is found out without reading the state.
		version, name, err := c.Service.Version(env)
		if err != nil {
			return nil, err
		}
		if tag := tagOf(version, name); matches(in.IfNoneMatch, tag) {
			return fresh[wire.State](&in.Cached, tag, nil), nil
		}
	}
	s, err := c.Service.State(ctx, c.Actor, service.Query{Env: env, Type: in.Type, After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return fresh(&in.Cached, tagOf(s.Version, s.Environment), s), nil
}

func (a *routes) readEntity(ctx context.Context, c *Caller, in *ReadingEntity) (*Fresh[wire.Entity], error) {
	e, err := c.Service.Entity(ctx, c.Actor, in.Entity, in.env())
	if err != nil {
		return nil, err
	}
	return fresh(&in.Cached, etag(c, e.Version, "entity", e.ID, e.Environment), e), nil
}

func (a *routes) readStatus(ctx context.Context, c *Caller, _ *struct{}) (*body[*wire.Status], error) {
	s := c.Service.Status(ctx, c.Actor)
	if c.Service.ReadsAll(c.Actor) { // what stands in the way of a milestone is told with its values
		var err error
		if s.Automatic, err = c.Milestones.Automatic(ctx); err != nil {
			return nil, err
		}
	}
	return &body[*wire.Status]{s}, nil
}

func (a *routes) readSchema(_ context.Context, c *Caller, in *Cached) (*Fresh[wire.SchemaText], error) {
	name, version, text := c.Service.Schema()
	return fresh(in, etag(c, version, "schema", text), &wire.SchemaText{Name: name, Version: version, Text: text}), nil
}
