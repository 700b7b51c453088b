package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/policy"
)

const (
	controlFile    = "control.db"
	adminTokenFile = "admin-token"
	firstAdmin     = "admin" // the principal that control makes
)

// openControl opens the control plane's database. The first start leaves the administrator's token in a file.
//
// The file is made, empty, before the database. So a crash in between leaves one of these states:
//
//	no database            a first start: make the empty file, then the database, then fill the file
//	database, empty file   the first start ended before the token was written, and its secret is lost: make another
//	database, full file    a later start
//	database, no file      a later start, and somebody took the token away, as is wise
func (n *Node) openControl(ctx context.Context) (err error) {
	db := filepath.Join(n.opts.DataDir, controlFile)
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		if err := n.writeToken(""); err != nil {
			return err
		}
	}
	if n.control, n.first, err = control.Open(ctx, db); err != nil {
		return fmt.Errorf("open control plane: %w", err)
	}
	if n.first == "" {
		info, err := os.Stat(n.AdminTokenPath())
		switch {
		case errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() > 0):
			return nil
		case err != nil:
			return fmt.Errorf("look for the admin token: %w", err)
		}
		if n.first, err = replaceToken(ctx, n.control); err != nil {
			return fmt.Errorf("make the admin token anew: %w", err)
		}
	}
	return n.writeToken(n.first + "\n")
}

func replaceToken(ctx context.Context, c *control.Control) (string, error) {
	admin, err := c.PrincipalByName(ctx, firstAdmin)
	if err != nil {
		return "", err
	}
	_, secret, err := c.CreateToken(ctx, control.Token{Principal: admin.ID, Name: "first start", Scope: policy.ScopeAdmin})
	return secret, err
}

// writeToken writes the file durably, readable by its owner only.
func (n *Node) writeToken(text string) error {
	f, err := os.OpenFile(n.AdminTokenPath(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the admin token: %w", err)
	}
	defer func() { _ = f.Close() }() // the one that counts is the last line's
	if err := f.Chmod(0o600); err != nil {
		return fmt.Errorf("write the admin token: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("write the admin token: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the admin token: %w", err)
	}
	return f.Close()
}

// ReadAdminToken returns the token that the first start of a data directory left.
func ReadAdminToken(dataDir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dataDir, adminTokenFile))
	if err != nil {
		return "", fmt.Errorf("read the admin token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
