package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/bus/bustest"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/daemon"
	"github.com/skep-dev/skep/internal/config/peers"
	"github.com/skep-dev/skep/internal/config/workspace"
)

const busKey = "0123456789abcdef0123456789abcdef\n"

// onBus are the files of a workspace whose daemon is on a bus.
func onBus(url string) map[string]string {
	return map[string]string{
		"config.toml": "[replication]\nbus = \"" + url + "\"\nbus_key_file = \".conflux/bus.key\"\n",
		"bus.key":     busKey,
	}
}

// serveAgain starts a daemon on a workspace after these files were put in its folder .conflux.
func serveAgain(t *testing.T, w *workspace.Workspace, files map[string]string) (*client, *workspace.Workspace) {
	t.Helper()
	files["config.toml"] = "document = \"shop\"\n" + files["config.toml"]
	for name, text := range files {
		if err := os.WriteFile(w.File(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := workspace.Open(t.Context(), w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, w), w
}

// serveNew is serveAgain on a new document, and serveCopy on a copy of one that a daemon serves.
func serveNew(t *testing.T, files map[string]string) (*client, *workspace.Workspace) {
	t.Helper()
	w, err := workspace.Init(t.Context(), t.TempDir(), "shop", shop)
	if err != nil {
		t.Fatal(err)
	}
	return serveAgain(t, w, files)
}

func serveCopy(t *testing.T, of *client, files map[string]string) (*client, *workspace.Workspace) {
	t.Helper()
	w, err := peers.Copy(t.Context(), t.TempDir(), of.url, "")
	if err != nil {
		t.Fatal(err)
	}
	return serveAgain(t, w, files)
}

// Three daemons, each over a line of its own to the bus, take writes by REST while all lines are cut, and are equal when these are mended: what contradicts
// is listed on all of them.
func TestDaemonsOnABus(t *testing.T) {
	t.Parallel()
	server := bustest.New(t, nil)
	var lines []*bustest.Line
	var clients []*client
	var works []*workspace.Workspace
	for i := range 3 {
		line := bustest.NewLine(t, server.URL())
		var c *client
		var w *workspace.Workspace
		if i == 0 {
			c, w = serveNew(t, onBus(line.URL()))
		} else {
			c, w = serveCopy(t, clients[0], onBus(line.URL()))
		}
		lines, clients, works = append(lines, line), append(clients, c), append(works, w)
	}
	clients[1].ok("POST", "/v1/ops", set("service.api", "image", `"a:1"`))
	n := uint64(2) // the schema, and this one
	for _, w := range works {
		await(t, w, n)
	}

	for _, line := range lines {
		line.Cut()
	}
	for i, c := range clients {
		for j := range 20 {
			c.ok("POST", "/v1/ops", set("service.api", "owner", fmt.Sprintf(`"writer-%d-%d"`, i, j)))
			c.ok("POST", "/v1/ops", fmt.Sprintf(`{"type":"set_field","entity_id":"service.api","field":"ports","add":[%d]}`, 8000+100*i+j))
		}
	}
	n += 3 * 40
	for _, line := range lines {
		line.Mend()
	}
	for _, w := range works {
		await(t, w, n)
	}

	want := state(t, works[0])
	for i, w := range works {
		if have := state(t, w); have != want {
			t.Errorf("daemon %d has\n%s\nwant\n%s", i, have, want)
		}
		_ = w.Service.Document().View(func(s *config.State) error {
			if open := s.Conflicts(); len(open) != 1 || len(open[0].Writes) != 3 {
				t.Errorf("conflicts of %d: %+v, want that of three owners", i, open)
			}
			return nil
		})
		status := clients[i].ok("GET", peers.Path, "")["bus"].(map[string]any)
		if status["connected"] != true || len(status["copies"].(map[string]any)) != 2 || status["strange"] != 0.0 {
			t.Errorf("daemon %d says %v", i, status)
		}
	}
}

// A daemon with peers and a bus hands on from the one to the other.
func TestBusAndPeers(t *testing.T) {
	t.Parallel()
	server := bustest.New(t, nil)
	first, w1 := serveNew(t, onBus(server.URL()))
	files := onBus(server.URL())
	files["config.toml"] += "peers = [\"" + first.url + "\"]\n"
	second, w2 := serveCopy(t, first, files)
	third, w3 := serveCopy(t, first, map[string]string{"config.toml": "[replication]\npeers = [\"" + second.url + "\"]\n"})
	first.ok("POST", "/v1/ops", set("service.api", "image", `"a:1"`))
	third.ok("POST", "/v1/ops", set("service.api", "owner", `"rita"`))
	for _, w := range []*workspace.Workspace{w1, w2, w3} {
		await(t, w, 3)
	}
	if a, b := state(t, w1), state(t, w3); a != b {
		t.Errorf("they have\n%s\n%s", a, b)
	}
}

func TestBadBus(t *testing.T) {
	t.Parallel()
	server := bustest.New(t, nil)
	for _, tt := range []struct{ name, config, key, want string }{
		{"no key", "bus = \"" + server.URL() + "\"", "", "set bus_key_file"},
		{"a short key", "bus = \"" + server.URL() + "\"\nbus_key_file = \".conflux/bus.key\"", "short", "openssl rand"},
		{"no address", "bus = \"127.0.0.1:4222\"\nbus_key_file = \".conflux/bus.key\"", busKey, "cannot be read"},
		{"no credentials", "bus = \"" + server.URL() + "\"\nbus_key_file = \".conflux/bus.key\"\nbus_credentials_file = \"none\"", busKey, "none: no such file"},
		{"no authority", "bus = \"" + server.URL() + "\"\nbus_key_file = \".conflux/bus.key\"\nbus_ca_file = \"none\"", busKey, "none: no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w, err := workspace.Init(t.Context(), dir, "shop", shop)
			if err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"config.toml": "document = \"shop\"\n[replication]\n" + tt.config, "bus.key": tt.key} {
				if err := os.WriteFile(w.File(name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if w, err = workspace.Open(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			d, err := daemon.New(w, daemon.Options{})
			if err == nil {
				err = d.Run(t.Context())
			}
			if err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %q", err, tt.want)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func state(t *testing.T, w *workspace.Workspace) string {
	t.Helper()
	var text []byte
	if err := w.Service.Document().View(func(s *config.State) (err error) { text, err = s.Snapshot(); return err }); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
