package rest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/skep-dev/skep/internal/config/auditlog"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// ListingMilestones says how many.
type ListingMilestones struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// OneMilestone names a milestone.
type OneMilestone struct {
	ID string `path:"id" maxLength:"64" pattern:"^[0-9a-f]{7,64}$" doc:"Its commit, or how that begins"`
}

// JustBody is a request with nothing else.
type JustBody struct{ Payload }

func (b *JustBody) raw() *Payload { return &b.Payload }

// Exporting chooses operations of the log.
type Exporting struct {
	Since  string `query:"since" maxLength:"64" doc:"A day, RFC 3339, or an hlc"`
	Until  string `query:"until" maxLength:"64"`
	Actor  string `query:"actor" maxLength:"256"`
	Entity string `query:"entity" maxLength:"512"`
}

func (a *routes) milestones() {
	handleBody(a, a.op(http.MethodPost, "/milestones", "milestone", "Make a milestone"), a.createMilestone)
	handle(a, a.op(http.MethodGet, "/milestones", "milestones", "List milestones, the latest first"), a.listMilestones)
	handle(a, a.op(http.MethodGet, "/milestones/{id}", "milestone-show", "Read a milestone"), a.showMilestone)
	o := a.op(http.MethodGet, "/audit/export", "audit-export", "Export the log of operations, the oldest first, with what shows that nothing was changed")
	o.Responses = map[string]*huma.Response{"200": {Description: "A line of JSON for each operation", Content: map[string]*huma.MediaType{
		"application/x-ndjson": {Schema: &huma.Schema{Type: huma.TypeString}},
	}}}
	handle(a, o, a.export)
}

type made struct {
	Status int
	Body   *wire.Milestone
}

func (a *routes) createMilestone(ctx context.Context, c *Caller, _ *JustBody, n *wire.NewMilestone) (*made, error) {
	all := c.Service.ReadsAll(c.Actor)
	m, err := c.Milestones.Create(ctx, c.Caller, *n)
	switch {
	case err == nil && !all:
		m.Text, m.Environments = "", []string{}
	case !all && (errkind.Of(err) == errkind.Conflict || errkind.Of(err) == errkind.Invalid):
		// What is in the way, of the document or of what was edited in Git, is named with its fields and values.
		err = fmt.Errorf("milestone: something is in the way that is told to those who may read every field: %w", errkind.Of(err))
	}
	if err != nil {
		return nil, err
	}
	return &made{http.StatusCreated, m}, nil
}

func (a *routes) listMilestones(ctx context.Context, c *Caller, in *ListingMilestones) (*body[wire.MilestoneList], error) {
	if err := readsAll(c); err != nil {
		return nil, err
	}
	list, err := c.Milestones.List(ctx, in.Limit)
	if err != nil {
		return nil, err
	}
	return &body[wire.MilestoneList]{wire.MilestoneList{Milestones: list}}, nil
}

func (a *routes) showMilestone(ctx context.Context, c *Caller, in *OneMilestone) (*body[*wire.Milestone], error) {
	if err := readsAll(c); err != nil {
		return nil, err
	}
	m, err := c.Milestones.Show(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &body[*wire.Milestone]{m}, nil
}

// readsAll refuses whoever may not read every field: a milestone's message tells values.
func readsAll(c *Caller) error {
	if !c.Service.ReadsAll(c.Actor) {
		return fmt.Errorf("milestones tell the values of all fields, and %s may not read all: %w", c.Actor.ID, errkind.Forbidden)
	}
	return nil
}

func (a *routes) export(ctx context.Context, c *Caller, in *Exporting) (*huma.StreamResponse, error) {
	if err := c.Service.Permit(c.Actor, policy.ConfigAdmin, "", "", ""); err != nil {
		return nil, err
	}
	if !c.Service.ReadsAll(c.Actor) {
		return nil, fmt.Errorf("the log tells the values of all fields, and %s may not read all: %w", c.Actor.ID, errkind.Forbidden)
	}
	q, err := (&Looking{Since: in.Since, Until: in.Until}).query()
	if err != nil {
		return nil, err
	}
	filter := auditlog.Filter{Since: q.Since, Until: q.Until, Actor: in.Actor, Entity: strings.TrimSpace(in.Entity)}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
		if _, err := auditlog.Export(ctx, c.Service.Document(), filter, c.Keys(), time.Now(), w, func(uint64, uint64) {}); err != nil {
			a.mount.Failed(ctx, err)
			panic(http.ErrAbortHandler) // the client must not take what it got for all
		}
	}}, nil
}
