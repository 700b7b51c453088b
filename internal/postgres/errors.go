package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skep-dev/skep/internal/errkind"
)

// meeting says how a transaction met another one.
type meeting int

const (
	no           meeting = iota
	atAnother            // both cannot be true: a serialisation failure or a deadlock
	atConstraint         // at a constraint: what the function had found free, or there, is so no longer
)

// The states that are told apart: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	foreignKeyViolation  = "23503"
	uniqueViolation      = "23505"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"
	readOnlyTransaction  = "25006"
	idleInTransaction    = "25P03"
	undefinedTable       = "42P01"
	notInRepertoire      = "22021"

	classConnection  = "08"
	classConstraint  = "23"
	classNoResources = "53"
	classIntervened  = "57P" // shutting down, starting up
)

func metOther(err error) meeting {
	switch stateOf(err) {
	case serializationFailure, deadlockDetected:
		return atAnother
	case uniqueViolation, foreignKeyViolation:
		return atConstraint
	}
	return no
}

// stateOf is the SQLSTATE of an error from the server, else empty.
func stateOf(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// classify wraps the kind that a caller may act on. A server's error leaves the connection open; if it is closed, or time
// has run out, the database could not be reached.
func classify(err error, closed bool) error {
	if kind := kindOf(err, closed); kind != errkind.Internal {
		return fmt.Errorf("%w: %w", oneLine(err), kind)
	}
	return err
}

func kindOf(err error, closed bool) errkind.Kind {
	switch state := stateOf(err); {
	case state == "":
		if closed || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return errkind.Unavailable
		}
	case state == uniqueViolation:
		return errkind.Exists
	case strings.HasPrefix(state, classConstraint), state == serializationFailure, state == deadlockDetected:
		return errkind.Conflict
	case state == notInRepertoire:
		return errkind.Invalid
	case state == lockNotAvailable, state == queryCanceled, state == readOnlyTransaction, state == idleInTransaction,
		strings.HasPrefix(state, classConnection), strings.HasPrefix(state, classNoResources), strings.HasPrefix(state, classIntervened):
		return errkind.Unavailable
	}
	return errkind.Internal
}

// shortError is an error with a text of its own: the driver's are several lines, one for each address that it tried.
type shortError struct {
	text  string
	cause error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.cause }

// oneLine shortens an error to the reason that counts: the server's own words, or else the system's.
func oneLine(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return &shortError{fmt.Sprintf("%s (SQLSTATE %s)", pg.Message, pg.Code), err}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return &shortError{op.Error(), err}
	}
	return &shortError{strings.Join(strings.Fields(err.Error()), " "), err}
}
