package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/server"
)

// policyText is a document that is told from others by its number.
func policyText(n int) string { return fmt.Sprintf("# %d\n[policy]\nversion = 1\n", n) }

// sourced makes tenant acme, whose policy lives in the repository acme/rules.
func sourced(t *testing.T, s *site) control.Tenant {
	t.Helper()
	acme := result(s.control.CreateTenant(t.Context(), "acme"))(t)
	s.repo("acme", "rules", client.Private)
	s.commitPolicy(policyText(0))
	result(s.api(s.admin).SetPolicySource(t.Context(), "acme", client.SetPolicySource{Repo: "acme/rules", Ref: "refs/heads/main", Path: "policy.toml"}))(t)
	return acme
}

func (s *site) commitPolicy(text string) {
	s.t.Helper()
	result(s.api(s.admin).CreateCommit(s.t.Context(), "acme/rules", client.CreateCommit{
		Branch: "main", Message: "rules", Changes: []client.Change{{Path: "policy.toml", Content: &text}},
	}))(s.t)
}

func (s *site) wantPolicy(what, text string) {
	s.t.Helper()
	p := result(s.api(s.admin).Policy(s.t.Context(), "acme"))(s.t)
	if p.Document != text {
		s.t.Errorf("%s: the policy is %q, want %q", what, p.Document, text)
	}
}

// TestPolicyAfterACrash: a push was durable, and the server died before the policy was in effect. Its next start sees to it.
func TestPolicyAfterACrash(t *testing.T) {
	s := startSite(t, server.Options{})
	acme := sourced(t, s)
	src := result(s.control.PolicySources(t.Context(), result(s.control.RepoByName(t.Context(), "acme", "rules"))(t)))(t)[0]
	s.commitPolicy(policyText(1))
	s.wantPolicy("after a commit", policyText(1))
	if err := s.server.ApplyPolicies(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.control.ApplyPolicy(t.Context(), src, policyText(0), src.Commit, src.By); err != nil { // as before the push
		t.Fatal(err)
	}
	if err := s.server.ApplyPolicies(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantPolicy("with no push under way", policyText(0))
	if err := s.control.ExpectPolicy(t.Context(), acme.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.server.ApplyPolicies(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantPolicy("after a start", policyText(1))
	if left := result(s.control.ExpectedPolicies(t.Context()))(t); len(left) != 0 {
		t.Errorf("still expected: %+v", left)
	}
}

// TestPolicyPushesAtOnce: of many pushes at once the one that the repository ends with counts.
func TestPolicyPushesAtOnce(t *testing.T) {
	s := startSite(t, server.Options{})
	sourced(t, s)
	dir := t.TempDir()
	git(t, dir, "clone", "-q", s.remote(s.admin, "acme/rules"), ".")
	const pushes = 8
	for i := range pushes {
		git(t, dir, "checkout", "-q", "-B", fmt.Sprint("b", i), "origin/main")
		if err := os.WriteFile(filepath.Join(dir, "policy.toml"), []byte(policyText(i+1)), 0o600); err != nil {
			t.Fatal(err)
		}
		git(t, dir, "commit", "-q", "-a", "-m", "rules")
	}
	var wg sync.WaitGroup
	for i := range pushes {
		wg.Go(func() { _, _ = tryGit(t, dir, "push", "-q", "--force", "origin", fmt.Sprintf("b%d:main", i)) }) // some come too late
	}
	wg.Wait()
	git(t, dir, "fetch", "-q", "origin")
	s.wantPolicy("after all", git(t, dir, "show", "origin/main:policy.toml")+"\n")
	if left := result(s.control.ExpectedPolicies(t.Context()))(t); len(left) != 0 {
		t.Errorf("still expected: %+v", left)
	}
	if strings.Contains(s.log.String(), "is not applied") {
		t.Error("the log has a policy that was not applied")
	}
}
