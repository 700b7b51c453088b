// Package postgres opens, migrates and tunes PostgreSQL databases; it is the only user of their driver.
//
// It has the shapes of package sqlite, so that one set of queries runs on either:
//
//	db, err := postgres.Open(ctx, "postgres://skep@db.example.com/skep", migrations, postgres.Options{})
//	err = db.Write(ctx, func(c *postgres.Conn) error {
//		return c.Exec("INSERT INTO token (id, hash) VALUES (?, ?)", id, hash)
//	})
//
// What callers may rely on:
//   - What Write's function reads cannot change before it commits: the transaction is serialisable. When it meets another one,
//     the function runs again, so it sets what it gives to the outside anew each time, and does nothing that must not happen twice.
//   - When Write returns nil, the transaction is committed. When it returns an error, nothing of it is visible, with one
//     exception that no client can exclude: the connection broke in the middle of the commit.
//   - Read's function sees one state of the database and cannot change it.
//   - A function that fails, or panics, leaves nothing behind.
//   - Everything ends: waiting for a connection, a statement, a lock and a transaction have their limits.
//   - No error contains a password.
//
// The portable subset of SQL that both packages run: parameters are ? or ?1, ?2 …; the types are TEXT, INTEGER (here BIGINT) and
// BLOB (here BYTEA); a boolean is the integer 0 or 1; a time is microseconds since 1970, 0 for none. TEXT columns are declared
// COLLATE "C", which is the order of bytes, as in SQLite. Text with a NUL byte or that is no UTF-8 cannot be stored.
//
// The schema is a folder of numbered files (package migration). A table, skep_schema by default, says which of them the
// database has had.
package postgres
