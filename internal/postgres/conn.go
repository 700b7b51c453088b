package postgres

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxRows bounds what one query may return: it is read as a whole. Lists come in pages, far below.
const maxRows = 100_000

// Conn is a connection inside one transaction. It is valid until the function that got it returns.
type Conn struct {
	ctx     context.Context //nolint:containedctx // a Conn lives inside one call of Read or Write, whose context it is
	tx      pgx.Tx
	changes int
	failed  error // of the first statement that failed: the server then refuses all others
}

// Exec runs one statement that returns no rows.
func (c *Conn) Exec(query string, args ...any) error {
	text, plain := c.prepare(query, args)
	tag, err := c.tx.Exec(c.ctx, text, plain...)
	if err != nil {
		return c.fail(query, err)
	}
	c.changes = int(tag.RowsAffected())
	return nil
}

// Changes is how many rows the last Exec inserted, updated or deleted.
func (c *Conn) Changes() int { return c.changes }

// Query runs one statement and yields its rows. All are read before the first is yielded, so that a loop's body may run
// other queries.
func (c *Conn) Query(query string, args ...any) iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		all, err := c.all(query, args)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, values := range all {
			if !yield(&Row{query, values}, nil) {
				return
			}
		}
	}
}

func (c *Conn) all(query string, args []any) (out [][]any, err error) {
	text, plain := c.prepare(query, args)
	rows, err := c.tx.Query(c.ctx, text, plain...)
	if err != nil {
		return nil, c.fail(query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if len(out) == maxRows {
			return nil, fmt.Errorf("run %q: it has more than %d rows: %w", query, maxRows, errkind.TooLarge)
		}
		values, err := rows.Values()
		if err != nil {
			return nil, c.fail(query, err)
		}
		out = append(out, values)
	}
	if err := rows.Err(); err != nil {
		return nil, c.fail(query, err)
	}
	return out, nil
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

// fail says which statement failed and, where a caller may act on it, as what kind.
func (c *Conn) fail(query string, err error) error {
	err = fmt.Errorf("run %q: %w", query, classify(err, c.tx.Conn().IsClosed()))
	if c.failed == nil {
		c.failed = err
	}
	return err
}

func (c *Conn) prepare(query string, args []any) (text string, plain []any) {
	text, n := number(query)
	if n != len(args) {
		panic(fmt.Sprintf("bug: %d arguments for the %d of %q", len(args), n, query))
	}
	plain = make([]any, len(args))
	for i, a := range args {
		plain[i] = argument(a)
	}
	return text, plain
}

// argument gives a parameter the type of a column: strings, integers and byte strings of whatever named type, booleans as
// 0 and 1, times as microseconds since 1970 (the zero time as 0), and nil as NULL.
func argument(arg any) any {
	switch v := arg.(type) {
	case nil, string, int64, []byte:
		return v
	case int:
		return int64(v)
	case time.Time:
		return micros(v)
	}
	v := reflect.ValueOf(arg)
	switch {
	case v.Kind() == reflect.String:
		return v.String()
	case v.CanInt():
		return v.Int()
	case v.CanUint() && v.Kind() != reflect.Uint64 && v.Kind() != reflect.Uint:
		return int64(v.Uint()) //nolint:gosec // 32 bits at most
	case v.Kind() == reflect.Bool && v.Bool():
		return int64(1)
	case v.Kind() == reflect.Bool:
		return int64(0)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return v.Bytes()
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return b
	}
	panic(fmt.Sprintf("bug: %s is no SQL argument", v.Type()))
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Row is one row of a result. Columns count from 0. NULL reads as the zero value of any type.
type Row struct {
	query  string
	values []any
}

// Int returns a column as an int.
func (r *Row) Int(col int) int { return int(r.Int64(col)) }

// Int64 returns a column as an int64.
func (r *Row) Int64(col int) int64 {
	switch v := r.values[col].(type) {
	case nil:
		return 0
	case int64:
		return v
	case int32:
		return int64(v)
	case int16:
		return int64(v)
	default:
		panic(r.mistyped(col, "an integer"))
	}
}

// Bool returns whether a column is not 0.
func (r *Row) Bool(col int) bool { return r.Int64(col) != 0 }

// Text returns a column as a string.
func (r *Row) Text(col int) string {
	switch v := r.values[col].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		panic(r.mistyped(col, "text"))
	}
}

// Bytes returns a column as bytes that the caller may keep; nil for NULL.
func (r *Row) Bytes(col int) []byte {
	switch v := r.values[col].(type) {
	case nil:
		return nil
	case []byte:
		return v
	default:
		panic(r.mistyped(col, "a byte string"))
	}
}

// Copy copies a column into buf and returns the column's length.
func (r *Row) Copy(col int, buf []byte) int {
	b := r.Bytes(col)
	copy(buf, b)
	return len(b)
}

// Time returns a column that was bound as a time.Time, in UTC; the zero time for 0.
func (r *Row) Time(col int) time.Time {
	n := r.Int64(col)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// IsNull reports whether a column is NULL.
func (r *Row) IsNull(col int) bool { return r.values[col] == nil }

func (r *Row) mistyped(col int, want string) string {
	return fmt.Sprintf("bug: column %d of %q is %T, not %s; CAST it", col, r.query, r.values[col], want)
}
