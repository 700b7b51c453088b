package access_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/policy"
)

// The examples in docs/reference/config-security.md are good ones.
func TestReference(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "reference", "config-security.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, s := range strings.Split(string(text), "```toml\n")[1:] {
		block, _, _ := strings.Cut(s, "```")
		blocks = append(blocks, block)
	}
	if len(blocks) != 3 {
		t.Fatalf("%d examples", len(blocks))
	}
	rules := load(t, blocks[0])
	e := rules.Explain(config.Actor{ID: "alice", Class: config.Human}, policy.ConfigWrite, access.Resource{Entity: "service.api", Env: "staging"}).String()
	_, shown, _ := strings.Cut(string(text), "```\nALLOWED: ")
	shown, _, _ = strings.Cut(shown, "  …\n")
	if shown == "" || !strings.HasPrefix(e, "ALLOWED: "+shown) {
		t.Errorf("%s\nis explained otherwise:\n%s", shown, e)
	}
	if _, err := access.LoadAPIKeys([]byte(blocks[1])); err != nil {
		t.Error(err)
	}
	if _, err := access.LoadAuth([]byte(blocks[2])); err != nil {
		t.Error(err)
	}
}
