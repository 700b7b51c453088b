package workspace_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/errkind"
)

// config.toml is committed with the folder.
func TestStoresWithSecretsAreRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://skep:s3cret@db.invalid/skep",
		"postgres://skep@db.invalid/skep?password=s3cret",
		"postgresql://skep@db.invalid/skep?sslpassword=s3cret",
		"postgres://skep:s3/cret@db.invalid/skep",
		"postgres:skep:s3cret@db.invalid",
		"dynamodb://table?region=a&endpoint=http://skep:s3cret@127.0.0.1:1",
		"dynamodb://skep:s3cret@table",
		"memory:",
		"s3cret",
	} {
		dir := t.TempDir()
		_, err := workspace.InitStore(t.Context(), dir, "shop", schema, workspace.Store{URL: url})
		if !errors.Is(err, errkind.Invalid) || strings.Contains(err.Error(), "s3") {
			t.Errorf("%s: %v, want Invalid without the password", url, err)
		}
		if _, err := os.Stat(filepath.Join(dir, workspace.Folder, "config.toml")); err == nil {
			t.Errorf("%s: there is a workspace", url)
		}
	}
}

func TestInitInAStoreCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), workspace.Store{URL: "sqlite:" + t.TempDir()}
	if _, err := workspace.InitStore(t.Context(), dir, "shop", "name = ", store); err == nil {
		t.Fatal("the schema was taken")
	}
	if _, err := workspace.Join(t.Context(), dir, "shop", store); !errors.Is(err, errkind.NotFound) {
		t.Errorf("join of a document that has nothing: %v, want NotFound", err)
	}
	w, err := workspace.InitStore(t.Context(), dir, "shop", schema, store)
	if err != nil {
		t.Fatalf("a second try: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
