// Package errkind holds the few kinds of failure that a caller may act on.
//
// A Kind is an error. Wrap one where a caller can do something about the failure, and test for it with errors.Is:
//
//	return fmt.Errorf("update %s: expected %s, found %s: %w", ref, old, cur, errkind.Conflict)
//
// The edges (HTTP, the Git protocol, the command line) translate with one exhaustive switch on Of(err). An error that
// wraps no Kind is Internal: its text is for the log, not for the person.
package errkind

import "errors"

// Kind is one kind of failure. The set is closed.
type Kind uint8

// The kinds, and what a caller does about each.
const (
	Internal      Kind = iota // a defect or a broken machine: log it, answer 500
	Invalid                   // the input is malformed or breaks a rule: correct it
	Unauthorized              // no valid credential came with the call: present one
	Forbidden                 // the caller is known and may see the resource, but may not do this
	NotFound                  // there is no such thing, or the caller may not know that there is
	Exists                    // the name is taken
	Conflict                  // the state has moved on: read it again, then retry
	TooLarge                  // a named limit was passed
	Unavailable               // too much to do, or shutting down: retry later
	RateLimited               // the caller asks more often than it may: retry when the answer says
	QuotaExceeded             // what the tenant may have is used up: free some of it, or ask who sets its quotas
	Unsupported               // known, but not something this server does
)

var texts = [...]string{
	Internal:      "internal error",
	Invalid:       "invalid",
	Unauthorized:  "authentication required",
	Forbidden:     "forbidden",
	NotFound:      "not found",
	Exists:        "already exists",
	Conflict:      "conflict",
	TooLarge:      "too large",
	Unavailable:   "unavailable",
	RateLimited:   "rate limited",
	QuotaExceeded: "quota exceeded",
	Unsupported:   "not supported",
}

func (k Kind) Error() string { return texts[k] }

// Of returns the Kind that err wraps, or Internal if it wraps none. Of(nil) is Internal as well: ask only of failures.
func Of(err error) Kind {
	if k, ok := errors.AsType[Kind](err); ok {
		return k
	}
	return Internal
}
