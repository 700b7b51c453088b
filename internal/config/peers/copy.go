package peers

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/errkind"
)

// ReadKey reads a key that copies show each other, or seal with, from a file, whose name is that from a folder. "" has none.
func ReadKey(dir, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read the copies' key: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if key == "" || strings.ContainsAny(key, "\r\n") {
		return "", fmt.Errorf("read the copies' key: %s has to have one line: %w", name, errkind.Invalid)
	}
	return key, nil
}

// Copy makes, in a folder, a copy of the document that a daemon serves, with what that one has. The copy's daemon keeps the two equal.
func Copy(ctx context.Context, dir, address, keyFile string) (*workspace.Workspace, error) {
	if keyFile != "" {
		var err error
		if keyFile, err = filepath.Abs(keyFile); err != nil {
			return nil, fmt.Errorf("copy: %w", err)
		}
	}
	key, err := ReadKey("", keyFile)
	if err != nil {
		return nil, err
	}
	t := NewTransport(key)
	defer t.Close()
	name, err := t.document(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its document: %w", address, err)
	}
	return workspace.Copy(ctx, dir, name, workspace.Replication{Peers: []string{address}, KeyFile: keyFile}, func(doc *engine.Document) error {
		return replica.New(doc, t, func() []string { return nil }, replica.Options{}).Sync(ctx, address)
	})
}

// document asks a peer for the name of its document.
func (t *Transport) document(ctx context.Context, peer string) (string, error) {
	var status struct {
		Document string `json:"document"`
	}
	err := t.do(ctx, http.MethodGet, peer, "/v1/status", nil, &status)
	return status.Document, err
}
