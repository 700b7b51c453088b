package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/skep-dev/skep/internal/secret"
)

// masterKeyFile is where the first start leaves a master key, unless it is given one.
const masterKeyFile = "master-key"

// ring finds the master keys. Without one in the options it is the file's, which is made if need be, unless secrets need
// one that was there before and is not lost.
func (o *Options) ring(inUse bool) (*secret.Ring, error) {
	current, file := o.MasterKey, filepath.Join(o.DataDir, masterKeyFile)
	if current == "" {
		current = "file:" + file
		if !inUse || o.DiscardLost {
			if err := secret.MakeKeyFile(file); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
	}
	key, err := secret.ParseKey(current)
	if errors.Is(err, fs.ErrNotExist) && o.MasterKey == "" {
		return nil, fmt.Errorf("there are secrets, and %s is gone: put it back, or name their key with --master-key; if it is lost, so are they: delete them with --discard-lost-secrets: %w", file, err)
	}
	if err != nil {
		return nil, err
	}
	old := make([]secret.KeyWrapper, len(o.OldMasterKeys))
	for i, text := range o.OldMasterKeys {
		if old[i], err = secret.ParseKey(text); err != nil {
			return nil, fmt.Errorf("old master key: %w", err)
		}
	}
	return secret.NewRing(key, old...), nil
}

// ringOfAny is ring for who only looks: without secrets there is none.
func (o *Options) ringOfAny(inUse bool) (*secret.Ring, error) {
	if !inUse {
		return nil, nil
	}
	return o.ring(inUse)
}

// replaceKeys wraps with the current master key what older ones have wrapped.
func (n *Node) replaceKeys(ctx context.Context) error {
	replaced, err := n.control.ReplaceKeys(ctx)
	if err != nil {
		return err
	}
	if replaced > 0 {
		n.opts.Log.Info("master key replaced: the old one is not needed any more", "data_keys", replaced)
	}
	return nil
}
