package oplog_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/dynalitetest"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

func TestOpenStore(t *testing.T) {
	for _, address := range []string{
		"sqlite:" + filepath.Join(t.TempDir(), "a", "b"),
		postgrestest.New(t),
		"dynamodb://skep-test?region=eu-central-1&create=true&endpoint=" + dynalitetest.New(t),
		"memory:",
	} {
		s, err := oplog.OpenStore(t.Context(), address)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := s.Create(t.Context(), "shop"); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenStoreRefused(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	tests := []struct{ address, want string }{
		{"", "none of sqlite:DIR"},
		{"/var/lib/skep", "none of sqlite:DIR"},
		{"postgres:skep:s3cret@host", "none of sqlite:DIR"},
		{"memory:x", "none of sqlite:DIR"},
		{"sqlite:", "write sqlite:DIR"},
		{"dynamodb:table", "write dynamodb://TABLE"},
		{"dynamodb://table/x", "write dynamodb://TABLE"},
		{"dynamodb://table?region=a&region=b", "region is there twice"},
		{"dynamodb://table?zone=a", "zone is not known"},
		{"dynamodb://table?create=perhaps", "create is true or false"},
		{"dynamodb://table?endpoint=localhost:8000", "endpoint is no URL"},
		{"dynamodb://table?endpoint=ftp://host", "endpoint is no URL"},
		{"dynamodb://table", "set its region"},
		{"dynamodb://table?region=eu-central-1", "set AWS_ACCESS_KEY_ID"},
	}
	for _, tt := range tests {
		_, err := oplog.OpenStore(t.Context(), tt.address)
		if err == nil || errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("OpenStore(%q): %v, want Invalid with %q", tt.address, err, tt.want)
		}
	}
}
