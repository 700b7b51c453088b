package daemon_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/skep-dev/skep/internal/config/workspace"
)

// A folder may begin with rules and without a schema. Rules about the base environment count from when a schema names it.
func TestRulesOfABaseThatIsNamedLater(t *testing.T) {
	t.Parallel()
	c, w := serveDir(t, func(dir string) (*workspace.Workspace, error) {
		if err := os.MkdirAll(filepath.Join(dir, workspace.Folder), 0o700); err != nil {
			return nil, err
		}
		for name, text := range map[string]string{
			"config.toml":   "document = \"shop\"\n" + withKeys,
			"api-keys.toml": keyEntry(goodKey, "ci", "pipeline") + keyEntry(zaraKey, "zara", "human"),
			"rbac.toml": `
[role.all]
permissions = [{ actions = ["*"], resource = "*" }]
[role.production]
permissions = [{ actions = ["read", "create", "write"], resource = "service/*@production" }]
[[assignment]]
actor = "ci"
roles = ["all"]
[[assignment]]
actor = "zara"
roles = ["production"]
`,
		} {
			if err := os.WriteFile(filepath.Join(dir, workspace.Folder, name), []byte(text), 0o600); err != nil {
				return nil, err
			}
		}
		return workspace.Open(t.Context(), dir)
	})
	insert := `{"type":"insert_entity","entity_id":"service.api"}`
	zara := c.as("X-API-Key", zaraKey)
	if status, _, text := zara.do("POST", "/v1/ops", insert); status < 400 {
		t.Errorf("without a schema: %d %s", status, text)
	}
	if status, _, text := c.as("X-API-Key", goodKey).do("POST", "/v1/ops", `{"type":"change_schema","schema":`+strconv.Quote(shop)+`}`); status >= 300 {
		t.Fatalf("the schema: %d %s", status, text)
	}
	if status, _, text := zara.do("POST", "/v1/ops", insert); status >= 300 {
		t.Errorf("with one whose base is %s: %d %s", w.Service.Document().Base(), status, text)
	}
}
