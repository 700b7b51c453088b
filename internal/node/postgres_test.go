package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/node"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

// TestTwoNodesOnOneControlPlane: the first makes the administrator's token, the second none, and both know it until it is
// revoked.
func TestTwoNodesOnOneControlPlane(t *testing.T) {
	address := postgrestest.New(t)
	one, two := t.TempDir(), t.TempDir()
	a, stopA := startOn(t, one, address)
	b, _ := startOn(t, two, address)
	token, err := adminToken(one)
	if err != nil || token == "" || token != a.FirstSecret() {
		t.Fatalf("the first node's admin-token has %q, %v", token, err)
	}
	if _, err := os.Stat(filepath.Join(one, "control.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a control.db beside PostgreSQL: %v", err)
	}
	if _, err := adminToken(two); !errors.Is(err, os.ErrNotExist) || b.FirstSecret() != "" {
		t.Errorf("the second node made a token as well: %v, %q", err, b.FirstSecret())
	}
	for _, n := range []*node.Node{a, b} {
		who, err := api(t, n, token).Whoami(t.Context())
		if err != nil || !who.Admin {
			t.Errorf("the token is of %+v, %v", who, err)
		}
	}
	if _, err := api(t, a, token).CreateRepo(t.Context(), client.CreateRepo{Tenant: "default", Name: "demo"}); err != nil {
		t.Error(err)
	}
	stopA()
	report, err := node.Doctor(t.Context(), one, node.DoctorOptions{Control: address, Fault: func(repo string, err error) { t.Errorf("%s: %v", repo, err) }})
	if err != nil || report.Repos != 1 {
		t.Errorf("doctor: %+v, %v", report, err)
	}
	// A restart makes no token either, also when its file is gone.
	if err := os.Remove(filepath.Join(one, "admin-token")); err != nil {
		t.Fatal(err)
	}
	if a, _ = startOn(t, one, address); a.FirstSecret() != "" {
		t.Error("a restart made a token")
	}
}

func TestControlAddressIsJudged(t *testing.T) {
	for _, address := range []string{"control.db", "postgress://u:secret@h/db", "postgres://u:sec/ret@h/db"} {
		_, err := node.New(t.Context(), node.Options{DataDir: t.TempDir(), Control: address, HTTPAddr: "127.0.0.1:0"})
		if errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "ret@") {
			t.Errorf("control %q: %v", address, err)
		}
	}
	// Doctor makes nothing of an empty database, and nothing in a folder that is none of skep's.
	address := postgrestest.New(t)
	if _, err := node.Doctor(t.Context(), t.TempDir(), node.DoctorOptions{Control: address}); errkind.Of(err) != errkind.NotFound {
		t.Errorf("doctor of an empty folder: %v", err)
	}
	dir := t.TempDir()
	_, stop := start(t, dir)
	stop()
	if _, err := node.Doctor(t.Context(), dir, node.DoctorOptions{Control: address}); errkind.Of(err) != errkind.NotFound {
		t.Errorf("doctor with an empty database: %v", err)
	}
}
