package bare

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
)

// A symbolic link of this user's to a folder of another one does not make the folder his: what it leads to counts.
func TestRepositoryBehindALink(t *testing.T) {
	dir := newRepository(t, "")
	link := filepath.Join(t.TempDir(), "link.git")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	r, err := Open(link, true)
	if err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Dir() != want {
		t.Errorf("the repository is at %s, want %s", r.Dir(), want)
	}
}

// Nothing of a repository's own configuration is read before it is known whose it is.
func TestOwnerIsCheckedFirst(t *testing.T) {
	dir := newRepository(t, "[receive]\n\tdenyDeletes = ture\n")
	refuse := func([]string) error { return errkind.Forbidden }
	if _, err := loadConfig(dir, dir, refuse); !errors.Is(err, errkind.Forbidden) || errors.Is(err, errkind.Invalid) {
		t.Errorf("loadConfig = %v, want %v", err, errkind.Forbidden)
	}
	var heard []string
	t.Setenv("GIT_CONFIG_PARAMETERS", "'safe.directory=/a'")
	_, _ = loadConfig(dir, dir, func(safe []string) error {
		heard = safe
		return errkind.Forbidden
	})
	if len(heard) != 1 || heard[0] != "/a" {
		t.Errorf("the environment's safe.directory is %v, want /a", heard)
	}
}

func TestSafeDirectories(t *testing.T) {
	dir := newRepository(t, "")
	parent := filepath.Dir(dir)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(parent, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		safe []string
		want bool
	}{
		{nil, false},
		{[]string{dir}, true},
		{[]string{link + "/r.git"}, true},
		{[]string{parent + "/*"}, true},
		{[]string{parent}, false},
		{[]string{dir + "x"}, false},
		{[]string{"*"}, true},
		{[]string{"*", ""}, false},
	} {
		if got := named(tt.safe, dir); got != tt.want {
			t.Errorf("named(%q) = %v, want %v", tt.safe, got, tt.want)
		}
	}
	if (&Repo{dir: dir, common: "/"}).checkOwner(nil) == nil && os.Geteuid() != 0 {
		t.Error("a common folder of another user is let pass")
	}
}

// A namespace is part of paths, and must not lead out of refs.
func TestNamespacesThatAreNone(t *testing.T) {
	dir := newRepository(t, "")
	for _, name := range []string{"..", "a/../../b", "a.lock", "a b", "a\nb"} {
		t.Setenv("GIT_NAMESPACE", name)
		if _, err := Open(dir, true); !errors.Is(err, errkind.Invalid) {
			t.Errorf("Open in the namespace %q = %v, want %v", name, err, errkind.Invalid)
		}
	}
	t.Setenv("GIT_NAMESPACE", "a/b")
	r, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := "refs/namespaces/a/refs/namespaces/b/"; r.space != want {
		t.Errorf("the prefix is %s, want %s", r.space, want)
	}
}
