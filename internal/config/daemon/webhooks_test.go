package daemon_test

import (
	"strings"
	"testing"
)

// A webhook is told all that happens: only administrators who may read every field see that there are some.
func TestWebhooksAreForAdministrators(t *testing.T) {
	t.Parallel()
	const rules = `[rbac]
default_authenticated = []

[role.all]
permissions = [{ actions = ["*"], resource = "*" }]

[role.blind]
permissions = [{ actions = ["admin", "write"], resource = "*" }, { actions = ["read"], resource = "service/*.image" }]

[role.reader]
permissions = [{ actions = ["read"], resource = "*" }]

[[assignment]]
actor = "zara"
roles = ["all"]

[[assignment]]
actor = "ci"
roles = ["blind"]

[[assignment]]
actor = "eve"
roles = ["reader"]
`
	c, _ := serve(t, map[string]string{"rbac.toml": rules})
	as := func(actor string) *client { return c.as("X-Conflux-Actor", actor) }
	const hook = `{"url": "https://ci.example/hook?token=hidden", "events": ["milestone"], "environments": ["production"]}`
	made := as("zara").ok("POST", "/v1/webhooks", hook)
	secret, id := made["secret"].(string), made["id"].(string)
	if !strings.HasPrefix(secret, "whsec_") || made["created_by"] != "human:zara" || made["created_at"] == "" {
		t.Errorf("made %v", made)
	}
	for _, path := range []string{"/v1/webhooks", "/v1/webhooks/" + id, "/v1/webhooks/" + id + "/deliveries"} {
		if status, _, text := as("zara").do("GET", path, ""); status != 200 || strings.Contains(text, secret) || strings.Contains(text, "whsec") {
			t.Errorf("GET %s: %d %s", path, status, text)
		}
	}
	for _, actor := range []string{"ci", "eve", "nobody"} {
		for _, ask := range [][3]string{
			{"POST", "/v1/webhooks", hook},
			{"GET", "/v1/webhooks", ""},
			{"GET", "/v1/webhooks/" + id, ""},
			{"GET", "/v1/webhooks/" + id + "/deliveries", ""},
			{"POST", "/v1/webhooks/" + id + "/redeliver", "{}"},
			{"POST", "/v1/webhooks/" + id + "/enable", ""},
			{"DELETE", "/v1/webhooks/" + id, ""},
		} {
			if status, _, text := as(actor).do(ask[0], ask[1], ask[2]); status != 403 || strings.Contains(text, "ci.example") {
				t.Errorf("%s: %s %s: %d %s", actor, ask[0], ask[1], status, text)
			}
		}
	}
	enabled := as("zara").ok("POST", "/v1/webhooks/"+id+"/enable", "")
	if enabled["id"] != id || enabled["secret"] != nil {
		t.Errorf("enabled %v", enabled)
	}
	if status, _, text := as("zara").do("DELETE", "/v1/webhooks/"+id, ""); status != 204 || text != "" {
		t.Errorf("DELETE: %d %q", status, text)
	}
	if status, _, text := as("zara").do("GET", "/v1/webhooks/"+id, ""); status != 404 {
		t.Errorf("after its removal: %d %s", status, text)
	}
}

func TestWebhookMistakes(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	for name, tt := range map[string]struct{ text, want string }{
		"no address":          {`{}`, "url: it is https://HOST/PATH"},
		"another scheme":      {`{"url": "file:///etc/passwd"}`, "url: it is https://HOST/PATH"},
		"with a password":     {`{"url": "https://me:pass@ci.example/"}`, "without a user name and password"},
		"unknown event":       {`{"url": "https://ci.example/", "events": ["push"]}`, `event \"push\": there are operation, promotion, conflict, violation, milestone`},
		"broken pattern":      {`{"url": "https://ci.example/", "entities": ["a["]}`, "write a name, with *"},
		"broken event":        {`{"url": "https://ci.example/", "events": ["a["]}`, "write a name, with *"},
		"a short secret":      {`{"url": "https://ci.example/", "secret": "short"}`, "24 to 200 printable"},
		"an unknown format":   {`{"url": "https://ci.example/", "format": "gitlab"}`, "github"},
		"an unknown property": {`{"url": "https://ci.example/", "header": "x"}`, `unknown field`},
	} {
		if status, _, text := c.do("POST", "/v1/webhooks", tt.text); status != 422 || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %s, want %s", name, status, text, tt.want)
		}
	}
	if list := c.ok("GET", "/v1/webhooks", "")["webhooks"].([]any); len(list) != 0 {
		t.Errorf("there are %v", list)
	}
}
