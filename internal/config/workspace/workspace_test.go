package workspace_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/errkind"
)

const schema = "name = \"shop\"\n[environments]\nbase = \"production\"\n[entity.service]\nfields = [{ name = \"image\", type = \"string\" }]\n"

func begin(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "My Shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := workspace.Init(t.Context(), dir, "", schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestInitThenOpenFromBelow(t *testing.T) {
	t.Parallel()
	dir := begin(t)
	below := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := workspace.Open(t.Context(), below)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if got := w.Service.Document().Name(); got != "my-shop" || w.Dir != dir {
		t.Errorf("document %q in %s, want my-shop in %s", got, w.Dir, dir)
	}
	if _, err := workspace.Init(t.Context(), dir, "", schema); !errors.Is(err, errkind.Exists) {
		t.Errorf("a second init: %v, want Exists", err)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := begin(t)
	err := filepath.WalkDir(filepath.Join(dir, workspace.Folder), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestInitWithABadSchemaLeavesNoWorkspace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := workspace.Init(t.Context(), dir, "shop", "name = "); err == nil {
		t.Fatal("the schema was taken")
	}
	if _, err := workspace.Find(dir); !errors.Is(err, errkind.NotFound) {
		t.Errorf("found: %v", err)
	}
	w, err := workspace.Init(t.Context(), dir, "shop", schema)
	if err != nil {
		t.Fatalf("a second try: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestSettingsTellWhereTheyAreWrong(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"unknown", "document = \"shop\"\n[git]\nbrunch = \"main\"\n", `config.toml:3:1: there is no setting "git.brunch"`},
		{"type", "document = \"shop\"\n[git]\nsign = \"yes\"\n", "config.toml:3:8: "},
		{"syntax", "document = \n", "config.toml:1:12: "},
		{"no document", "[git]\nbranch = \"x\"\n", "config.toml:1:1: it names no document"},
		{"a password", "document = \"shop\"\n[store]\nurl = \"postgres://skep:s3cret@db.invalid/skep\"\n", "config.toml:1:1: the address of the store has a password"},
		{"others' tables", "document = \"my-shop\"\n[auth]\nmode = \"none\"\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := begin(t)
			if err := os.WriteFile(filepath.Join(dir, workspace.Folder, "config.toml"), []byte(tt.in), 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := workspace.Open(t.Context(), dir)
			if err == nil && tt.want == "" {
				err = w.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s…", err, tt.want)
			}
			if err != nil && tt.want != "" && !errors.Is(err, errkind.Invalid) {
				t.Errorf("%v is not Invalid", err)
			}
		})
	}
}

// An empty log in the place of one that is gone would look as if nothing had ever been written.
func TestMissingLogIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	dir := begin(t)
	if err := os.Remove(filepath.Join(dir, workspace.Folder, "operations.db")); err != nil {
		t.Fatal(err)
	}
	if _, err := workspace.Open(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}
