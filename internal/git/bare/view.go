package bare

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// state is what one request sees of the repository.
type state struct {
	refs    *refState
	objects *objects
	shallow map[git.OID]bool
	view    protocol.View
}

// load reads the repository's state: references first, as what they name was written before them.
func (r *Repo) load(ctx context.Context, how Service) (*state, error) {
	refs, err := r.readRefs()
	if err != nil {
		return nil, err
	}
	objects, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	s := &state{refs: refs, objects: objects, shallow: r.readShallow()}
	s.view = viewOf(refs.refs(r.space, testIn(objects.store)), objects.store, s.shallow)
	s.view.Namespace = r.space
	if s.view.Config, err = r.protocolConfig(how); err != nil {
		objects.close()
		return nil, err
	}
	return s, nil
}

func (s *state) close() { s.objects.close() }

func viewOf(refs *git.Refs, store *odb.Store, shallow map[git.OID]bool) protocol.View {
	list := slices.SortedFunc(maps.Keys(shallow), git.OID.Compare)
	return protocol.View{
		Refs: refs, Objects: store, Memo: &protocol.Memo{}, Shallow: list,
		Graph: sync.OnceValues(func() (*revwalk.Graph, error) { return revwalk.NewShallowGraph(store, shallow) }),
	}
}

// testIn looks up what references name.
func testIn(store *odb.Store) objectTest {
	return func(o git.OID) (git.Kind, git.OID, bool) {
		at, ok := store.Find(o)
		if !ok {
			return 0, git.OID{}, false
		}
		kind := store.Kind(at)
		if kind != git.Tag {
			return kind, git.OID{}, true
		}
		peeled, _, err := store.Peel(o)
		if err != nil {
			return kind, git.OID{}, true // a tag of what is not there is shown without
		}
		return kind, peeled, true
	}
}

// readShallow reads the commits at which the repository's history ends.
func (r *Repo) readShallow() map[git.OID]bool {
	b, err := readFile(r.shallowFile(), maxListFile)
	if err != nil {
		return nil
	}
	shallow := map[git.OID]bool{}
	for line := range strings.Lines(string(b)) {
		if o, err := git.ParseOID(strings.TrimSpace(line)); err == nil {
			shallow[o] = true
		}
	}
	return shallow
}

func (r *Repo) shallowFile() string {
	if name := os.Getenv("GIT_SHALLOW_FILE"); name != "" {
		return name
	}
	return filepath.Join(r.common, "shallow")
}
