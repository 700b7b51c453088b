// Package sqlite opens, migrates and tunes SQLite databases; it is the only user of their driver.
//
// A DB has one writing connection and, when asked for, a few reading ones. All access goes through two methods, each of
// which runs a function in one transaction:
//
//	db, err := sqlite.Open(ctx, path, migrations, sqlite.Options{Readers: 4})
//	err = db.Write(ctx, func(c *sqlite.Conn) error {
//		return c.Exec("INSERT INTO token (id, hash) VALUES (?, ?)", id, hash)
//	})
//	err = db.Read(ctx, func(c *sqlite.Conn) error {
//		for row, err := range c.Query("SELECT id FROM token WHERE principal = ?", p) {
//			…
//		}
//	})
//
// What callers may rely on:
//   - When Write returns nil, the transaction is on disk (write-ahead log, synchronous=FULL).
//   - When Write returns an error, nothing of it is visible, with one exception that no database can exclude: the disk
//     failed in the middle of the commit. Open the database again then, and look.
//   - A function that fails, or panics, leaves nothing behind.
//
// The schema is a folder of numbered files, 0001_first.sql, 0002_second.sql and so on. The database's user_version says
// how many of them it has had.
package sqlite
