package hosted_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/hosted"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

const schema = "name = \"a\"\n[entity.service.fields]\nimage = { type = \"string\" }\n"

var wim = config.Actor{ID: "wim", Class: config.Human}

// host is a server on which milestones go nowhere.
type host struct{ branches []string }

// MilestoneTarget notes the branch.
func (h *host) MilestoneTarget(_ context.Context, d control.Document, _ bool) (publish.Target, error) {
	h.branches = append(h.branches, d.Milestones.Branch)
	return publish.Target{}, errors.New("not here")
}

// DocumentAccess permits everything.
func (h *host) DocumentAccess(context.Context, control.Document, func() string) service.Access {
	return nil
}

func start(t *testing.T, opts hosted.Options) (*hosted.Documents, oplog.Store) {
	t.Helper()
	store, err := oplog.OpenStore(t.Context(), "sqlite:"+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if opts.Host == nil {
		opts.Host = func() hosted.Host { return &host{} }
	}
	ctl, _, err := control.Open(t.Context(), filepath.Join(t.TempDir(), "control.db"), control.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ctl.Close(); err != nil {
			t.Error(err)
		}
	})
	opts.Control = ctl
	docs := hosted.New(store, opts)
	t.Cleanup(func() {
		docs.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return docs, store
}

func create(t *testing.T, docs *hosted.Documents) control.Document {
	t.Helper()
	d := control.Document{ID: id.NewDocument()}
	if err := docs.Create(t.Context(), d, schema, wim); err != nil {
		t.Fatal(err)
	}
	return d
}

func use(t *testing.T, docs *hosted.Documents, d control.Document) *hosted.Document {
	t.Helper()
	open, err := docs.Use(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return open
}

func write(t *testing.T, d *hosted.Document, image string) {
	t.Helper()
	_, err := d.Submit(t.Context(), engine.Batch{Actor: wim, Requests: []config.Request{{Kind: config.SetField, Entity: "service.api", Field: "image", Value: image}}})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, d *hosted.Document) (image any) {
	t.Helper()
	if err := d.View(func(s *config.State) error {
		v, err := s.Get("service.api", "image", "")
		image = v.Value
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return image
}

func wantKind(t *testing.T, what string, err error, want errkind.Kind) {
	t.Helper()
	if errkind.Of(err) != want || err == nil {
		t.Errorf("%s: %v, want the kind %v", what, err, want)
	}
}

// TestDocumentsAreOpenedOnce: all who use one at the same time have the same, and what they write is there for those who come later.
func TestDocumentsAreOpenedOnce(t *testing.T) {
	docs, _ := start(t, hosted.Options{MaxOpen: 2})
	d := create(t, docs)
	first := use(t, docs, d)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			same, err := docs.Use(t.Context(), d)
			if err != nil || same.Document != first.Document {
				t.Errorf("a second use: %v, %v", same, err)
				return
			}
			same.Release()
		})
	}
	group.Wait()
	write(t, first, "api:1")
	first.Release()
	first.Release() // twice is once

	// Others take its place.
	others := []control.Document{create(t, docs), create(t, docs)}
	held := use(t, docs, others[0])
	write(t, held, "other")
	use(t, docs, others[1]).Release()
	again := use(t, docs, d)
	if got := read(t, again); got != "api:1" || again.Document == first.Document {
		t.Errorf("opened again it says %v", got)
	}
	// Two are in use, and there is no third place.
	_, err := docs.Use(t.Context(), others[1])
	wantKind(t, "a third", err, errkind.Unavailable)
	again.Release()
	use(t, docs, others[1]).Release()
	held.Release()
}

func TestDeletedDocuments(t *testing.T) {
	docs, store := start(t, hosted.Options{})
	d := create(t, docs)
	open := use(t, docs, d)
	if err := docs.Delete(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if err := docs.Delete(t.Context(), d.ID); err != nil {
		t.Errorf("again: %v", err)
	}
	_, err := open.Submit(t.Context(), engine.Batch{Actor: wim, Requests: []config.Request{{Kind: config.InsertEntity, Entity: "service.api"}}})
	wantKind(t, "write to it", err, errkind.NotFound)
	open.Release()
	_, err = docs.Use(t.Context(), d)
	wantKind(t, "use it", err, errkind.NotFound)

	bad := control.Document{ID: id.NewDocument()}
	wantKind(t, "create with no schema", docs.Create(t.Context(), bad, "[", wim), errkind.Invalid)
	if _, err := store.Open(t.Context(), string(bad.ID)); errkind.Of(err) != errkind.NotFound {
		t.Errorf("its log: %v", err)
	}
}

// TestChangedRecords: who uses a document later than its record was changed has the new one.
func TestChangedRecords(t *testing.T) {
	there := &host{}
	docs, _ := start(t, hosted.Options{Host: func() hosted.Host { return there }})
	d := create(t, docs)
	for k, branch := range []string{"one", "two"} {
		d.Milestones.Branch, d.Updated = branch, time.Unix(int64(k+1), 0)
		open := use(t, docs, d)
		_, _ = open.Publisher.List(t.Context(), 1)
		open.Release()
	}
	if got := fmt.Sprint(there.branches); got != "[one two]" {
		t.Errorf("milestones go to %s", got)
	}
}

// TestUnusedDocumentsAreClosed: and a document in use is not.
func TestUnusedDocumentsAreClosed(t *testing.T) {
	docs, _ := start(t, hosted.Options{IdleAfter: time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- docs.Run(ctx) }()
	used, unused := create(t, docs), create(t, docs)
	held := use(t, docs, used)
	first := use(t, docs, unused)
	first.Release()
	for {
		now := use(t, docs, unused)
		closed := now.Document != first.Document
		now.Release()
		if closed {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("it was not closed")
		case <-time.After(time.Millisecond):
		}
	}
	if same := use(t, docs, used); same.Document != held.Document {
		t.Error("a document in use was opened again")
	} else {
		same.Release()
	}
	held.Release()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	docs.Close()
	_, err := docs.Use(t.Context(), used)
	wantKind(t, "use after the end", err, errkind.Unavailable)
}
