package daemon_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/daemon"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/peers"
	"github.com/skep-dev/skep/internal/config/workspace"
)

// Two copies take writes while they are parted, and are equal when they are not any more: with what contradicts listed on both.
func TestCopiesBecomeEqual(t *testing.T) {
	t.Parallel()
	a, first := serve(t, nil)
	a.ok("POST", "/v1/ops", set("service.api", "owner", `"zara"`))
	second, err := peers.Copy(t.Context(), t.TempDir(), a.url, "")
	if err != nil {
		t.Fatal(err)
	}
	if x, y := version(first), version(second); x != y {
		t.Fatalf("the copy has %s of %s", y, x)
	}

	// Parted: neither sees what the other writes.
	a.ok("POST", "/v1/ops", set("service.api", "owner", `"omar"`))
	a.ok("POST", "/v1/ops", `{"type":"set_field","entity_id":"service.api","field":"ports","add":[80]}`)
	for _, q := range []config.Request{
		{Kind: config.SetField, Entity: "service.api", Field: "owner", Value: "rita"},
		{Kind: config.SetField, Entity: "service.api", Field: "ports", Add: []any{int64(443)}},
	} {
		if _, err := second.Service.Document().Submit(t.Context(), engine.Batch{Actor: config.Actor{ID: "rita", Class: config.Human}, Requests: []config.Request{q}}); err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	d, err := daemon.New(second, daemon.Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, second.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, w := range []*workspace.Workspace{first, second} {
		await(t, w, 6) // the schema, and five writes
		_ = w.Service.Document().View(func(s *config.State) error {
			if open := s.Conflicts(); len(open) != 1 || len(open[0].Writes) != 2 {
				t.Errorf("conflicts: %+v, want that of omar and rita", open)
			}
			if ports, err := s.Get("service.api", "ports", ""); err != nil || len(ports.By) != 2 {
				t.Errorf("ports: %v, %v, want both", ports.Value, err)
			}
			return nil
		})
	}
	if x, y := version(first), version(second); x != y {
		t.Errorf("the two have %s and %s", x, y)
	}
}

func version(w *workspace.Workspace) (v string) {
	_ = w.Service.Document().View(func(s *config.State) error { v = s.VersionText(); return nil })
	return v
}

// await waits until a document has so many operations.
func await(t *testing.T, w *workspace.Workspace, n uint64) {
	t.Helper()
	enough := errors.New("enough")
	if err := w.Service.Document().Watch(t.Context(), 0, func(e engine.Event) error {
		if e.Seq < n {
			return nil
		}
		return enough
	}); !errors.Is(err, enough) {
		t.Fatal(err)
	}
}

// What a peer brings is not asked again whether somebody may do it: only who may do everything is one.
func TestStrangersAreNoPeers(t *testing.T) {
	t.Parallel()
	c, w := serve(t, map[string]string{"config.toml": withKeys, "rbac.toml": hiding, "api-keys.toml": keyEntry(goodKey, "ci", "pipeline")})
	before := version(w)
	message := `{"document":"shop","node":"mallory","version":"","ops":[]}`
	if status, _, answer := c.do("POST", peers.Path, message); status != http.StatusUnauthorized {
		t.Errorf("without a key: %d %s", status, answer)
	}
	for _, method := range []string{"GET", "POST"} {
		if status, _, answer := c.as("X-API-Key", goodKey).do(method, peers.Path, message); status != http.StatusForbidden && status != http.StatusNotFound {
			t.Errorf("%s with the key of somebody who may only write: %d %s", method, status, answer)
		}
	}
	if after := version(w); after != before {
		t.Errorf("it has %s, and had %s", after, before)
	}
}
