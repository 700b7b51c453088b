package confluxv1_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository.
const root = "../../../.."

// make proto notes what it read and what it wrote. Whoever changes the one or the other, or gets another generator, has to run it: this needs
// neither protoc nor a network.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	noted, err := os.ReadFile("generated.sha256")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(noted)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		names = append(names, name)
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != sum {
			t.Errorf("%s was changed since the code was generated: run make proto", name)
		}
	}
	for _, pattern := range []string{"proto/*/*/*.proto", "internal/config/rpc/confluxv1/conflux.*.go"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		for _, path := range found {
			if name, _ := filepath.Rel(root, path); !slices.Contains(names, filepath.ToSlash(name)) {
				t.Errorf("%s is not in generated.sha256: run make proto", name)
			}
		}
	}
}

func TestGeneratorIsTheOneInTools(t *testing.T) {
	module, err := os.ReadFile(filepath.Join(root, "tools", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("conflux.pb.go")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(code), "protoc-gen-go ")
	version, _, _ = strings.Cut(version, "\n")
	if !strings.Contains(string(module), "google.golang.org/protobuf "+version+" ") && !strings.Contains(string(module), "google.golang.org/protobuf "+version+"\n") {
		t.Errorf("conflux.pb.go was made by protoc-gen-go %s, and tools/go.mod has another one: run make proto", version)
	}
}
