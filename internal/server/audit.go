package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/problem"
)

// intentOption is how a push says why: git push -o intent="…".
const intentOption = "intent="

// refLog writes down what a call does to a repository's references: before, since it happens in another database.
func (s *Server) refLog(c *call, r control.Repo) func(context.Context, []git.RefUpdate, protocol.UpdateOptions) (func([]git.RefUpdate, error), error) {
	return func(ctx context.Context, updates []git.RefUpdate, opts protocol.UpdateOptions) (func([]git.RefUpdate, error), error) {
		o := c.origin()
		for _, option := range opts.PushOptions {
			if why, ok := strings.CutPrefix(option, intentOption); ok {
				o.Intent = why
			}
		}
		ctx = audit.With(ctx, o)
		undone := func(updates []git.RefUpdate, why error) {
			err := s.control.Audit(context.WithoutCancel(ctx), refEntries(r, updates, audit.Failed, ": "+problem.Explain(why))...)
			if err != nil {
				s.log.WarnContext(ctx, "the audit log does not say that updates of references have failed", "request_id", c.id, "error", err)
			}
		}
		return undone, s.control.Audit(ctx, refEntries(r, updates, audit.Begun, certificate(opts.Cert))...)
	}
}

func refEntries(r control.Repo, updates []git.RefUpdate, how audit.Outcome, why string) []audit.Entry {
	entries := make([]audit.Entry, len(updates))
	for i, u := range updates {
		action := "ref.push"
		if u.New.IsZero() {
			action = "ref.delete"
		}
		entries[i] = audit.Entry{
			Action: action, Tenant: string(r.Tenant), Resource: "repo/" + r.Path + "@" + string(u.Name),
			Outcome: how, Detail: u.Old.String() + " " + u.New.String() + why,
		}
	}
	return entries
}

// certificate says what was thought of a push's certificate.
func certificate(c *protocol.PushCert) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf(", signed: %s %s %s, nonce %s, certificate %s", c.Signature.Status, c.Signature.Key, c.Signature.Signer, c.NonceStatus, c.Blob())
}

// logSetting writes down that a repository's settings are about to be changed, for the same reason.
func (s *Server) logSetting(ctx context.Context, r control.Repo, what string) error {
	return s.control.Audit(ctx, audit.Entry{
		Action: "repo.settings", Tenant: string(r.Tenant), Resource: "repo/" + r.Path, Outcome: audit.Begun, Detail: what,
	})
}
