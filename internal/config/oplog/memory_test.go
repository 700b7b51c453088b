package oplog_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
)

func TestMemory(t *testing.T) {
	oplogtest.Run(t, func(testing.TB) func() oplog.Store {
		s := oplog.NewMemory()
		return func() oplog.Store { return s }
	})
}
