// Package cell is one repository: references, packs, settings, and its single writer.
//
// A Cell is an open repository. Reads work on immutable views and never wait for the writer:
//
//	c, err := cell.Open(ctx, path, files, "packs/ten_x/repo_y", cell.Options{…})
//	release := c.Hold()
//	defer release()
//	view := c.View()
//
// # What is where
//
// The database has the references, the reflog, the settings, the catalogue of packs, and the roots: the objects that no
// other object names. A small pack is hot: a row of the catalogue has its bytes, its index and its table. A larger one is
// warm: three immutable files in the bucket. Everything but the bytes of packs is in memory while the cell is open.
//
// # The path of a push
//
//  1. Quarantine reads the pack into memory or temporary files, indexes it, and checks that nothing it names is missing.
//  2. Update queues. Whoever has the writer's turn takes all that queue, and judges each against the state that the one
//     before leaves: old values, directory and file conflicts, deny rules. A refused reference does not refuse others.
//  3. A large pack's files are moved into the bucket and synced.
//  4. ONE transaction: pack row, roots, reference compare-and-swap, reflog. It is synced when it returns.
//  5. The new view is published; those who queued hear the result.
//
// # What a crash leaves
//
//	before 3   temporary files: emptied when the data directory is opened
//	in 3       files in the bucket that no row names: removed when the cell is opened
//	in 4       the transaction is there or not there, whole, by SQLite's log; if not, as in 3
//	after 4    everything; a client that heard nothing of it finds its push done
//
// A row never names a file that is not there: files come before rows, and go after them. Compaction keeps the same order:
// new files, one transaction that changes rows, then the old files go.
//
// # What is set aside
//
// References that move backwards or go leave objects that nothing leads to. They stay in the store at first. When a
// compaction finds roots that no reference has named for Options.SettleAfter, it moves what the references do not lead to
// into a pack that is set aside: no view has it, so that clones are again a copy of all there is. An Update may still
// name an object of it, and brings all of it back. Options.Grace later it is dropped. See Compact.
package cell
