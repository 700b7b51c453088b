package node_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/node"
)

// TestDeletedTenantsArePurged: once its time is over, nothing of a deleted tenant is left, neither records nor cells; what is
// beside it stays.
func TestDeletedTenantsArePurged(t *testing.T) {
	dir := t.TempDir()
	n, stop := start(t, dir)
	c := api(t, n, n.FirstSecret())
	for _, path := range []string{"acme", "acme/child"} {
		if _, err := c.CreateTenant(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, name := range map[string]string{"acme": "app", "acme/child": "app", "default": "kept"} {
		ask := client.CreateRepo{Tenant: tenant, Name: name, InitialContent: map[string]string{"a": "b"}}
		if _, err := c.CreateRepo(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.DeleteTenant(t.Context(), "acme", true); err != nil {
		t.Fatal(err)
	}
	if n := len(cells(t, dir)); n != 3 {
		t.Fatalf("there are %d cells, want the deleted ones and the other", n)
	}
	stop()
	report, err := node.Doctor(t.Context(), dir, node.DoctorOptions{Progress: func(string, string, int, int) {}, Fault: func(r string, err error) { t.Errorf("%s: %v", r, err) }})
	if err != nil || report.Orphans != 0 || report.Repos != 3 {
		t.Errorf("Doctor = %+v, %v, want it to know the deleted ones", report, err)
	}

	later, err := node.New(t.Context(), node.Options{DataDir: dir, HTTPAddr: "127.0.0.1:0", DeleteGrace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- later.Run(ctx) }()
	for len(cells(t, dir)) > 1 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	cancel()
	if err := errors.Join(<-done, later.Close()); err != nil {
		t.Error(err)
	}
	report, err = node.Doctor(t.Context(), dir, node.DoctorOptions{Progress: func(string, string, int, int) {}, Fault: func(r string, err error) { t.Errorf("%s: %v", r, err) }})
	if err != nil || report.Orphans != 0 || report.Repos < 1 {
		t.Errorf("Doctor = %+v, %v, want the one that was kept", report, err)
	}
}

// cells lists the cells' files.
func cells(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "cells"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".db" {
			list = append(list, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}
