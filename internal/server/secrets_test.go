package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// TestSecretsStaySecret: an owner sets, lists, restores and deletes; no answer, error or log line has a value, and who is no
// owner learns nothing, not even names.
func TestSecretsStaySecret(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.control.CreateTenant(ctx, "acme"))(t)
	other := result(s.control.CreateTenant(ctx, "other"))(t)
	olga := s.member("olga", acme.ID, policy.Owner)
	wim := s.member("wim", acme.ID, policy.Writer)
	mallory := s.member("mallory", other.ID, policy.Owner)
	s.repo("acme", "api", client.Private)
	s.repo("acme", "open", client.Public)
	var said strings.Builder
	do := func(method, path, token, body string) (int, string) {
		resp, text := s.do(method, "/api/v2"+path, token, strings.NewReader(body), "Content-Type", "application/json")
		said.WriteString(text)
		for _, v := range resp.Header {
			said.WriteString(strings.Join(v, " "))
		}
		return resp.StatusCode, text
	}
	const value = "s3cret-hunter2"
	for _, owner := range []string{"/tenants/acme", "/repos/acme%2Fapi"} {
		for _, tt := range []struct {
			who, token    string
			member, guest int // what is answered about acme, or without a credential
		}{{"olga", olga, 200, 0}, {"wim", wim, 403, 0}, {"mallory", mallory, 404, 0}, {"nobody", "", 401, 0}} {
			for _, req := range []struct{ method, path, body string }{
				{"PUT", owner + "/secrets/TOKEN", `{"value": "` + value + `"}`},
				{"PUT", owner + "/secrets/TOKEN", `{"value": "` + value + `-two"}`},
				{"GET", owner + "/secrets", ""},
				{"POST", owner + "/secrets/TOKEN/restore", `{"version": 1}`},
				{"DELETE", owner + "/secrets/TOKEN", ""},
				{"PUT", owner + "/secrets/TOKEN", `{"value": "` + value + `"}`},
			} {
				status, text := do(req.method, req.path, tt.token, req.body)
				if want := tt.member; status/100 != want/100 || want != 200 && status != want {
					t.Errorf("%s: %s %s = %d %s, want %d", tt.who, req.method, req.path, status, text, want)
				}
				if tt.who != "olga" && strings.Contains(text, "TOKEN") {
					t.Errorf("%s learns a name: %s", tt.who, text)
				}
			}
		}
	}
	// A repository that all may read keeps its secrets' names.
	for who, tt := range map[string]struct {
		token  string
		status int
	}{"mallory": {mallory, 403}, "nobody": {"", 401}} {
		if status, text := do("GET", "/repos/acme%2Fopen/secrets", tt.token, ""); status != tt.status {
			t.Errorf("%s: secrets of a public repository = %d %s", who, status, text)
		}
	}
	// What is refused is not repeated.
	for name, body := range map[string]string{
		"lower":     `{"value": "` + value + `"}`,
		"TOO_MUCH":  `{"value": "` + value + strings.Repeat("x", 49152) + `"}`,
		"WIDE":      `{"value": "` + value + strings.Repeat("\u00e4", 49000) + `"}`,
		"NOT_JSON":  `{"value": "` + value,
		"NO_TEXT":   `{"value": ["` + value + `"]}`,
		"MORE":      `{"value": "x", "more": "` + value + `"}`,
		"NO_OBJECT": `"` + value + `"`,
		"EMPTY":     `{"value": ""}`,
		"NO_VALUE":  `{"valeu": "` + value + `"}`,
	} {
		if status, text := do("PUT", "/tenants/acme/secrets/"+name, olga, body); status < 400 || status >= 500 {
			t.Errorf("%s = %d %s", name, status, text)
		}
	}
	if status, text := do("POST", "/tenants/acme/secrets/TOKEN/restore", olga, `{"version": 99}`); status != http.StatusNotFound {
		t.Errorf("restore of what is not there = %d %s", status, text)
	}
	if strings.Contains(said.String(), "hunter2") {
		t.Error("an answer has the value")
	}
	if strings.Contains(s.log.String(), "hunter2") {
		t.Error("the log has the value")
	}
}

// TestSecretsByDocument: a policy gives and takes single secrets.
func TestSecretsByDocument(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.control.CreateTenant(ctx, "acme"))(t)
	olga := s.member("olga", acme.ID, policy.Owner)
	agent := s.member("agent", acme.ID, policy.Guest)
	s.repo("acme", "api", client.Private)
	of := client.SecretsOfRepo("acme/api")
	_, err := s.api(agent).SetSecret(ctx, of, "CI_TOKEN", "s3cret")
	wantKind(t, "without a document", err, errkind.NotFound)
	result(s.control.SetPolicy(ctx, acme.ID, `
[role.rotator]
permissions = [ { actions = ["write"], resource = "secret/acme/api/CI_*" } ]
[[assignment]]
actor = "agent"
roles = ["rotator"]
[[deny]]
actions = ["write"]
resource = "secret/acme/*ROOT*"
`, -1, "usr_1"))(t)
	result(s.api(agent).SetSecret(ctx, of, "CI_TOKEN", "s3cret"))(t)
	_, err = s.api(agent).SetSecret(ctx, of, "DEPLOY_KEY", "s3cret")
	wantKind(t, "another name", err, errkind.NotFound) // which the agent may not see
	_, err = s.api(agent).SetSecret(ctx, client.SecretsOfTenant("acme"), "CI_TOKEN", "s3cret")
	wantKind(t, "the tenant's", err, errkind.NotFound)
	_, err = s.api(agent).Secrets(ctx, of)
	wantKind(t, "names", err, errkind.NotFound)
	for resource, want := range map[string]bool{
		"secret/acme/api/CI_TOKEN": true, "secret/ACME/Api/CI_X": true, "secret/acme/api/KEY": false, "secret/acme/CI_TOKEN": false,
	} {
		d := result(s.api(olga).CheckPolicy(ctx, client.CheckPolicy{Principal: "agent", Action: policy.SecretWrite, Resource: resource}))(t)
		if d.Allowed != want {
			t.Errorf("check of %s: %+v", resource, d)
		}
	}
	_, err = s.api(agent).CheckPolicy(ctx, client.CheckPolicy{Action: policy.SecretWrite, Resource: "secret/acme/api/CI_TOKEN"})
	wantKind(t, "check of what may not be seen", err, errkind.NotFound)
	_, err = s.api(olga).SetSecret(ctx, of, "ROOT_CA", "s3cret")
	wantKind(t, "what is denied", err, errkind.Forbidden)
	list := result(s.api(olga).Secrets(ctx, of))(t)
	got := []string{}
	for _, x := range list {
		got = append(got, x.Name)
	}
	if diff := cmp.Diff([]string{"CI_TOKEN"}, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
