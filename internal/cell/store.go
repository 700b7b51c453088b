package cell

import (
	"context"
	"time"

	"github.com/skep-dev/skep/internal/git"
)

// store keeps a cell's state. There is one implementation, on SQLite; the interface is what a second one, on PostgreSQL,
// will have to satisfy. Its transactions compare before they set, so that a store which several nodes share stays right.
type store interface {
	// load reads everything that an open cell keeps in memory.
	load(ctx context.Context) (*snapshot, error)
	// hotPack reads all of a hot pack.
	hotPack(ctx context.Context, id int64) (idx, table, data []byte, err error)
	// commit applies changes in order, in one transaction. It wraps errkind.Conflict when the state is not what the changes
	// were made for. When it returns nil, they are durable.
	commit(ctx context.Context, version int64, changes []change) error
	// looseRoots returns since when roots are known to be named by no reference.
	looseRoots(ctx context.Context) (map[git.OID]time.Time, error)
	// refLog returns the newest moves of one reference, or of all.
	refLog(ctx context.Context, name git.RefName, most int) ([]RefLogEntry, error)
	// size is how many bytes the store takes on disk.
	size(ctx context.Context) (int64, error)
	close() error
}

// snapshot is a cell's state as its store keeps it.
type snapshot struct {
	version  int64
	head     git.RefName
	settings Settings
	refs     []git.Ref // sorted by name
	roots    []git.OID
	loosest  time.Time // since when a root is named by no reference, the oldest; zero: none is
	packs    []packRow // sorted by id
}

// packRow is a pack in the catalogue.
type packRow struct {
	id       int64
	checksum git.OID
	size     int64
	objects  int
	aside    time.Time // zero: it is live
	hot      bool      // its bytes are in the store, not in the bucket

	idx, table []byte // of a hot pack
	data       []byte // only on the way into the store
}

// change is one step of a transaction. Only what is set in it changes.
type change struct {
	head     git.RefName
	settings *Settings

	addPacks  []packRow
	dropPacks []int64

	refs []refChange
	log  []RefLogEntry

	dropRoots []git.OID
	addRoots  []git.OID
	loose     []git.OID // roots that no reference names, from looseAt on
	looseAt   time.Time
	tied      []git.OID // roots that a reference names again

	forgetLog time.Time // drop older entries of the reflog
}

// refChange moves a reference from a value to another; zero means that it does not exist.
type refChange struct {
	old git.OID
	git.Ref
}
