package e2e

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skep-dev/skep/internal/config/oplog/dynalitetest"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

// A document does the same wherever its log is. The scripts have $STORE, the store's address.
func TestStores(t *testing.T) {
	aws := []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test"}
	stores := []struct {
		name    string
		address func() string
	}{
		{"sqlite", func() string { return "sqlite:../store" }},
		{"postgres", func() string { return postgrestest.New(t) }},
		{"dynamodb", func() string {
			return "dynamodb://skep?region=eu-central-1&create=true&endpoint=" + dynalitetest.New(t)
		}},
	}
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			testscript.Run(t, scripts("testdata/stores", append(aws, "STORE="+s.address())...))
		})
	}
}
