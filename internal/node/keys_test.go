package node_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/node"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
	"github.com/skep-dev/skep/internal/sqlite"
)

// TestDoctorOpensSecrets: it names the one that somebody has changed in the database.
func TestDoctorOpensSecrets(t *testing.T) {
	dir := t.TempDir()
	n, stop := start(t, dir)
	c := api(t, n, n.FirstSecret())
	for _, name := range []string{"ONE", "TWO"} {
		if _, err := c.SetSecret(t.Context(), client.SecretsOfTenant("default"), name, "s3cret"); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "control.db"), nil, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(c *sqlite.Conn) error {
		return c.Exec("UPDATE secret SET wrapped = (SELECT wrapped FROM secret WHERE name = 'ONE'), box = (SELECT box FROM secret WHERE name = 'ONE')")
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var faults []string
	report, err := node.Doctor(t.Context(), dir, node.DoctorOptions{Fault: func(what string, err error) { faults = append(faults, what+": "+err.Error()) }})
	if err != nil || report.Secrets != 2 || len(faults) != 1 || !strings.Contains(faults[0], "secret TWO of ten_") || strings.Contains(faults[0], "s3cret") {
		t.Errorf("doctor: %+v, %v, faults %q", report, err, faults)
	}
}

// TestNodesShareAMasterKey: once there is a secret, a node that has another key is told so when it sets one, and when it starts.
func TestNodesShareAMasterKey(t *testing.T) {
	address := postgrestest.New(t)
	one, two := t.TempDir(), t.TempDir()
	a, _ := startOn(t, one, address)
	b, stopB := startOn(t, two, address)
	of := client.SecretsOfTenant("default")
	if _, err := api(t, a, a.FirstSecret()).SetSecret(t.Context(), of, "TOKEN", "s3cret"); err != nil {
		t.Fatal(err)
	}
	if _, err := api(t, b, a.FirstSecret()).SetSecret(t.Context(), of, "TOKEN", "s3cret"); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("set with another key: %v", err)
	}
	stopB()
	opts := node.Options{DataDir: two, Control: address, HTTPAddr: "127.0.0.1:0"}
	if _, err := node.New(t.Context(), opts); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "start it with that key") {
		t.Errorf("start with another key: %v", err)
	}
	key, err := os.ReadFile(filepath.Join(one, "master-key"))
	if err != nil {
		t.Fatal(err)
	}
	opts.MasterKey = string(key)
	n, err := node.New(t.Context(), opts)
	if err != nil {
		t.Fatalf("start with the same key: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestMasterKeyIsJudged(t *testing.T) {
	weak := base64.StdEncoding.EncodeToString([]byte("hunter2"))
	for _, opts := range []node.Options{{MasterKey: weak}, {OldMasterKeys: []string{weak}}} {
		opts.DataDir, opts.HTTPAddr = t.TempDir(), "127.0.0.1:0"
		_, err := node.New(t.Context(), opts)
		if errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), weak) {
			t.Errorf("weak key: %v", err)
		}
	}
}
