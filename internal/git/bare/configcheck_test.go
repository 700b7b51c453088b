package bare

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
)

// newRepository makes a repository with git, whose configuration has text besides, apart from the configuration of who runs the test.
func newRepository(t *testing.T, text string) string {
	t.Helper()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "true")
	dir := filepath.Join(t.TempDir(), "r.git")
	runGit(t, "", "init", "-q", "--bare", "-b", "main", dir)
	f, err := os.OpenFile(filepath.Join(dir, "config"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runGit runs git in a folder and returns what it says.
func runGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A setting that cannot be read is not taken for one that is not there.
func TestSettingsThatCannotBeRead(t *testing.T) {
	tests := []struct{ text, want string }{
		{"[receive]\n\tdenyNonFastForwards = ture\n", "receive.denynonfastforwards"},
		{"[receive]\n\tdenyDeletes = 1x\n", "receive.denydeletes"},
		{"[receive]\n\tmaxInputSize = 10MB\n", "receive.maxinputsize"},
		{"[receive]\n\tmaxInputSize = 9999999999g\n", "receive.maxinputsize"},
		{"[receive]\n\tmaxInputSize\n", "receive.maxinputsize"},
		{"[transfer]\n\tfsckObjects = always\n", "transfer.fsckobjects"},
		{"[http]\n\treceivepack = never\n", "http.receivepack"},
	}
	for _, tt := range tests {
		dir := newRepository(t, tt.text)
		_, err := Open(dir, true)
		if !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), filepath.Join(dir, "config")) {
			t.Errorf("Open with %q = %v, want %v that names %s and the file", tt.text, err, errkind.Invalid, tt.want)
		}
	}
	t.Setenv("GIT_CONFIG_PARAMETERS", "'receive.denydeletes=ture'")
	if _, err := Open(newRepository(t, ""), true); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Open with a wrong setting in the environment = %v, want %v", err, errkind.Invalid)
	}
}

func TestSettingsThatCanBeRead(t *testing.T) {
	r, err := Open(newRepository(t, "[receive]\n\tdenyDeletes\n\tdenyNonFastForwards = 1\n\tmaxInputSize = 10m\n\tautogc =\n[core]\n\tlogAllRefUpdates = always\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Config()
	if !c.Bool("receive.denydeletes", false) || !c.Bool("receive.denynonfastforwards", false) || c.Bool("receive.autogc", true) || c.Int("receive.maxinputsize", 0) != 10<<20 {
		t.Errorf("the settings are %v", c.list)
	}
}
