package sign_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config/sign"
)

// The examples in docs/reference/config-security.md are good ones.
func TestReference(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "reference", "config-security.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, s := range strings.Split(string(text), "```json\n")[1:] {
		block, _, _ := strings.Cut(s, "```")
		blocks = append(blocks, block)
	}
	if len(blocks) != 2 {
		t.Fatalf("%d examples", len(blocks))
	}
	keys, err := sign.ParseRegistry([]byte(blocks[0]))
	if err != nil {
		t.Fatal(err)
	}
	var s sign.Signed
	if err := json.Unmarshal([]byte(blocks[1]), &s); err != nil {
		t.Fatal(err)
	}
	if _, err := sign.Verify(keys, s, "infra", noon.Add(time.Minute)); err != nil {
		t.Error(err)
	}
}
