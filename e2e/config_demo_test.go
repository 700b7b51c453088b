package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Four writers, partitions and a crash, for a short while: scripts/config-demo has it for ten minutes.
func TestConfigDemo(t *testing.T) {
	t.Parallel()
	demo := filepath.Join(t.TempDir(), "configdemo")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", demo, "../scripts/configdemo")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), demo, "--skep", binary, "--duration", "15s").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
