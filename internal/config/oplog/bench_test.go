package oplog_test

import (
	"fmt"
	"testing"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

// recordBytes is about what one operation has.
const recordBytes = 300

// stores are those that are worth measuring: dynalite says nothing of DynamoDB.
var stores = []struct {
	name string
	open func(b *testing.B) oplog.Store
}{
	{"sqlite", func(b *testing.B) oplog.Store { b.Helper(); return openDir(b, b.TempDir()) }},
	{"postgres", func(b *testing.B) oplog.Store { b.Helper(); return openPostgres(b, postgrestest.New(b)) }},
}

// BenchmarkAppend appends from one goroutine: single records, what 64 writers have at a time, and batches.
func BenchmarkAppend(b *testing.B) {
	for _, s := range stores {
		for _, n := range []int{1, 64, 100, 1000} {
			b.Run(fmt.Sprintf("%s/records=%d", s.name, n), func(b *testing.B) {
				log := benchLog(b, s.open(b))
				var head oplog.Head
				for b.Loop() {
					head = benchAppend(b, log, head, n)
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkRead reads a million records.
func BenchmarkRead(b *testing.B) {
	const records = 1_000_000
	for _, s := range stores {
		b.Run(s.name, func(b *testing.B) {
			log := benchLog(b, s.open(b))
			var head oplog.Head
			for head.Seq < records {
				head = benchAppend(b, log, head, oplog.MaxAppendRecords)
			}
			for b.Loop() {
				n := 0
				err := log.Read(b.Context(), 1, 0, func(oplog.Record) error {
					n++
					return nil
				})
				if err != nil || n != records {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(records*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func benchLog(b *testing.B, s oplog.Store) oplog.Log {
	b.Helper()
	if err := s.Create(b.Context(), "bench"); err != nil {
		b.Fatal(err)
	}
	log, err := s.Open(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = log.Close()
		_ = s.Close()
	})
	return log
}

func benchAppend(b *testing.B, log oplog.Log, head oplog.Head, n int) oplog.Head {
	b.Helper()
	records := oplogtest.Chain(head, n, func(int) int { return recordBytes })
	if err := log.Append(b.Context(), head, records); err != nil {
		b.Fatal(err)
	}
	return oplogtest.After(records)
}
