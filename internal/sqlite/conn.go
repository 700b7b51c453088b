package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/skep-dev/skep/internal/errkind"
)

// Conn is a connection inside one transaction. It is valid until the function that got it returns.
type Conn struct {
	c *sqlite.Conn
}

// transact runs fn between begin and COMMIT.
func (c *Conn) transact(ctx context.Context, begin string, fn func(*Conn) error) (err error) {
	if err := c.run(begin); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { // also when fn panics
		if !c.c.AutocommitEnabled() {
			c.c.SetInterrupt(nil)
			err = errors.Join(err, c.run("ROLLBACK"))
		}
	}()
	// A caller who goes away ends a long query, but never a commit: that could leave it open whether it was done.
	c.c.SetInterrupt(ctx.Done())
	err = fn(c)
	c.c.SetInterrupt(nil)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	if err := c.run("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Exec runs one statement that returns no rows.
func (c *Conn) Exec(query string, args ...any) error {
	return c.run(query, args...)
}

// Changes is how many rows the last Exec inserted, updated or deleted.
func (c *Conn) Changes() int { return c.c.Changes() }

// LastInsertRowID is the rowid that the last INSERT gave.
func (c *Conn) LastInsertRowID() int64 { return c.c.LastInsertRowID() }

// Query runs one statement and yields its rows. A row is valid until the next one. The same query text may not run
// twice at a time on one Conn: a loop's body uses other queries.
func (c *Conn) Query(query string, args ...any) iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		s, err := c.prepare(query, args)
		if err != nil {
			yield(nil, err)
			return
		}
		defer s.Reset() //nolint:errcheck // it repeats the error of the last Step, which was seen
		row := &Row{s}
		for {
			more, err := s.Step()
			if err != nil {
				yield(nil, wrap(query, err))
				return
			}
			if !more || !yield(row, nil) {
				return
			}
		}
	}
}

// First runs one statement and hands its first row to scan. It reports whether there was one.
func (c *Conn) First(query string, scan func(*Row), args ...any) (bool, error) {
	for row, err := range c.Query(query, args...) {
		if err != nil {
			return false, err
		}
		scan(row)
		return true, nil
	}
	return false, nil
}

func (c *Conn) run(query string, args ...any) error {
	for _, err := range c.Query(query, args...) {
		if err != nil {
			return err
		}
	}
	return nil
}

// script runs statements that take no arguments, separated by semicolons.
func (c *Conn) script(text string) error {
	for strings.TrimSpace(text) != "" {
		s, rest, err := c.c.PrepareTransient(text)
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			more, err = s.Step()
		}
		if err := errors.Join(err, s.Finalize()); err != nil {
			return err
		}
		text = text[len(text)-rest:]
	}
	return nil
}

func (c *Conn) prepare(query string, args []any) (*sqlite.Stmt, error) {
	s, err := c.c.Prepare(query)
	if err != nil {
		return nil, err
	}
	if n := s.BindParamCount(); n != len(args) {
		panic(fmt.Sprintf("bug: %d arguments for the %d of %q", len(args), n, query))
	}
	for i, a := range args {
		bind(s, i+1, a)
	}
	return s, nil
}

// bind sets a parameter: strings, integers, booleans and byte strings of whatever named type, times as microseconds
// since 1970 (the zero time as 0), and nil as NULL.
func bind(s *sqlite.Stmt, i int, arg any) {
	switch v := arg.(type) {
	case nil:
		s.BindNull(i)
	case string:
		s.BindText(i, v)
	case []byte:
		s.BindBytes(i, v)
	case int:
		s.BindInt64(i, int64(v))
	case int64:
		s.BindInt64(i, v)
	case bool:
		s.BindBool(i, v)
	case time.Time:
		s.BindInt64(i, micros(v))
	default:
		bindReflect(s, i, reflect.ValueOf(arg))
	}
}

func bindReflect(s *sqlite.Stmt, i int, v reflect.Value) {
	switch {
	case v.Kind() == reflect.String:
		s.BindText(i, v.String())
	case v.CanInt():
		s.BindInt64(i, v.Int())
	case v.CanUint() && v.Kind() != reflect.Uint64 && v.Kind() != reflect.Uint:
		s.BindInt64(i, int64(v.Uint())) //nolint:gosec // 32 bits at most
	case v.Kind() == reflect.Bool:
		s.BindBool(i, v.Bool())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		s.BindBytes(i, v.Bytes())
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		s.BindBytes(i, b)
	default:
		panic(fmt.Sprintf("bug: %s is no SQL argument", v.Type()))
	}
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// wrap says which statement failed and, where a caller may act on it, as what kind.
func wrap(query string, err error) error {
	kind := errkind.Internal
	switch code := sqlite.ErrCode(err); {
	case code == sqlite.ResultConstraintUnique || code == sqlite.ResultConstraintPrimaryKey || code == sqlite.ResultConstraintRowID:
		kind = errkind.Exists
	case code.ToPrimary() == sqlite.ResultConstraint:
		kind = errkind.Conflict
	case code.ToPrimary() == sqlite.ResultBusy || code.ToPrimary() == sqlite.ResultFull:
		kind = errkind.Unavailable
	}
	if kind == errkind.Internal {
		return fmt.Errorf("run %q: %w", query, err)
	}
	return fmt.Errorf("run %q: %w: %w", query, err, kind)
}

// Row is one row of a result. Columns count from 0.
type Row struct {
	s *sqlite.Stmt
}

// Int returns a column as an int.
func (r *Row) Int(col int) int { return int(r.s.ColumnInt64(col)) }

// Int64 returns a column as an int64.
func (r *Row) Int64(col int) int64 { return r.s.ColumnInt64(col) }

// Bool returns whether a column is not 0.
func (r *Row) Bool(col int) bool { return r.s.ColumnInt64(col) != 0 }

// Text returns a column as a string.
func (r *Row) Text(col int) string { return r.s.ColumnText(col) }

// Bytes returns a column as bytes that the caller may keep; nil for NULL.
func (r *Row) Bytes(col int) []byte {
	if r.s.ColumnIsNull(col) {
		return nil
	}
	b := make([]byte, r.s.ColumnLen(col))
	r.s.ColumnBytes(col, b)
	return b
}

// Copy copies a column into buf and returns the column's length.
func (r *Row) Copy(col int, buf []byte) int {
	r.s.ColumnBytes(col, buf)
	return r.s.ColumnLen(col)
}

// Time returns a column that was bound as a time.Time, in UTC; the zero time for 0.
func (r *Row) Time(col int) time.Time {
	n := r.s.ColumnInt64(col)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// IsNull reports whether a column is NULL.
func (r *Row) IsNull(col int) bool { return r.s.ColumnIsNull(col) }
