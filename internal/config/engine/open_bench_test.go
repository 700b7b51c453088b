package engine_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
)

// openOps is how many operations the log of BenchmarkOpen has, on openEntities entities.
const (
	openOps      = 1_000_000
	openEntities = 10_000
)

// Opening a document of a million operations: from the log alone, and from a snapshot of its end.
func BenchmarkOpen(b *testing.B) {
	ctx := context.Background()
	dir := filepath.Join(b.TempDir(), "db")
	d := openSQLite(b, dir)
	fields := []string{"weight", "replicas", "image"}
	for n := int(d.Head().Seq); n < openOps; {
		requests := make([]config.Request, min(engine.MaxBatch, openOps-n))
		for i := range requests {
			field := fields[(n/openEntities)%3]
			var v any = int64(n)
			if field == "image" {
				v = fmt.Sprintf("registry.example/app:%d", n)
			}
			requests[i] = set(fmt.Sprintf("service.s%d", n%openEntities), field, v)
			requests[i].Intent = "scale with the load"
			n++
		}
		if _, err := d.Submit(ctx, engine.Batch{Actor: config.Actor{ID: "autoscaler", Class: config.Operator, Name: "Autoscaler"}, Requests: requests}); err != nil {
			b.Fatal(err)
		}
	}
	store, err := oplog.OpenDir(ctx, dir)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	log, err := store.Open(ctx, "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	head := d.Head()
	d = nil
	reopen := func(b *testing.B) {
		b.Helper()
		var opened *engine.Document
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for b.Loop() {
			if opened, err = engine.Open(ctx, "bench", log, engine.Options{}); err != nil || opened.Head() != head {
				b.Fatal(opened.Head(), err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/open")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/openEntities, "B/entity")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/openOps, "B/op-of-memory")
		runtime.KeepAlive(opened)
	}
	b.Run("log", reopen)
	whole, err := engine.Open(ctx, "bench", log, engine.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("keep-snapshot", func(b *testing.B) {
		for b.Loop() {
			if err := whole.Snapshot(ctx, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	whole = nil
	b.Run("snapshot", reopen)
}
