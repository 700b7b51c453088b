package format_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/skep-dev/skep/internal/config/value"
)

// examples are the blocks of docs/reference/formats.md by language.
func examples(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../../docs/reference/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		blocks[m[1]] = m[2]
	}
	return blocks
}

// The example of XML is what is written for the JSON beside it.
func TestDocumentedXML(t *testing.T) {
	docs := examples(t)
	v, err := parser(t, "json").Unmarshal(t.Context(), "formats.md", []byte(docs["json"]))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := serializer(t, "xml").Marshal(t.Context(), v); err != nil || string(got) != docs["xml"] {
		t.Errorf("it is\n%s, %v", got, err)
	}
	if back, err := parser(t, "xml").Unmarshal(t.Context(), "formats.md", []byte(docs["xml"])); err != nil || !value.Equal(back, v) {
		t.Errorf("it is %v, %v", back, err)
	}
}
