package usage

import (
	"fmt"

	"github.com/skep-dev/skep/internal/errkind"
)

// Kind is a kind of use. The set is closed.
type Kind uint8

// The kinds.
const (
	None     Kind = iota
	Fetch         // a request for objects, with git or over REST
	Push          // with git or over REST
	Archive       // a tree as tar.gz or zip
	APIRead       // another GET over REST
	APIWrite      // another method over REST
	BytesIn       // of requests' bodies
	BytesOut      // of answers' bodies
	Compute       // microseconds from a request's headers to the end of its answer
	Storage       // bytes of a repository's database and packs: what was there at the end, in hours in which it was measured to have changed
	kinds         // how many there are
)

var names = [kinds]string{
	None: "none", Fetch: "fetch", Push: "push", Archive: "archive", APIRead: "api.read", APIWrite: "api.write",
	BytesIn: "bytes.in", BytesOut: "bytes.out", Compute: "compute", Storage: "storage",
}

func (k Kind) String() string { return names[k] }

// ParseKind reads what String writes.
func ParseKind(s string) (Kind, error) {
	for k := Fetch; k < kinds; k++ {
		if names[k] == s {
			return k, nil
		}
	}
	return None, fmt.Errorf("kind of use %.40q: %w", s, errkind.Invalid)
}
