package daemon_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/daemon"
	"github.com/skep-dev/skep/internal/config/workspace"
)

const (
	withKeys = "[auth]\nmode = \"api-key\"\n"
	zaraKey  = "skepc_enphcmEgaGFzIGEga2V5IG9mIGhlciBvd24gMTIzNDU2Nzg" //nolint:gosec // a test's

	hiding = `[rbac]
default_authenticated = []

[role.all]
permissions = [{ actions = ["*"], resource = "*" }]

[role.some]
permissions = [
  { actions = ["read", "write"], resource = "service/api.image" },
  { actions = ["write"], resource = "service/api.token" },
]

[[assignment]]
actor = "zara"
roles = ["all"]

[[assignment]]
actor = "ci"
roles = ["some"]
`
)

func keyEntry(key, actor, class string) string {
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf("[[keys]]\nkey_hash = \"sha256:%s\"\nactor_id = %q\nactor_class = %q\n", hex.EncodeToString(sum[:]), actor, class)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, map[string]string{"config.toml": withKeys, "api-keys.toml": keyEntry(goodKey, "ci", "pipeline")})
	op := set("service.api", "image", `"a:1"`)
	for name, as := range map[string]*client{
		"no key":               c,
		"a wrong key":          c.as("X-API-Key", "skepc_wrong"),
		"only a name":          c.as("X-Conflux-Actor", "ci"),
		"two keys":             c.as("X-API-Key", goodKey).as("Authorization", "Bearer skepc_wrong"),
		"a wrong bearer":       c.as("Authorization", "Bearer skepc_wrong"),
		"its hash for the key": c.as("X-API-Key", "sha256:"+hex.EncodeToString(func() []byte { s := sha256.Sum256([]byte(goodKey)); return s[:] }())),
	} {
		for _, path := range []string{"/v1/state", "/v1/watch", "/v1/log", "/v1/status", "/v1/schema", "/entities", "/v1/openapi.json", "/v1/none"} {
			if status, _, text := as.do("GET", path, ""); status != 401 && status != 422 {
				t.Errorf("%s: GET %s: %d %s", name, path, status, text)
			}
		}
		if status, _, text := as.do("POST", "/v1/ops", op); status != 401 && status != 422 {
			t.Errorf("%s: POST: %d %s", name, status, text)
		}
	}
	if status, _, _ := c.do("GET", "/health", ""); status != 200 {
		t.Errorf("/health without a key: %d", status)
	}
	// Who has a key is its actor, whatever they say to be.
	liar := c.as("X-API-Key", goodKey).as("X-Conflux-Actor", "zara").as("X-Actor", "zara").as("X-Conflux-Actor-Class", "human")
	liar.ok("POST", "/v1/ops", op)
	last := liar.ok("GET", "/v1/log", "")["operations"].([]any)[0].(map[string]any)["actor"].(map[string]any)
	if last["id"] != "ci" || last["class"] != "pipeline" {
		t.Errorf("the log says that it was %v", last)
	}
}

func TestGuessing(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, map[string]string{"config.toml": withKeys, "api-keys.toml": keyEntry(goodKey, "ci", "pipeline")})
	for i := range 200 {
		status, h, _ := c.as("X-API-Key", fmt.Sprint("guess-", i)).do("GET", "/v1/state", "")
		if status == http.StatusTooManyRequests {
			if h.Get("Retry-After") == "" {
				t.Error("429 does not say when to come again")
			}
			return
		}
	}
	t.Error("200 wrong keys, and nobody minded")
}

// What rules hide is in no answer.
func TestHidden(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, map[string]string{
		"config.toml": withKeys, "rbac.toml": hiding,
		"api-keys.toml": keyEntry(goodKey, "ci", "pipeline") + keyEntry(zaraKey, "zara", "human"),
	})
	zara, ci := c.as("X-API-Key", zaraKey), c.as("X-API-Key", goodKey)
	seen := zara.ok("POST", "/v1/ops", set("service.api", "image", `"a:1"`))["version"].(string)
	zara.ok("POST", "/v1/ops", set("service.api", "token", `"hunter2"`))
	zara.ok("POST", "/v1/ops", set("service.secret", "image", `"hunter2"`))
	zara.ok("POST", "/v1/ops", `{"type":"set_field","entity_id":"service.api","field":"token","value":"hunter2","env":"staging","intent":"hunter2"}`)
	for _, path := range []string{
		"/v1/state", "/v1/state/service.api", "/v1/state/service.secret", "/v1/envs/staging/state", "/v1/log", "/v1/log/service.api", "/v1/log/service.secret",
		"/v1/blame/service.api", "/v1/blame/service.api?field=token", "/v1/blame/service.secret", "/v1/envs/diff?from=production&to=staging", "/v1/conflicts",
		"/v1/violations", "/v1/status", "/v1/watch?cursor=0&wait=0s", "/v1/watch?initial=true&wait=0s", "/entities", "/entities/service.secret", "/v1/schema",
	} {
		if _, h, text := ci.do("GET", path, ""); strings.Contains(text, "hunter2") || strings.Contains(text, "service.secret\",\"type") || strings.Contains(fmt.Sprint(h), "hunter2") {
			t.Errorf("GET %s tells: %s", path, text)
		}
	}
	for _, op := range []string{
		set("service.api", "token", `"x"`),
		`{"type":"set_field","entity_id":"service.api","field":"token","value":"x","base":"` + seen + `","expect":true}`,
		`{"type":"promote","from":"staging","to":"production"}`,
		`{"type":"resolve_conflict","entity_id":"service.api","field":"token","chosen_value":"x"}`,
	} {
		for _, query := range []string{"?dry_run=true", ""} {
			if _, _, text := ci.do("POST", "/v1/ops"+query, op); strings.Contains(text, "hunter2") {
				t.Errorf("POST %s %s tells: %s", query, op, text)
			}
		}
	}
	// An entity that may not be seen and one that is not there are the same.
	for _, ask := range []func(id string) (int, string){
		func(id string) (int, string) { s, _, text := ci.do("GET", "/v1/state/"+id, ""); return s, text },
		func(id string) (int, string) { s, _, text := ci.do("GET", "/v1/blame/"+id, ""); return s, text },
		func(id string) (int, string) {
			s, _, text := ci.do("POST", "/v1/ops", set(id, "image", `"x"`))
			return s, text
		},
		func(id string) (int, string) {
			s, _, text := ci.do("POST", "/v1/ops", `{"type":"remove_entity","entity_id":"`+id+`"}`)
			return s, text
		},
	} {
		s1, hidden := ask("service.secret")
		s2, missing := ask("service.zecret")
		if s1 != s2 || hidden != strings.ReplaceAll(missing, "zecret", "secret") {
			t.Errorf("hidden: %d %s\nmissing: %d %s", s1, hidden, s2, missing)
		}
	}
	if status, _, text := ci.do("POST", "/v1/ops", `{"type":"change_schema","schema":"name = \"x\""}`); status != 403 {
		t.Errorf("a schema of somebody who may not: %d %s", status, text)
	}
	if status, _, text := zara.do("POST", "/v1/ops", `{"type":"change_schema","schema":`+quoteJSON(shop)+`}`); status/100 != 2 {
		t.Errorf("the administrator's schema: %d %s", status, text)
	}
}

func quoteJSON(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// A page in a browser on the same machine reaches the daemon, and writes nothing.
func TestPages(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	op := set("service.api", "image", `"a:1"`)
	if status, _, _ := c.as("Origin", "https://evil.example").as("Sec-Fetch-Site", "cross-site").do("POST", "/v1/ops", op); status != 403 {
		t.Errorf("another site's page: %d", status)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/v1/state", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a site's name that leads here: %d", resp.StatusCode)
	}
}

// Without credentials only this machine may reach a daemon.
func TestListen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"": false, "[auth]\nallow_unauthenticated = true\n": true, withKeys: true} {
		w, err := workspace.Init(t.Context(), t.TempDir(), "shop", shop)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		if err := os.WriteFile(w.File("config.toml"), []byte("document = \"shop\"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(w.File("api-keys.toml"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := daemon.New(w, daemon.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := d.Listen(t.Context(), "0.0.0.0:0")
		if (err == nil) != want {
			t.Errorf("with %q: %v", text, err)
		}
		if err == nil {
			_ = ln.Close()
		}
	}
}

// What was taken away is refused soon, also to who watches.
func TestRevoked(t *testing.T) {
	t.Parallel()
	c, w := serve(t, map[string]string{"config.toml": withKeys, "api-keys.toml": keyEntry(goodKey, "ci", "pipeline")})
	ci := c.as("X-API-Key", goodKey)
	s := ci.watch("/v1/watch")
	if err := os.WriteFile(w.File("api-keys.toml"), []byte(keyEntry(zaraKey, "zara", "human")), 0o600); err != nil {
		t.Fatal(err)
	}
	if line, more := <-s; more {
		t.Errorf("whose key was taken away still gets %s", line)
	}
	if status, _, _ := ci.do("GET", "/v1/state", ""); status != 401 {
		t.Errorf("a key that was taken away: %d", status)
	}
	if status, _, _ := c.as("X-API-Key", zaraKey).do("GET", "/v1/state", ""); status != 200 {
		t.Errorf("a new key: %d", status)
	}
	// A file that is wrong or gone changes nothing.
	_ = os.Remove(w.File("api-keys.toml"))
	if status, _, _ := c.as("X-API-Key", zaraKey).do("GET", "/v1/state", ""); status != 200 {
		t.Errorf("a key whose file is gone: %d", status)
	}
}
