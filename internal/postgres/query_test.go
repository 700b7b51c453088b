package postgres_test

import (
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/postgres"
)

func TestNumber(t *testing.T) {
	tests := []struct {
		in, want string
		params   int
	}{
		{"SELECT 1", "SELECT 1", 0},
		{"a = ? AND b = ?", "a = $1 AND b = $2", 2},
		{"?2 ?1 ?2", "$2 $1 $2", 2},
		{"?3 ? ?1", "$3 $4 $1", 4},
		{"'?' ? 'it''s ?' ?", "'?' $1 'it''s ?' $2", 2},
		{`"?" ? "a""?" ?`, `"?" $1 "a""?" $2`, 2},
		{"? -- really?\n?", "$1 -- really?\n$2", 2},
		{"? /* ? */ ?", "$1 /* ? */ $2", 2},
		{"? - ? / ?", "$1 - $2 / $3", 3},
		{"'open ?", "'open ?", 0},
		{"-- open ?", "-- open ?", 0},
		{"/* open ?", "/* open ?", 0},
		{"?99999999999999999999", "$1", 1},
		{"?0 ?00", "$1 $2", 2},
	}
	for _, tt := range tests {
		if got, n := postgres.Number(tt.in); got != tt.want || n != tt.params {
			t.Errorf("number(%q) = %q, %d, want %q, %d", tt.in, got, n, tt.want, tt.params)
		}
	}
}

// FuzzNumber: nothing but parameters changes, and what is quoted stays.
func FuzzNumber(f *testing.F) {
	f.Add("a = ? AND b = '?' -- ?")
	f.Add(`"?" ?2 /* ? */ ?`)
	f.Fuzz(func(t *testing.T, query string) {
		if strings.Contains(query, "$") {
			return
		}
		text, n := postgres.Number(query)
		if strings.Count(text, "$") > strings.Count(query, "?") || n == 0 && text != query {
			t.Errorf("number(%q) = %q, %d", query, text, n)
		}
	})
}
