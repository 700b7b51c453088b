package oplog_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/dynalitetest"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
)

func TestDynamo(t *testing.T) {
	endpoint := dynalitetest.New(t)
	var tables atomic.Int64
	oplogtest.Run(t, func(tb testing.TB) func() oplog.Store {
		tb.Helper()
		opts := oplog.DynamoOptions{Table: fmt.Sprintf("table-%d", tables.Add(1)), Region: "eu-central-1", Endpoint: endpoint, CreateTable: true}
		return func() oplog.Store {
			tb.Helper()
			s, err := oplog.OpenDynamo(tb.Context(), opts)
			if err != nil {
				tb.Fatal(err)
			}
			return s
		}
	})
}
