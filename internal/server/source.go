package server

import (
	"context"
	"fmt"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
)

// guardPolicies sees to it that a push judges and applies the policies that live in the repository: see control.PolicySource.
func (s *Server) guardPolicies(ctx context.Context, p policy.Principal, r control.Repo, w *protocol.Writer) error {
	sources, err := s.control.PolicySources(ctx, r)
	if err != nil || len(sources) == 0 {
		return err
	}
	var changed []control.PolicySource
	w.Judge = func(ctx context.Context, u git.RefUpdate, objects *odb.Store) error {
		for _, src := range sources {
			if src.Ref != string(u.Name) {
				continue
			}
			touched, err := s.judgePolicy(ctx, p, src, u, objects)
			if err != nil {
				return err
			}
			if touched {
				if err := s.control.ExpectPolicy(ctx, src.Tenant); err != nil {
					return err
				}
				changed = append(changed, src)
			}
		}
		return nil
	}
	w.Made = func(ctx context.Context) {
		for _, src := range changed {
			src.By = p.ID
			s.logPolicy(ctx, src, s.applyPolicy(ctx, src, false))
		}
	}
	return nil
}

// judgePolicy finds out whether an update changes a document, and refuses what it may not become.
func (s *Server) judgePolicy(ctx context.Context, p policy.Principal, src control.PolicySource, u git.RefUpdate, objects *odb.Store) (changed bool, err error) {
	refuse := func(kind errkind.Kind, format string, args ...any) (bool, error) {
		return false, denial{kind, fmt.Sprintf("the policy of %s lives in %s here: ", src.TenantPath, src.Path) + fmt.Sprintf(format, args...)}
	}
	if u.New.IsZero() {
		return refuse(errkind.Forbidden, "the reference cannot be deleted while it does")
	}
	blob, err := policyBlob(objects, u.New, src.Path)
	if err != nil {
		return refuse(errkind.Invalid, "%s", problem.Explain(err))
	}
	if !u.Old.IsZero() {
		if old, err := policyBlob(objects, u.Old, src.Path); err == nil && old == blob {
			return false, nil
		}
	}
	t, err := s.control.Tenant(ctx, src.Tenant)
	if err != nil {
		return false, err
	}
	if !src.Delegated {
		res, err := s.tenantResource(ctx, t)
		if err != nil {
			return false, err
		}
		if !policy.Allow(p, policy.TenantAdmin, res) {
			return refuse(errkind.Forbidden, "to change it takes %s on %s", policy.TenantAdmin, t.Path)
		}
	}
	text, err := objects.Read(blob)
	if err != nil {
		return false, err
	}
	doc, err := policy.Parse(text.Data)
	if err == nil {
		err = doc.Inside(t.Path)
	}
	if err != nil {
		return refuse(errkind.Invalid, "%s", problem.Explain(err))
	}
	return true, nil
}

// policyBlob finds a document in a commit: a file that is no larger than one may be.
func policyBlob(objects *odb.Store, at git.OID, path string) (git.OID, error) {
	in := &snapshot{view: protocol.View{Objects: objects}}
	o, kind, err := objects.Peel(at)
	if err != nil {
		return git.OID{}, err
	}
	tree, err := in.treeOf(o, kind)
	if err != nil {
		return git.OID{}, err
	}
	e, err := in.find(tree, path)
	switch {
	case err != nil:
		return git.OID{}, err
	case e.Mode != git.ModeFile && e.Mode != git.ModeExec && e.Mode != git.ModeGroup:
		return git.OID{}, fmt.Errorf("%s is no file: %w", path, errkind.Invalid)
	}
	_, size, err := objects.Stat(e.OID)
	if err == nil && size > policy.MaxDocumentBytes {
		err = fmt.Errorf("%s has %d bytes, the limit is %d: %w", path, size, policy.MaxDocumentBytes, errkind.TooLarge)
	}
	return e.OID, err
}

// policyIn reads the document that a source has now, and in which commit.
func (s *Server) policyIn(ctx context.Context, src control.PolicySource) (text, commit string, err error) {
	cell, err := s.router.Repo(ctx, src.RepoTenant, src.Repo)
	if err != nil {
		return "", "", err
	}
	defer cell.Release()
	view := cell.View()
	ref, ok := view.Refs.Get(git.RefName(src.Ref))
	if !ok {
		return "", "", fmt.Errorf("%s is not there: push it first: %w", src.Ref, errkind.NotFound)
	}
	blob, err := policyBlob(view.Objects, ref.OID, src.Path)
	if err != nil {
		return "", "", err
	}
	obj, err := view.Objects.Read(blob)
	return string(obj.Data), ref.OID.String(), err
}

// applyPolicy makes what a source has now the tenant's document. One at a time: who reads first also writes first.
func (s *Server) applyPolicy(ctx context.Context, src control.PolicySource, all bool) error {
	s.applying <- struct{}{}
	defer func() { <-s.applying }()
	text, commit, err := s.policyIn(ctx, src)
	if err == nil {
		err = s.control.ApplyPolicy(ctx, src, text, commit, src.By)
	}
	if err == nil {
		err = s.control.SettlePolicy(ctx, src.Tenant, all)
	}
	return err
}

func (s *Server) logPolicy(ctx context.Context, src control.PolicySource, err error) {
	if err != nil {
		s.log.ErrorContext(ctx, "policy in a repository is not applied; the next push or start tries again", "tenant", src.TenantPath, "repo", src.RepoPath, "error", err)
	}
}

// ApplyPolicies applies what pushes have changed whose end nobody has seen. It is called once, before Run.
func (s *Server) ApplyPolicies(ctx context.Context) error {
	sources, err := s.control.ExpectedPolicies(ctx)
	if err != nil {
		return fmt.Errorf("apply policies of repositories: %w", err)
	}
	for _, src := range sources {
		if err := s.applyPolicy(ctx, src, true); errkind.Of(err) != errkind.NotFound { // else another node has the repository
			s.logPolicy(ctx, src, err)
		}
	}
	return nil
}
