package daemon

import (
	"context"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/rest"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/config/workspace"
)

// milestones are those of the workspace. One is made at a time: git's index of it is one.
type milestones struct {
	work *workspace.Workspace
	one  chan struct{}
}

// Create makes a milestone, which is by who asks for it.
func (m *milestones) Create(ctx context.Context, actor config.Actor, n rest.NewMilestone) (*wire.Milestone, error) {
	select {
	case m.one <- struct{}{}:
		defer func() { <-m.one }()
	case <-ctx.Done():
		return nil, ctx.Err() //nolint:wrapcheck // the client has gone
	}
	to, err := m.work.Milestones(ctx, true)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says all
	}
	return to.Create(ctx, actor, workspace.NewMilestone{ //nolint:wrapcheck // it says all
		Message: n.Message, Environments: n.Environments, AllowViolations: n.AllowViolations, AllowEmpty: n.AllowEmpty, Overwrite: n.Overwrite,
		Import: n.Import, Author: person(actor),
	})
}

// person is an actor as commits name people. An actor has no address; git wants one that nobody has (RFC 2606).
func person(a config.Actor) milestone.Person {
	plain := func(s string) string {
		return strings.Trim(strings.NewReplacer("<", "", ">", "", "\n", " ").Replace(s), " ")
	}
	p := milestone.Person{Name: plain(a.Name), Email: plain(a.ID) + "@skep.invalid"}
	if p.Name == "" {
		p.Name = plain(a.ID)
	}
	return p
}

// List returns the milestones, the latest first.
func (m *milestones) List(ctx context.Context, limit int) ([]wire.Milestone, error) {
	to, err := m.work.Milestones(ctx, false)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says all
	}
	return to.List(ctx, limit) //nolint:wrapcheck // it says all
}

// Show returns the milestone of a commit.
func (m *milestones) Show(ctx context.Context, commit string) (*wire.Milestone, error) {
	to, err := m.work.Milestones(ctx, false)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says all
	}
	return to.Show(ctx, commit) //nolint:wrapcheck // it says all
}
