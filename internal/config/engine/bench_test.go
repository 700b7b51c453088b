package engine_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
)

const schemaText = `
name = "bench"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]

[entity.service]
fields = [
    { name = "image",    type = "string", merge = "lww" },
    { name = "replicas", type = "int",    merge = "max", default = 1 },
    { name = "weight",   type = "int",    merge = "lww" },
    { name = "tags",     type = "list<string>", merge = "set" },
]
`

func openSQLite(tb testing.TB, dir string) *engine.Document {
	tb.Helper()
	ctx := context.Background()
	store, err := oplog.OpenDir(ctx, dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	if err := store.Create(ctx, "bench"); err != nil {
		tb.Fatal(err)
	}
	log, err := store.Open(ctx, "bench")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { log.Close() })
	d, err := engine.Open(ctx, "bench", log, engine.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := d.Submit(ctx, engine.Batch{Requests: []config.Request{{Kind: config.ChangeSchema, Text: schemaText}}}); err != nil {
		tb.Fatal(err)
	}
	return d
}

// Single durable operations from many clients.
func BenchmarkSubmit(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			d := openSQLite(b, filepath.Join(b.TempDir(), "db"))
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range clients {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						_, err := d.Submit(context.Background(), engine.Batch{Actor: config.Actor{ID: "bench"}, Requests: []config.Request{{
							Kind: config.SetField, Entity: fmt.Sprintf("service.s%d", i%1000), Field: "weight", Value: i,
						}}})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func BenchmarkSubmitBatches(b *testing.B) {
	d := openSQLite(b, filepath.Join(b.TempDir(), "db"))
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 8 {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				requests := make([]config.Request, 100)
				for j := range requests {
					requests[j] = config.Request{Kind: config.SetField, Entity: fmt.Sprintf("service.s%d", (i*100+int64(j))%10000), Field: "weight", Value: i}
				}
				if _, err := d.Submit(context.Background(), engine.Batch{Actor: config.Actor{ID: "bench"}, Requests: requests}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "ops/s")
}
