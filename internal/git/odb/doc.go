// Package odb finds and stores Git objects across packs.
//
// A Store is the objects of one repository at one moment, a Set is some of them, and WritePack sends a Set as a pack.
// New objects come in by one road, Store.Receive: a Quarantine is a received pack together with the store it would join.
// A Writer makes objects on this side (a commit over REST) and takes the same road.
//
//	q, err := store.Receive(ctx, r, pack.ReceiveOptions{Dir: dir})
//	// check the references against q.Store, then keep q.Pack, or q.Close()
//
// Invariants that callers may rely on, and must keep when they make a Store:
//
//   - A store is link-closed: every object that one of its objects names is in the store. A gitlink names nothing.
//   - Packs are ordered, oldest first, and an object counts in the first pack that has it: its canonical place.
//   - A delta's base lies in the delta's own pack. So the canonical place of a base is never in a later pack, and the
//     copies that WritePack chooses can make no cycle of deltas.
package odb
