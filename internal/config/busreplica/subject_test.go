package busreplica_test

import (
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/busreplica"
)

func TestSubjects(t *testing.T) {
	for _, tt := range []struct{ scope, document, want string }{
		{"", "shop", "skep.config.=.shop"},
		{"acme/team", "shop", "skep.config.acme=2Fteam.shop"},
		{"acme", "shop.>", "skep.config.acme.shop=2E=3E"},
		{"=", "*", "skep.config.=3D.=2A"},
	} {
		if have := busreplica.SubjectOf(tt.scope, tt.document); have != tt.want {
			t.Errorf("%q, %q: %s, want %s", tt.scope, tt.document, have, tt.want)
		}
	}
}

// Whatever documents are called, the subject of one is never that of another, nor a wildcard for it.
func FuzzSubject(f *testing.F) {
	f.Add("acme", "shop", "acme", "shop.news")
	f.Add("a", "b.c", "a.b", "c")
	f.Add("", "=", "=", "")
	f.Fuzz(func(t *testing.T, scope1, document1, scope2, document2 string) {
		a, b := busreplica.SubjectOf(scope1, document1), busreplica.SubjectOf(scope2, document2)
		if (a == b) != (scope1 == scope2 && document1 == document2) {
			t.Errorf("%q.%q has %s, and %q.%q has %s", scope1, document1, a, scope2, document2, b)
		}
		if strings.Count(a, ".") != 3 || strings.ContainsAny(a, "*> \t\r\n\x00") || strings.Contains(a, "..") {
			t.Errorf("%s is no subject", a)
		}
	})
}
