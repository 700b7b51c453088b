package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

// Store says where the log is, if that is not the folder. Other folders, also on other machines, can name the same: they share the document.
type Store struct {
	URL string `toml:"url" comment:"Where the log is: sqlite:DIR, postgres://USER@HOST/DATABASE or dynamodb://TABLE?region=REGION; empty: this folder"`
}

// check refuses what must not be in a file that is committed with the folder, and a store that keeps nothing.
func (s *Store) check() error {
	switch s.URL {
	case "":
		return nil
	case "memory:":
		return fmt.Errorf("the store memory: keeps nothing when the command ends: %w", errkind.Invalid)
	default:
		return oplog.CheckKept(s.URL)
	}
}

// InitStore is Init with a new document in a store.
func InitStore(ctx context.Context, dir, name, schema string, store Store) (*Workspace, error) {
	return begin(ctx, dir, beginning{settings: Settings{Document: name, Store: store}, first: func(w *Workspace) error {
		_, err := w.Service.Document().Submit(ctx, engine.Batch{
			Actor:    config.Actor{ID: "skep", Class: config.System},
			Requests: []config.Request{{Kind: config.ChangeSchema, Text: schema, Intent: "init"}},
		})
		return err
	}})
}

// Join makes a workspace of a document that a store has already.
func Join(ctx context.Context, dir, name string, store Store) (*Workspace, error) {
	return begin(ctx, dir, beginning{settings: Settings{Document: name, Store: store}, join: true})
}

// Restore makes a workspace of a document whose log fill brings, which appends records to an empty log or, if it was broken off, goes on.
func Restore(ctx context.Context, dir, name string, store Store, fill func(ctx context.Context, log oplog.Log) error) (*Workspace, error) {
	return begin(ctx, dir, beginning{settings: Settings{Document: name, Store: store}, fill: fill})
}

// makeLog makes the log, as far as it is not there, and opens it.
func (w *Workspace) makeLog(ctx context.Context, b *beginning) error {
	if err := w.createLog(ctx, b.join); err != nil {
		return err
	}
	if err := w.openLog(ctx); err != nil {
		return err
	}
	head, err := w.log.Head(ctx)
	switch {
	case err != nil:
		return err
	case b.fill != nil:
		return b.fill(ctx, w.log)
	case b.join && head.Seq == 0:
		return w.notFound()
	case !b.join && head.Seq > 0 && w.store != nil:
		return fmt.Errorf("the store has a document %s already: --join makes it this folder's too, --name makes another: %w", w.Settings.Document, errkind.Exists)
	}
	return nil
}

// createLog makes a store's document if it is not there. One that is empty is of an init that was not done to the end.
func (w *Workspace) createLog(ctx context.Context, join bool) error {
	if w.Settings.Store.URL == "" {
		return nil // openFile does
	}
	err := w.openStore(ctx)
	if err != nil || join {
		return err
	}
	if err = w.store.Create(ctx, w.Settings.Document); errors.Is(err, errkind.Exists) {
		return nil
	}
	return err
}

func (w *Workspace) notFound() error {
	return fmt.Errorf("the store has no document %s: skep config init --store begins one: %w", w.Settings.Document, errkind.NotFound)
}

// openStore opens the store that the settings name. The folder of a sqlite:DIR is relative to the workspace's.
func (w *Workspace) openStore(ctx context.Context) (err error) {
	if w.store != nil {
		return nil
	}
	url := w.Settings.Store.URL
	if dir, ok := strings.CutPrefix(url, "sqlite:"); ok && dir != "" && !filepath.IsAbs(dir) {
		url = "sqlite:" + filepath.Join(w.Dir, dir)
	}
	w.store, err = oplog.OpenStore(ctx, url)
	return err
}

// openLog opens the log.
func (w *Workspace) openLog(ctx context.Context) (err error) {
	if w.Settings.Store.URL == "" {
		return w.openFile(ctx)
	}
	if err := w.openStore(ctx); err != nil {
		return err
	}
	w.log, err = w.store.Open(ctx, w.Settings.Document)
	if errors.Is(err, errkind.NotFound) {
		return w.notFound()
	}
	return err
}

// openFile opens the folder's log. A folder that has no schema is one in which nothing has begun: init writes it after the log. Where there is
// one, to begin an empty log in the place of one that is gone would look as if nothing had ever been written.
func (w *Workspace) openFile(ctx context.Context) error {
	_, err := os.Stat(w.File(logFile))
	if _, missing := os.Stat(w.File(SchemaFile)); err != nil && missing != nil {
		err = w.createFile()
	}
	if err != nil {
		return fmt.Errorf("the document's log is missing: put it back from a backup: %w", err)
	}
	w.log, err = oplog.OpenFile(ctx, w.File(logFile))
	return err
}

// createFile makes the log's file before SQLite does, which would let others read it.
func (w *Workspace) createFile() error {
	f, err := os.OpenFile(w.File(logFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
