package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/usage"
)

// The ways in which a request is denied. They say nothing of what was asked for, so that a private repository and a
// missing one read the same.
var (
	errAnonymous = denial{errkind.Unauthorized, "authentication required: send a token as Bearer token or as password"}
	errBadToken  = denial{errkind.Unauthorized, "this token is not valid: unknown, expired or revoked"}
	errMissing   = denial{errkind.NotFound, "not found, or not yours to see"}
	errForbidden = denial{errkind.Forbidden, "your token or role does not allow this"}
	errSponsor   = denial{errkind.Forbidden, "this is for who administers the tenant above, or for an administrator of the server at the top"}
)

// denial is a constant text with its kind.
type denial struct {
	kind errkind.Kind
	text string
}

func (d denial) Error() string { return d.text }
func (d denial) Unwrap() error { return d.kind }

// denialQuantum hides how long it took to find out that something is missing or private: the answer to both waits for the
// next multiple. A lookup takes less, so that there is one multiple in practice.
const denialQuantum = time.Millisecond

// authenticate finds out who asks. Nobody, the zero Principal, is fine; a wrong credential is not.
func (s *Server) authenticate(c *call, r *http.Request) error {
	session := s.sessionSecret(c, r)
	try := s.rates.attempt(c, r, session)
	if err := s.rates.begin(c, try); err != nil {
		return err
	}
	var p policy.Principal
	var err error
	if session != "" {
		p, err = s.fromSession(r.Context(), c, r, session)
	} else {
		p, err = auth.FromRequest(r.Context(), s.control, r)
	}
	kind := errkind.Of(err)
	switch {
	case err == nil:
		s.rates.succeed(try)
		c.principal = p
		if cert := auth.ClientCertificate(r); cert != nil {
			c.certEnds = cert.NotAfter
		}
		s.control.Used(string(p.Token), c.peer)
		return nil
	case kind != errkind.Unauthorized && kind != errkind.Invalid:
		return err // not the credential's fault
	}
	if err := s.rates.fail(c, try); err != nil {
		return err
	}
	if r, ok := errors.AsType[auth.Refusal](err); ok {
		return denial{errkind.Unauthorized, string(r)}
	}
	switch {
	case kind != errkind.Unauthorized:
		return err
	case session == "":
		return errBadToken
	}
	s.setCookie(c, sessionCookie, "", 0)
	if c.route == routeLogin {
		return nil // its pages are for nobody in particular too
	}
	return errBadSession
}

// verdict is the one place where an answer of policy becomes one of ours.
func verdict(p *policy.Principal, a policy.Action, r *policy.Resource) error {
	switch {
	case policy.Allow(*p, a, *r):
		return nil
	case p.Anonymous():
		return errAnonymous
	case !policy.Visible(*p, *r):
		return errMissing
	case r.Suspended.Tenants > 0:
		return suspendedError{r.Suspended.Path}
	}
	return errForbidden
}

// suspendedError is the denial of what lies in a suspended tenant, to those who could see it before.
type suspendedError struct{ path string }

func (e suspendedError) Error() string {
	whom := "an administrator of the server"
	if parent, _, ok := cutLast(e.path); ok {
		whom = "who administers tenant " + parent
	}
	return "tenant " + e.path + " is suspended: ask " + whom
}

// Unwrap gives the kind.
func (e suspendedError) Unwrap() error { return errkind.Forbidden }

// missing is the verdict on what does not exist: that on what may not be seen.
func missing(p policy.Principal) error {
	if p.Anonymous() {
		return errAnonymous
	}
	return errMissing
}

// allowServer asks about the server as a whole.
func (s *Server) allowServer(p policy.Principal, a policy.Action) error {
	return verdict(&p, a, &policy.Resource{})
}

// repo finds a repository for somebody who wants to do something with it. find looks it up.
func (s *Server) repo(ctx context.Context, p policy.Principal, a policy.Action, find func() (control.Repo, error)) (control.Repo, error) {
	if p.Anonymous() && a != policy.RepoRead {
		return control.Repo{}, errAnonymous // whatever the repository: no lookup, no difference
	}
	started := time.Now()
	var standing control.Standing
	r, err := find()
	if err == nil {
		standing, err = s.control.Standing(ctx, r.Tenant)
	}
	if err == nil {
		err = s.judge(ctx, p, a, r, standing)
	}
	if err != nil {
		return r, blur(ctx, p, started, err)
	}
	c := callOf(ctx)
	c.used = usage.Key{Tenant: r.Tenant, Repo: r.ID}
	if err := c.charge(s.rates.tenant(c, p, standing.Lineage)); err != nil {
		return r, err
	}
	return r, c.charge(s.mayUse(ctx, c, standing.Quotas))
}

// mayRepo is policy's answer on a repository, whose tenant's standing is known.
func (s *Server) mayRepo(ctx context.Context, p policy.Principal, a policy.Action, r control.Repo, of control.Standing) error {
	var res policy.Resource
	if err := s.describe(ctx, &res, &p, &r, &of); err != nil {
		return err
	}
	return verdict(&p, a, &res)
}

// tenant finds a tenant for somebody who wants to do something with it.
func (s *Server) tenant(ctx context.Context, p policy.Principal, a policy.Action, ref string) (control.Tenant, error) {
	if p.Anonymous() {
		return control.Tenant{}, errAnonymous
	}
	started := time.Now()
	t, err := s.findTenant(ctx, ref)
	if err == nil {
		var res policy.Resource
		if res, err = s.tenantResource(ctx, t); err == nil {
			err = verdict(&p, a, &res)
		}
	}
	if err == nil {
		useTenant(ctx, t)
	}
	return t, blur(ctx, p, started, err)
}

// useTenant makes a request a tenant's use, if it is one and not the server's own doing.
func useTenant(ctx context.Context, t control.Tenant) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.used = usage.Key{Tenant: t.ID}
	}
}

// blur makes the verdicts on missing and on invisible things the same, in words and in time.
func blur(ctx context.Context, p policy.Principal, started time.Time, err error) error {
	if err == nil {
		return nil
	}
	kind := errkind.Of(err)
	if kind != errkind.NotFound && kind != errkind.Unauthorized {
		return err
	}
	timer := time.NewTimer(denialQuantum - time.Since(started)%denialQuantum)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return missing(p)
}

// repoResource is a repository as policy sees it, for a decision about one principal.
func (s *Server) repoResource(ctx context.Context, p policy.Principal, r control.Repo) (res policy.Resource, err error) {
	standing, err := s.control.Standing(ctx, r.Tenant)
	if err == nil {
		err = s.describe(ctx, &res, &p, &r, &standing)
	}
	return res, err
}

func (s *Server) describe(ctx context.Context, res *policy.Resource, p *policy.Principal, r *control.Repo, of *control.Standing) (err error) {
	res.Tenant, res.Rules, res.Suspended = of.Lineage, of.Rules, of.Suspended
	res.Repo, res.Public, res.Path = r.ID, r.Public, r.Path
	if r.Shared {
		res.Shared, err = s.control.SharesFor(ctx, *r, p)
	}
	return err
}

func (s *Server) tenantResource(ctx context.Context, t control.Tenant) (policy.Resource, error) {
	standing, err := s.control.Standing(ctx, t.ID)
	return policy.Resource{Tenant: standing.Lineage, Rules: standing.Rules, Suspended: standing.Suspended, Path: t.Path}, err
}

// sponsor asks whether somebody administers a tenant ("" is the server), and so governs what is below it.
func (s *Server) sponsor(ctx context.Context, p policy.Principal, t id.Tenant) error {
	if t == "" {
		return s.allowServer(p, policy.SystemAdmin)
	}
	standing, err := s.control.Standing(ctx, t)
	if err != nil {
		return err
	}
	res := policy.Resource{Tenant: standing.Lineage, Rules: standing.Rules, Suspended: standing.Suspended, Path: standing.Path}
	return verdict(&p, policy.TenantAdmin, &res)
}

// sponsored finds a tenant for somebody who governs it from above: with tenant.admin of its parent or, at the top, of the server.
func (s *Server) sponsored(ctx context.Context, p policy.Principal, ref string) (control.Tenant, error) {
	if p.Anonymous() {
		return control.Tenant{}, errAnonymous
	}
	started := time.Now()
	t, err := s.findTenant(ctx, ref)
	if err == nil && s.sponsor(ctx, p, t.Parent) != nil {
		var res policy.Resource
		if res, err = s.tenantResource(ctx, t); err == nil {
			if err = verdict(&p, policy.TenantRead, &res); err == nil { // it is theirs to see, and no more
				err = errSponsor
			}
		}
	}
	if err == nil {
		useTenant(ctx, t)
	}
	return t, blur(ctx, p, started, err)
}

// writer is a principal as the one who moves a repository's references, each of which policy is asked for.
func (s *Server) writer(ctx context.Context, p policy.Principal, r control.Repo) (protocol.Writer, error) {
	may := func(name git.RefName, how protocol.Move) error {
		res, err := s.repoResource(ctx, p, r) // anew: a push may take long, and a suspension meanwhile stops it
		switch {
		case errors.Is(err, errkind.NotFound): // the tenant is gone
			return errMissing
		case err != nil:
			return err
		}
		res.At = string(name)
		action := [...]policy.Action{protocol.Forward: policy.RefPush, protocol.Force: policy.RefForce, protocol.Delete: policy.RefDelete}[how]
		if policy.Allow(p, action, res) {
			return nil
		}
		return denial{errkind.Forbidden, "refused by policy: " + reason(policy.Explain(p, action, res))}
	}
	w := protocol.Writer{Actor: string(p.ID), May: may, Log: s.refLog(callOf(ctx), r)}
	return w, s.guardPolicies(ctx, p, r, &w)
}

// reason is what a decision's last refusal says.
func reason(d policy.Decision) string {
	for _, step := range slices.Backward(d.Steps) {
		if step.Effect == policy.Forbids {
			return step.Why
		}
	}
	return "nothing permits it"
}

// findRepo looks a repository up by its ID or TENANT/NAME.
func (s *Server) findRepo(ctx context.Context, ref string) (control.Repo, error) {
	if r, err := id.ParseRepo(ref); err == nil {
		return s.control.Repo(ctx, r)
	}
	tenant, name, ok := cutLast(ref)
	if !ok {
		return control.Repo{}, errkind.NotFound
	}
	return s.control.RepoByName(ctx, tenant, strings.TrimSuffix(name, ".git"))
}

// findTenant looks a tenant up by its ID or path.
func (s *Server) findTenant(ctx context.Context, ref string) (control.Tenant, error) {
	if t, err := id.ParseTenant(ref); err == nil {
		return s.control.Tenant(ctx, t)
	}
	return s.control.TenantByPath(ctx, ref)
}

// cutLast splits a path before its last segment.
func cutLast(path string) (head, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 || i == len(path)-1 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}

// open opens a repository that the caller was found to have access to. One deleted meanwhile, or whose cell another node
// has, is missing.
func (s *Server) open(ctx context.Context, r control.Repo) (*router.Repo, error) {
	cell, err := s.router.Repo(ctx, r.Tenant, r.ID)
	if err != nil && errkind.Of(err) == errkind.NotFound {
		err = errMissing // the error itself names files
	}
	return cell, err
}
