package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

const (
	controlFile    = "control.db"
	adminTokenFile = "admin-token"
	firstAdmin     = "admin" // the principal that control makes
)

// openControl opens the control plane's database. The first start leaves the administrator's token in a file.
//
// The file is written before the transaction that makes the token is committed. So a crash in between leaves one of these
// states:
//
//	no principals              a first start: write the file, then commit
//	no principals, full file   the first start ended before the commit: the same again, with another token
//	principals, full file      a later start
//	principals, no file        a later start, and somebody took the token away, as is wise; or another node made the database
//	principals, empty file     as an interrupted first start once left it, its secret lost: make another token
func (n *Node) openControl(ctx context.Context) (err error) {
	written := false
	where, err := n.opts.controlAddress()
	if err != nil {
		return err
	}
	n.control, n.first, err = control.Open(ctx, where, control.Options{
		Log:         n.opts.Log,
		FetchKeys:   n.outbound.Read,
		Observe:     n.transactions.observe,
		Keys:        n.opts.ring,
		DiscardLost: n.opts.DiscardLost,
		KeepFirst: func(secret string) error {
			written = true
			return n.writeToken(secret + "\n")
		},
	})
	if err != nil {
		return err // it says that it is about the control plane
	}
	if err := n.replaceKeys(ctx); err != nil {
		return err
	}
	if n.first != "" {
		return nil
	}
	if written { // another node came first: this token is nobody's
		if err := os.Remove(n.AdminTokenPath()); err != nil {
			return fmt.Errorf("remove the admin token that is not needed: %w", err)
		}
		return nil
	}
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
	return n.writeToken(n.first + "\n")
}

// controlAddress is where the control plane's database is.
func (o *Options) controlAddress() (string, error) {
	switch {
	case o.Control == "":
		return filepath.Join(o.DataDir, controlFile), nil
	case !control.OnPostgres(o.Control): // it is not repeated: it may have a password in it
		return "", fmt.Errorf("the control plane's database is not given as postgres://…: %w", errkind.Invalid)
	}
	return o.Control, nil
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
