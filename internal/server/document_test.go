package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/webhook"
)

const shopSchema = `name = "shop"

[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]

[entity.service.fields]
replicas = { type = "int", merge = "max" }
image = { type = "string", merge = "lww" }
`

// config asks something of the document default/shop and reads the answer.
func (s *site) config(token, method, path, body string, header ...string) (int, string) {
	s.t.Helper()
	if body != "" {
		header = append(header, "Content-Type", "application/json")
	}
	resp, text := s.do(method, "/api/v2/tenants/default/config/shop"+path, token, strings.NewReader(body), header...)
	return resp.StatusCode, text
}

// shop makes the document default/shop with one service in it.
func (s *site) shop(m *client.DocumentMilestones) client.Document {
	s.t.Helper()
	d := result(s.api(s.admin).CreateDocument(s.t.Context(), "default", client.CreateDocument{Name: "shop", Schema: shopSchema, Milestones: m}))(s.t)
	insert := `{"type": "insert_entity", "entity_id": "service.api", "fields": {"replicas": 2, "image": "api:1"}, "intent": "begin"}`
	if status, text := s.config(s.admin, "POST", "/ops", insert); status != http.StatusCreated {
		s.t.Fatalf("insert = %d %s", status, text)
	}
	return d
}

func (s *site) defaultTenant() control.Tenant {
	s.t.Helper()
	return result(s.control.TenantByPath(s.t.Context(), "default"))(s.t)
}

const setImage = `{"type": "set_field", "entity_id": "service.api", "field": "image", "value": "api:2"}`

// TestDocumentsOfTenants: who may do what with one, by the built-in roles.
func TestDocumentsOfTenants(t *testing.T) {
	s := startSite(t, server.Options{})
	shop := s.shop(nil)
	if _, err := id.ParseDocument(shop.ID); err != nil || shop.Tenant != "default" || shop.Name != "shop" || shop.Milestones != nil {
		t.Errorf("created %+v, %v", shop, err)
	}
	tenant := s.defaultTenant().ID
	owner, writer, reader := s.member("olga", tenant, policy.Owner), s.member("wim", tenant, policy.Writer), s.member("rita", tenant, policy.Reader)
	_, stranger := s.person("sam")
	readOnly := s.token(control.Token{Principal: result(s.control.PrincipalByName(t.Context(), "wim"))(t).ID, Scope: policy.ScopeRead})

	for _, tt := range []struct {
		what                 string
		method, path, body   string
		owner, writer        int
		reader, limited, out int // limited is a writer with a token that only reads
	}{
		{"look", "GET", "", "", 200, 200, 200, 200, 404},
		{"read", "GET", "/state", "", 200, 200, 200, 200, 404},
		{"write", "POST", "/ops", setImage, 201, 201, 403, 403, 404},
		{"history", "GET", "/log", "", 200, 200, 200, 200, 404},
		{"change the schema", "POST", "/ops", `{"type": "change_schema", "schema": ` + quote(shopSchema+"port = { type = \"int\" }\n") + `}`, 201, 403, 403, 403, 404},
		{"rename", "PATCH", "", `{"name": "shop"}`, 200, 403, 403, 403, 404},
		{"export", "GET", "/audit/export", "", 200, 403, 403, 403, 404},
		{"what is not there", "GET", "/../none", "", 404, 404, 404, 404, 404},
	} {
		path := tt.path
		for who, want := range map[string]int{owner: tt.owner, writer: tt.writer, reader: tt.reader, readOnly: tt.limited, stranger: tt.out, "": 401} {
			status, text := 0, ""
			if strings.HasPrefix(path, "/..") {
				resp, body := s.do(tt.method, "/api/v2/tenants/default/config/none", who, nil)
				status, text = resp.StatusCode, body
			} else {
				status, text = s.config(who, tt.method, path, tt.body)
			}
			if status != want {
				t.Errorf("%s by %q = %d, want %d: %s", tt.what, s.nameOf(who), status, want, text)
			}
		}
	}

	list := result(s.api(reader).Documents(t.Context(), "default", "", 10))(t)
	if len(list.Items) != 1 || list.Items[0].ID != shop.ID {
		t.Errorf("listed %+v", list)
	}
	_, err := s.api(stranger).Documents(t.Context(), "default", "", 10)
	wantKind(t, "a stranger's list", err, errkind.NotFound)
	_, err = s.api(writer).CreateDocument(t.Context(), "default", client.CreateDocument{Name: "own", Schema: shopSchema})
	wantKind(t, "a writer's own document", err, errkind.Forbidden)
	_, err = s.api(owner).CreateDocument(t.Context(), "default", client.CreateDocument{Name: "Shop", Schema: shopSchema})
	wantKind(t, "a name that is taken", err, errkind.Exists)
	_, err = s.api(owner).CreateDocument(t.Context(), "default", client.CreateDocument{Name: "bad", Schema: "[entity"})
	wantKind(t, "a schema that is none", err, errkind.Invalid)
	_, err = s.api(owner).DocumentByName(t.Context(), "default", "bad")
	wantKind(t, "the document of that", err, errkind.NotFound)

	wantKind(t, "a writer deletes", s.api(writer).DeleteDocument(t.Context(), "default", "shop"), errkind.Forbidden)
	if err := s.api(owner).DeleteDocument(t.Context(), "default", shop.ID); err != nil {
		t.Fatal(err)
	}
	if status, text := s.config(owner, "GET", "/state", ""); status != http.StatusNotFound {
		t.Errorf("read what is deleted = %d %s", status, text)
	}
	s.shop(nil) // the name is free
}

// nameOf is a token's owner, for messages.
func (s *site) nameOf(token string) string {
	if token == "" {
		return "nobody"
	}
	who, err := s.api(token).Whoami(s.t.Context())
	if err != nil {
		return "?"
	}
	return who.Name
}

func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestPolicyOfDocuments: a tenant's policy says who may do what with which field in which environment.
func TestPolicyOfDocuments(t *testing.T) {
	s := startSite(t, server.Options{})
	s.shop(nil)
	tenant := s.defaultTenant()
	scaler := s.member("scaler", tenant.ID, policy.Guest)
	const text = `[policy]
version = 1

[role.scaler]
permissions = [
  { actions = ["config.read", "config.write"], resource = "config/service/*.replicas@staging" },
]

[[assignment]]
actor = "scaler"
roles = ["scaler"]
`
	if _, err := s.api(s.admin).SetPolicy(t.Context(), "default", client.SetPolicy{Document: text}); err != nil {
		t.Fatal(err)
	}
	set := func(field, env, value string) string {
		return fmt.Sprintf(`{"type": "set_field", "entity_id": "service.api", "field": %q, "env": %q, "value": %s}`, field, env, value)
	}
	for _, tt := range []struct {
		what, body string
		want       int
	}{
		{"replicas in staging", set("replicas", "staging", "5"), 201},
		{"replicas in production", set("replicas", "production", "5"), 404},
		{"replicas of the base", set("replicas", "", "5"), 404},
		{"the image in staging", set("image", "staging", `"api:9"`), 404},
	} {
		if status, text := s.config(scaler, "POST", "/ops", tt.body); status != tt.want {
			t.Errorf("%s = %d, want %d: %s", tt.what, status, tt.want, text)
		}
	}
	if _, text := s.config(scaler, "GET", "/state?env=staging", ""); !strings.Contains(text, `"replicas"`) || strings.Contains(text, "api:1") {
		t.Errorf("the state of who may read replicas only: %s", text)
	}
	if status, text := s.config(scaler, "GET", "/log", ""); status != 200 || strings.Contains(text, "api:1") || !strings.Contains(text, `"id":"scaler"`) {
		t.Errorf("their log = %d %s", status, text)
	}
	resp, _ := s.do("GET", "/api/v2/tenants/default/config/shop/state?env=staging", scaler, nil)
	etag := resp.Header.Get("ETag")
	if resp, _ := s.do("GET", "/api/v2/tenants/default/config/shop/state?env=staging", scaler, nil, "If-None-Match", etag); resp.StatusCode != http.StatusNotModified {
		t.Errorf("the same again = %d, want 304", resp.StatusCode)
	}
	// With another policy the same version looks different.
	if _, err := s.api(s.admin).SetPolicy(t.Context(), "default", client.SetPolicy{Document: strings.ReplaceAll(text, ".replicas", "")}); err != nil {
		t.Fatal(err)
	}
	if resp, text := s.do("GET", "/api/v2/tenants/default/config/shop/state?env=staging", scaler, nil, "If-None-Match", etag); resp.StatusCode != http.StatusOK || !strings.Contains(text, "api:1") {
		t.Errorf("with another policy = %d %s", resp.StatusCode, text)
	}
}

// TestWatchOfDocuments: a stream ends when its credential does, and when the server stops.
func TestWatchOfDocuments(t *testing.T) {
	s := startSite(t, server.Options{})
	s.shop(nil)
	watch := func(token string) *bufio.Reader {
		req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v2/tenants/default/config/shop/watch?initial=true", nil))(t)
		req.SetBasicAuth("any", token)
		resp := result(http.DefaultClient.Do(req))(t)
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("watch = %d", resp.StatusCode)
		}
		return bufio.NewReader(resp.Body)
	}
	until := func(in *bufio.Reader, want string) {
		t.Helper()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("the stream ended with %v before %s", err, want)
			}
			if strings.Contains(line, want) {
				return
			}
		}
	}
	in := watch(s.admin)
	until(in, "api:1")
	if status, text := s.config(s.admin, "POST", "/ops", setImage); status != http.StatusCreated {
		t.Fatalf("write = %d %s", status, text)
	}
	until(in, "api:2")
	s.stop()
	for {
		if _, err := in.ReadString('\n'); err != nil {
			break // in time for Run to end without cutting it off, which startSite's end looks at
		}
	}
}

// TestMilestonesOfDocuments: they go to a repository of this server, by who may write there.
func TestMilestonesOfDocuments(t *testing.T) {
	s := startSite(t, server.Options{})
	target := s.repo("default", "shop-config", client.Private)
	tenant := s.defaultTenant()
	d := s.shop(&client.DocumentMilestones{Repo: "default/shop-config", Branch: "config"})
	if d.Milestones == nil || d.Milestones.Repo != "default/shop-config" || d.Milestones.Branch != "config" || d.Milestones.Format != "yaml" {
		t.Errorf("created %+v", d.Milestones)
	}
	status, text := s.config(s.admin, "POST", "/milestones", `{"message": "api begins"}`)
	if status != http.StatusCreated {
		t.Fatalf("milestone = %d %s", status, text)
	}
	dir := t.TempDir()
	git(t, dir, "clone", "-q", "-b", "config", s.remote(s.admin, "default/shop-config"), "clone")
	if log := git(t, dir+"/clone", "log", "-1", "--format=%an%n%B"); !strings.HasPrefix(log, "admin\nmilestone: api begins") || !strings.Contains(log, "[human:admin] service.api") {
		t.Errorf("commit:\n%s", log)
	}
	if file := git(t, dir+"/clone", "show", "HEAD:production/services.yaml"); !strings.Contains(file, "api:1") {
		t.Errorf("file:\n%s", file)
	}
	if status, text := s.config(s.admin, "GET", "/milestones", ""); status != 200 || !strings.Contains(text, "api begins") {
		t.Errorf("list = %d %s", status, text)
	}

	// A writer of the configuration who may not write to the repository.
	for _, deny := range []struct {
		name, rule string
		want       int
	}{
		{"may not push to the branch", "[[deny]]\nactions = [\"ref.push\"]\nresource = \"repo/default/shop-config@refs/heads/config\"\n", 403},
		{"may not write to it", "[[deny]]\nactions = [\"repo.write\"]\nresource = \"repo/default/shop-config\"\n", 403},
		{"may not read it", "[[deny]]\nactions = [\"repo.read\", \"repo.write\"]\nresource = \"repo/default/shop-config\"\n", 409},
	} {
		writer := s.member("w-"+strings.ReplaceAll(deny.name, " ", "-"), tenant.ID, policy.Writer)
		rule := "[policy]\nversion = 1\n\n" + deny.rule
		if _, err := s.api(s.admin).SetPolicy(t.Context(), "default", client.SetPolicy{Document: rule}); err != nil {
			t.Fatal(err)
		}
		if status, text := s.config(writer, "POST", "/ops", strings.ReplaceAll(setImage, "api:2", "api:"+string(rune('a'+deny.want%26)))); status != http.StatusCreated {
			t.Fatalf("write = %d %s", status, text)
		}
		if status, text := s.config(writer, "POST", "/milestones", `{"message": "mine"}`); status != deny.want || deny.want == 409 && strings.Contains(text, "shop-config") {
			t.Errorf("who %s = %d, want %d: %s", deny.name, status, deny.want, text)
		}
		if _, err := s.api(writer).DocumentByName(t.Context(), "default", "shop"); err != nil {
			t.Errorf("who %s looks: %v", deny.name, err)
		}
	}
	if _, err := s.api(s.admin).SetPolicy(t.Context(), "default", client.SetPolicy{Document: "[policy]\nversion = 1\n"}); err != nil {
		t.Fatal(err)
	}

	// The repository goes.
	if err := s.api(s.admin).DeleteRepo(t.Context(), string(target.ID)); err != nil {
		t.Fatal(err)
	}
	if status, text := s.config(s.admin, "POST", "/milestones", `{"message": "nowhere"}`); status != http.StatusConflict {
		t.Errorf("milestone without a repository = %d %s", status, text)
	}
	none := ""
	_, err := s.api(s.admin).UpdateDocument(t.Context(), "default", "shop", client.UpdateDocument{Milestones: &client.DocumentMilestones{Repo: none}})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := s.config(s.admin, "POST", "/milestones", `{"message": "nowhere"}`); status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
		t.Errorf("milestone of a document that has none = %d %s", status, text)
	}
}

// TestSuspendedDocuments: what is suspended is neither read nor written, and who watches is sent away.
func TestSuspendedDocuments(t *testing.T) {
	s := startSite(t, server.Options{})
	s.shop(nil)
	tenant := s.defaultTenant()
	owner := s.member("olga", tenant.ID, policy.Owner)
	if _, err := s.control.SuspendTenant(t.Context(), tenant.ID, true); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/state", "/log", "/watch"} {
		if status, text := s.config(owner, "GET", path, ""); status != http.StatusForbidden && status != http.StatusNotFound {
			t.Errorf("GET %s in a suspended tenant = %d %s", path, status, text)
		}
	}
	if status, text := s.config(owner, "POST", "/ops", setImage); status != http.StatusForbidden && status != http.StatusNotFound {
		t.Errorf("write in a suspended tenant = %d %s", status, text)
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		select {
		case <-t.Context().Done():
			t.Fatalf("it never came to it: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestAutomaticMilestones: a document makes them by itself, as who wanted them, for as long as they may.
func TestAutomaticMilestones(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "shop-config", client.Private)
	tenant := s.defaultTenant()
	owner := s.member("olga", tenant.ID, policy.Owner)
	s.shop(nil)
	update := func(m client.DocumentMilestones) error {
		_, err := s.api(owner).UpdateDocument(t.Context(), "default", "shop", client.UpdateDocument{Milestones: &m})
		return err
	}
	wantKind(t, "every second", update(client.DocumentMilestones{Repo: "default/shop-config", Every: "1s"}), errkind.Invalid)
	wantKind(t, "every so often", update(client.DocumentMilestones{Repo: "default/shop-config", Every: "often"}), errkind.Invalid)
	wantKind(t, "in no repository", update(client.DocumentMilestones{Repo: "default/none", After: 1}), errkind.Conflict)
	if err := update(client.DocumentMilestones{Repo: "default/shop-config", After: 1, Message: "by itself"}); err != nil {
		t.Fatal(err)
	}
	write := func(image string) {
		t.Helper()
		if status, text := s.config(owner, "POST", "/ops", strings.ReplaceAll(setImage, "api:2", image)); status != http.StatusCreated {
			t.Fatalf("write = %d %s", status, text)
		}
	}
	has := func(image string) func() bool {
		return func() bool {
			_, text := s.config(owner, "GET", "/milestones", "")
			return strings.Contains(text, image)
		}
	}
	write("api:7")
	eventually(t, "a milestone with api:7", has("api:7"))
	if _, text := s.config(owner, "GET", "/milestones", ""); !strings.Contains(text, `"message":"by itself"`) {
		t.Errorf("milestones: %s", text)
	}
	// Who wanted them goes: the next one is refused, and the status says so.
	p := result(s.control.PrincipalByName(t.Context(), "olga"))(t)
	if err := s.control.SetMember(t.Context(), tenant.ID, p.ID, policy.Reader); err != nil {
		t.Fatal(err)
	}
	if status, text := s.config(s.admin, "POST", "/ops", strings.ReplaceAll(setImage, "api:2", "api:8")); status != http.StatusCreated {
		t.Fatalf("write = %d %s", status, text)
	}
	eventually(t, "a refusal", func() bool {
		_, text := s.config(s.admin, "GET", "/status", "")
		return strings.Contains(text, "may not write to the repository for milestones")
	})
	if has("api:8")() {
		t.Error("a milestone was made by who may not")
	}
}

// TestWebhooksOfDocuments: they tell what happens, for as long as who wanted it may know, and their secrets are nowhere to be read.
func TestWebhooksOfDocuments(t *testing.T) {
	got := make(chan string, 100)
	var secret atomic.Value
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if key, _ := secret.Load().(string); err == nil {
			err = webhook.Verify(key, r.Header, body, time.Now())
		}
		if err != nil {
			t.Errorf("delivery: %v", err)
		}
		got <- string(body)
	}))
	t.Cleanup(receiver.Close)
	s := startSite(t, server.Options{})
	tenant := s.defaultTenant()
	owner, writer := s.member("olga", tenant.ID, policy.Owner), s.member("wim", tenant.ID, policy.Writer)
	s.shop(nil)
	add := fmt.Sprintf(`{"url": %q, "events": ["operation"]}`, receiver.URL)
	if status, text := s.config(writer, "POST", "/webhooks", add); status != http.StatusForbidden {
		t.Errorf("a writer's webhook = %d %s", status, text)
	}
	status, text := s.config(owner, "POST", "/webhooks", add)
	var made struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusCreated || made.Secret == "" {
		t.Fatalf("add = %d %s, %v", status, text, err)
	}
	secret.Store(made.Secret)
	if _, text := s.config(owner, "GET", "/webhooks", ""); !strings.Contains(text, made.ID) || strings.Contains(text, made.Secret) {
		t.Errorf("list: %s", text)
	}
	d := result(s.control.DocumentByName(t.Context(), tenant.ID, "shop"))(t)
	log := result(s.logs.Open(t.Context(), string(d.ID)))(t)
	for _, m := range result(log.ListMeta(t.Context(), "webhook/", "", 0))(t) {
		if strings.Contains(string(m.Value), made.Secret) || strings.Contains(string(m.Value), receiver.URL) {
			t.Errorf("%s is readable: %s", m.Key, m.Value)
		}
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if status, text := s.config(writer, "POST", "/ops", setImage); status != http.StatusCreated {
		t.Fatalf("write = %d %s", status, text)
	}
	if event := <-got; !strings.Contains(event, `"api:2"`) || !strings.Contains(event, `"wim"`) {
		t.Errorf("delivered %s", event)
	}

	// Who wanted it is no owner any more.
	p := result(s.control.PrincipalByName(t.Context(), "olga"))(t)
	if err := s.control.SetMember(t.Context(), tenant.ID, p.ID, policy.Writer); err != nil {
		t.Fatal(err)
	}
	if status, text := s.config(writer, "POST", "/ops", strings.ReplaceAll(setImage, "api:2", "api:3")); status != http.StatusCreated {
		t.Fatalf("write = %d %s", status, text)
	}
	eventually(t, "the webhook is disabled", func() bool {
		_, text := s.config(s.admin, "GET", "/webhooks/"+made.ID, "")
		return strings.Contains(text, `"disabled"`)
	})
	select {
	case event := <-got:
		t.Errorf("delivered to who may not know: %s", event)
	default:
	}
}

// TestDeniedFields is an attack: an owner from whom one field is kept tries every way to it.
func TestDeniedFields(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "theirs", client.Private)
	schema := shopSchema + `
[[entity.service.rules]]
name = "few"
check = "self.replicas < 5 || self.image == ''"
message = "too many"
`
	_, err := s.api(s.admin).CreateDocument(t.Context(), "default", client.CreateDocument{
		Name: "shop", Schema: schema, Milestones: &client.DocumentMilestones{Repo: "default/theirs"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{
		`{"type": "insert_entity", "entity_id": "service.api", "fields": {"replicas": 2, "image": "hidden:1"}}`,
		`{"type": "set_field", "entity_id": "service.api", "field": "replicas", "value": 9}`,
	} {
		if status, text := s.config(s.admin, "POST", "/ops", op); status != http.StatusCreated {
			t.Fatalf("write = %d %s", status, text)
		}
	}
	owner := s.member("olga", s.defaultTenant().ID, policy.Owner)
	const deny = "[policy]\nversion = 1\n\n[[deny]]\nactions = [\"config.read\"]\nresource = \"config/service/*.image\"\nexcept = { actors = [\"admin\"] }\n"
	if _, err := s.api(s.admin).SetPolicy(t.Context(), "default", client.SetPolicy{Document: deny}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/state", "/state/service.api", "/log", "/blame/service.api", "/violations", "/status", "/conflicts", "/watch?wait=1ms&cursor=0", "/diff?at=2000-01-01"} {
		if status, text := s.config(owner, "GET", path, ""); status != http.StatusOK || strings.Contains(text, "hidden") {
			t.Errorf("GET %s = %d %s", path, status, text)
		}
	}
	if _, text := s.config(s.admin, "GET", "/violations", ""); !strings.Contains(text, "too many") || !strings.Contains(text, "hidden:1") {
		t.Errorf("violations of who may read all: %s", text)
	}
	for _, try := range [][3]string{
		{"GET", "/audit/export", ""},
		{"GET", "/milestones", ""},
		{"POST", "/milestones", `{"message": "mine"}`},
		{"POST", "/webhooks", `{"url": "https://example.org"}`},
		{"PATCH", "", `{"milestones": {"repo": "default/theirs", "every": "1m"}}`},
		{"POST", "/ops?dry_run=true", `{"type": "set_field", "entity_id": "service.api", "field": "image", "value": "hidden:1"}`},
	} {
		if status, text := s.config(owner, try[0], try[1], try[2]); status != http.StatusForbidden || strings.Contains(text, "hidden:1") {
			t.Errorf("%s %s = %d, want 403: %s", try[0], try[1], status, text)
		}
	}
	_, err = s.api(s.admin).RestoreSecret(t.Context(), client.SecretsOfTenant("default"), "documents", 1)
	wantKind(t, "restore the key of documents", err, errkind.Invalid)
}
