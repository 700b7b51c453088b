package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/cellrepo"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/rest"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

var (
	errNoDocuments  = denial{errkind.Unsupported, "this server keeps no documents of configuration"}
	errNotAll       = denial{errkind.Forbidden, "milestones tell the values of all fields: they are for those who may read all"}
	errNoMilestones = denial{errkind.Invalid, "this document has no repository for milestones: name one with skep config document update --repo TENANT/NAME"}
)

// configResource is the configuration of a tenant, as policy sees it: what is asked about comes from documentAccess.
func (s *Server) configResource(ctx context.Context, t id.Tenant) (policy.Resource, error) {
	standing, err := s.control.Standing(ctx, t)
	return policy.Resource{Kind: policy.KindConfig, Tenant: standing.Lineage, Rules: standing.Rules, Suspended: standing.Suspended, Path: "/"}, err
}

// tenantConfig finds a tenant for somebody who wants to do something with its documents as a whole; with no action, for who is then asked
// about each part of one. That they are there, those know who may see the tenant, or read a field of any document.
func (s *Server) tenantConfig(ctx context.Context, p policy.Principal, a policy.Action, ref string) (control.Tenant, policy.Resource, error) {
	var res policy.Resource
	if p.Anonymous() {
		return control.Tenant{}, res, errAnonymous
	}
	started := time.Now()
	t, err := s.findTenant(ctx, ref)
	if err == nil {
		res, err = s.configResource(ctx, t.ID)
	}
	if err == nil {
		err = configVerdict(p, a, res, t.Path)
	}
	if err != nil {
		return t, res, blur(ctx, p, started, err)
	}
	useTenant(ctx, t)
	c := callOf(ctx)
	if err := s.rates.tenant(c, p, res.Tenant); err != nil {
		return t, res, c.charge(err)
	}
	standing, err := s.control.Standing(ctx, t.ID)
	if err == nil {
		err = s.mayUse(ctx, c, standing.Quotas)
	}
	return t, res, c.charge(err)
}

// configVerdict is verdict for the documents of a tenant.
func configVerdict(p policy.Principal, a policy.Action, res policy.Resource, path string) error {
	if a == "" && policy.Somewhere(p, policy.ConfigRead, res) || a != "" && policy.Everywhere(p, a, res) {
		return nil
	}
	tenant := res
	tenant.Kind, tenant.Path = policy.KindTenant, path
	before := res
	before.Suspended = policy.Suspension{}
	switch {
	case !policy.Visible(p, tenant) && !policy.Somewhere(p, policy.ConfigRead, before):
		return errMissing
	case res.Suspended.Tenants > 0:
		return suspendedError{res.Suspended.Path}
	}
	return errForbidden
}

// findDocument looks a document of a tenant up by its ID or name.
func (s *Server) findDocument(ctx context.Context, t control.Tenant, ref string) (control.Document, error) {
	if i, err := id.ParseDocument(ref); err == nil {
		d, err := s.control.Document(ctx, i)
		if err == nil && d.Tenant != t.ID {
			err = errkind.NotFound
		}
		return d, err
	}
	return s.control.DocumentByName(ctx, t.ID, ref)
}

// document is tenantConfig for one of its documents.
func (s *Server) document(ctx context.Context, p policy.Principal, a policy.Action, tenant, ref string) (control.Document, policy.Resource, error) {
	if s.opts.Documents == nil {
		return control.Document{}, policy.Resource{}, errNoDocuments
	}
	t, res, err := s.tenantConfig(ctx, p, a, tenant)
	if err != nil {
		return control.Document{}, res, err
	}
	started := time.Now()
	d, err := s.findDocument(ctx, t, ref)
	return d, res, blur(ctx, p, started, err)
}

// actor is a principal as documents name those who write to them.
func actor(p policy.Principal) config.Actor {
	return config.Actor{ID: p.Name, Class: config.Class(p.Class)}
}

// documentAccess answers a document's questions about one principal. It is service.Access; the actor is the principal, whatever its name.
type documentAccess struct {
	base string // environment
	who  atomic.Pointer[standingIn]
}

// standingIn is a principal, and the tenant's configuration that it wants something of.
type standingIn struct {
	principal policy.Principal
	config    policy.Resource
}

// Allow decides one question.
func (a *documentAccess) Allow(_ config.Actor, action policy.Action, entity, field, env string) bool {
	return a.who.Load().allow(action, entity, field, env, a.base)
}

// allow decides about an entity, a field of one, or, where neither is named, about all that there is: in one environment or, without one, in
// all that there are and were.
func (w *standingIn) allow(action policy.Action, entity, field, env, base string) bool {
	r := w.config
	typ, name, _ := strings.Cut(entity, ".")
	r.Path, r.Field, r.At = typ+"/"+name, field, env
	if entity == "" && field == "" {
		return policy.Everywhere(w.principal, action, r)
	}
	r.At = cmp.Or(env, base)
	return policy.Allow(w.principal, action, r)
}

// revision tells apart what decisions come from: with the same one, they are the same.
func (w *standingIn) revision() string {
	p, h := &w.principal, sha256.New()
	fmt.Fprintf(h, "%q %q %t %q %q %q %q %q %q %q %d", p.ID, p.Class, p.Admin, p.Scope, p.Repo, p.Within, p.Home, p.Roles, p.Groups, w.config.Tenant, w.config.Suspended.Tenants)
	for _, r := range w.config.Rules {
		sum := r.Doc.Sum()
		h.Write(sum[:])
	}
	return string(h.Sum(nil))
}

// openDocument opens a document as the one who makes a request has it.
func (s *Server) openDocument(ctx context.Context, r *http.Request, d control.Document, res policy.Resource) (*rest.Caller, error) {
	doc, err := s.opts.Documents.Use(ctx, d)
	if err != nil {
		if errkind.Of(err) == errkind.NotFound { // deleted meanwhile, or another node has its log
			err = errMissing
		}
		return nil, err
	}
	c := callOf(ctx)
	now := &standingIn{c.principal, res}
	access := &documentAccess{}
	access.who.Store(now)
	_ = doc.View(func(state *config.State) error { access.base = state.Schema().Base(); return nil })
	caller := &service.Caller{
		Service: service.New(doc.Document, service.Options{Access: access, Revision: now.revision()}),
		Actor:   actor(c.principal),
	}
	caller.Again = func() error {
		who, err := s.whoNow(ctx, c, r, d)
		if err == nil {
			access.who.Store(who)
		}
		return err
	}
	return &rest.Caller{Caller: caller, Milestones: doc.Publisher, Webhooks: doc.Webhooks, Keys: noKeys, Release: doc.Release}, nil
}

// DocumentAccess answers questions about what somebody may do with a document of whom only the name is known, as the log has it: for webhooks,
// whose makers are asked about each time that they are told something.
func (s *Server) DocumentAccess(ctx context.Context, d control.Document, base func() string) service.Access {
	return namedAccess{s, ctx, d.Tenant, base}
}

type namedAccess struct {
	server *Server
	ctx    context.Context //nolint:containedctx // service.Access has none to give
	tenant id.Tenant
	base   func() string
}

// Allow decides one question. Who is not to be found may do nothing.
func (n namedAccess) Allow(a config.Actor, action policy.Action, entity, field, env string) bool {
	who, err := n.server.named(n.ctx, a.ID)
	if err != nil {
		return false
	}
	res, err := n.server.configResource(n.ctx, n.tenant)
	if err != nil {
		return false
	}
	if string(who.Class) != string(a.Class) {
		return false // another one of that name
	}
	return (&standingIn{who, res}).allow(action, entity, field, env, n.base())
}

// named finds a principal by its name, as policy sees it: one that is registered, or for whom an issuer speaks.
func (s *Server) named(ctx context.Context, name string) (policy.Principal, error) {
	p, err := s.control.PrincipalByName(ctx, name)
	if errkind.Of(err) == errkind.NotFound {
		return s.control.SignedActor(ctx, name)
	}
	if err != nil {
		return policy.Principal{}, err
	}
	return s.control.Actor(ctx, p.ID)
}

// noKeys: who writes to a hosted document is known by a credential. Signatures are kept with the operations.
func noKeys() *sign.Registry { return &sign.Registry{} }

// sessionStreams is how long a browser's stream goes on. To look whether its session is still there would give it a new secret now and then,
// which a stream cannot pass on; a page connects again by itself.
const sessionStreams = 5 * time.Minute

// whoNow looks anew who makes a request that goes on, and what the rules say of them now: the credential may have ended, the tenant be
// suspended, its policy be another one.
func (s *Server) whoNow(ctx context.Context, c *call, r *http.Request, d control.Document) (*standingIn, error) {
	p := c.principal
	if p.Session != "" {
		if time.Since(c.started) > sessionStreams {
			return nil, errBadSession
		}
		now, err := s.control.Actor(ctx, p.ID)
		if err != nil {
			return nil, errBadSession
		}
		p.Roles, p.Groups, p.Admin = now.Roles, now.Groups, now.Admin
	} else {
		var err error
		if p, err = auth.FromRequest(ctx, s.control, r); err != nil || p.ID != c.principal.ID {
			return nil, errBadToken
		}
	}
	res, err := s.configResource(ctx, d.Tenant)
	if err != nil {
		return nil, errMissing
	}
	if res.Suspended.Tenants > 0 {
		return nil, suspendedError{res.Suspended.Path}
	}
	return &standingIn{p, res}, nil
}

// MilestoneTarget opens the repository that a document's milestones go to: for who makes the request of ctx, or, where there is none, for
// who said that they are to be made. Each is asked for what they may do there now.
func (s *Server) MilestoneTarget(ctx context.Context, d control.Document, begin bool) (publish.Target, error) {
	to := &d.Milestones
	if to.Repo == "" {
		return publish.Target{}, errNoMilestones
	}
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		c = &call{id: "milestone of " + d.FullName(), intent: "a milestone that was to be made"}
		p, err := s.control.Actor(ctx, to.By)
		if err != nil {
			return publish.Target{}, fmt.Errorf("automatic milestones of %s: who wanted them is not there any more: say anew where they go: %w", d.FullName(), err)
		}
		c.principal = p
	}
	if begin || !ok {
		if err := s.mayPublish(ctx, c.principal, d.Tenant); err != nil {
			return publish.Target{}, err
		}
	}
	action := policy.RepoRead
	if begin {
		action = policy.RepoWrite
	}
	r, err := s.control.Repo(ctx, to.Repo)
	if err == nil {
		var standing control.Standing
		if standing, err = s.control.Standing(ctx, r.Tenant); err == nil {
			err = s.judge(ctx, c.principal, action, r, standing)
		}
	}
	if err == nil && begin {
		err = s.mayStore(ctx, r.Tenant)
	}
	if err != nil {
		return publish.Target{}, noTarget(err)
	}
	w, err := s.writer(context.WithValue(ctx, callKey{}, c), c.principal, r)
	if err != nil {
		return publish.Target{}, err
	}
	cell, err := s.open(ctx, r)
	if err != nil {
		return publish.Target{}, noTarget(err)
	}
	url := ""
	if s.opts.PublicURL != "" {
		url = s.opts.PublicURL + "/" + r.Path + ".git"
	}
	return publish.Target{Repo: cellrepo.New(cell, cellrepo.Options{Writer: w}), Branch: to.Branch, URL: url, Release: cell.Release}, nil
}

// mayPublish asks whether somebody may bring all of a document to a repository, where others read it.
func (s *Server) mayPublish(ctx context.Context, p policy.Principal, t id.Tenant) error {
	res, err := s.configResource(ctx, t)
	switch {
	case err != nil:
		return err
	case res.Suspended.Tenants > 0:
		return suspendedError{res.Suspended.Path}
	case !policy.Everywhere(p, policy.ConfigRead, res):
		return errNotAll
	}
	return nil
}

// noTarget says of a repository that cannot be had which one is meant: it is not the one of the request's path.
func noTarget(err error) error {
	if kind := errkind.Of(err); kind == errkind.NotFound || kind == errkind.Unauthorized {
		return denial{errkind.Conflict, "the repository for milestones is not there, or not yours to see"}
	}
	if errors.Is(err, errForbidden) {
		return denial{errkind.Forbidden, "you may not write to the repository for milestones"}
	}
	return err
}
