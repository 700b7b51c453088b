package schema_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/schema"
)

// TestReference: the examples of docs/reference/config-schema.md are schemas, in the canonical dialect.
func TestReference(t *testing.T) {
	page, err := os.ReadFile("../../../docs/reference/config-schema.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(examples) == 0 {
		t.Fatal("the page has no examples")
	}
	for _, e := range examples {
		text := string(e[1])
		if !strings.Contains(text, "[schema]") {
			text = "[schema]\nname = \"example\"\n\n[environments]\nbase = \"production\"\n\n" + text
		}
		s, err := schema.Parse("example", []byte(text))
		if err != nil {
			t.Error(err)
			continue
		}
		// Entities are in the page's order, and not sorted.
		for line := range strings.Lines(string(schema.Format(s))) {
			if !strings.Contains(text, line) {
				t.Errorf("the canonical dialect has %q, and the page has it otherwise", line)
			}
		}
	}
}
