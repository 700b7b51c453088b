package git_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

func TestOIDRoundTrip(t *testing.T) {
	err := quick.Check(func(o git.OID) bool {
		parsed, err := git.ParseOID(o.String())
		b, errJSON := json.Marshal(o)
		var read git.OID
		return err == nil && parsed == o && errJSON == nil && json.Unmarshal(b, &read) == nil && read == o &&
			string(o.AppendHex([]byte("x"))) == "x"+o.String()
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestParseOIDRefuses(t *testing.T) {
	good := strings.Repeat("0a", 20)
	for _, s := range []string{"", good[1:], good + "0", strings.ToUpper(good), good[:39] + "g", good[:39] + " ", strings.Repeat("é", 20)} {
		if o, err := git.ParseOID(s); !errors.Is(err, errkind.Invalid) || !o.IsZero() {
			t.Errorf("ParseOID(%q) = %v, %v, want zero and errkind.Invalid", s, o, err)
		}
	}
}

func TestOIDOrderIsTextOrder(t *testing.T) {
	err := quick.Check(func(list []git.OID) bool {
		slices.SortFunc(list, git.OID.Compare)
		return slices.IsSortedFunc(list, func(a, b git.OID) int { return strings.Compare(a.String(), b.String()) })
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestKindNames(t *testing.T) {
	for k := range git.Kind(8) {
		parsed, err := git.ParseKind(k.String())
		if k.Valid() != (err == nil) || k.Valid() && parsed != k {
			t.Errorf("ParseKind(%q) = %v, %v", k.String(), parsed, err)
		}
	}
}
