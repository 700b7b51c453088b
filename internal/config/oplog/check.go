package oplog

import (
	"fmt"
	"math"

	"github.com/skep-dev/skep/internal/errkind"
)

// What callers give is checked here, before a store sees it.

func checkDocument(doc string) error {
	if doc == "" || len(doc) > MaxDocumentName {
		return fmt.Errorf("document name %.80q: it has 1 to %d characters: %w", doc, MaxDocumentName, errkind.Invalid)
	}
	for _, c := range []byte(doc) {
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("document name %q: it has lower-case letters, digits, - and _ only: %w", doc, errkind.Invalid)
		}
	}
	return nil
}

func checkAppend(prev Head, records []Record) error {
	if len(records) == 0 {
		return fmt.Errorf("append no records: %w", errkind.Invalid)
	}
	if len(records) > MaxAppendRecords {
		return fmt.Errorf("append %d records: at most %d go at once: %w", len(records), MaxAppendRecords, errkind.TooLarge)
	}
	if prev.Seq > math.MaxInt64-MaxAppendRecords {
		return fmt.Errorf("append after record %d: it cannot be there: %w", prev.Seq, errkind.Invalid)
	}
	bytes := 0
	for i, r := range records {
		if want := prev.Seq + 1 + uint64(i); r.Seq != want { //nolint:gosec // i is not negative
			return fmt.Errorf("append record %d in the place of %d: %w", r.Seq, want, errkind.Invalid)
		}
		if len(r.Data) == 0 {
			return fmt.Errorf("append record %d without data: %w", r.Seq, errkind.Invalid)
		}
		bytes += len(r.Data)
	}
	if bytes > MaxAppendBytes {
		return fmt.Errorf("append %d bytes: at most %d go at once: %w", bytes, MaxAppendBytes, errkind.TooLarge)
	}
	return nil
}

// headAfter is the head of a log whose last records are these.
func headAfter(records []Record) Head {
	last := records[len(records)-1]
	return Head{last.Seq, last.Hash}
}

func errMoved(prev, head Head) error {
	return fmt.Errorf("append after record %d (%x): the last is %d (%x): %w", prev.Seq, prev.Hash[:4], head.Seq, head.Hash[:4], errkind.Conflict)
}

func checkRead(limit int) error {
	if limit < 0 {
		return fmt.Errorf("read %d records: %w", limit, errkind.Invalid)
	}
	return nil
}

func checkGet(seqs []uint64) error {
	if len(seqs) > MaxGet {
		return fmt.Errorf("get %d records: at most %d come at once: %w", len(seqs), MaxGet, errkind.TooLarge)
	}
	for _, seq := range seqs {
		if seq == 0 || seq > math.MaxInt64 {
			return errNoRecord(seq)
		}
	}
	return nil
}

func errNoRecord(seq uint64) error { return fmt.Errorf("record %d: %w", seq, errkind.NotFound) }

func checkSnapshot(seq uint64, data []byte) error {
	if len(data) == 0 {
		return fmt.Errorf("save a snapshot without data: %w", errkind.Invalid)
	}
	if len(data) > MaxSnapshotBytes {
		return fmt.Errorf("save a snapshot of %d bytes: at most %d are kept: %w", len(data), MaxSnapshotBytes, errkind.TooLarge)
	}
	if seq == 0 || seq > math.MaxInt64 {
		return errAhead(seq)
	}
	return nil
}

func errAhead(seq uint64) error {
	return fmt.Errorf("save a snapshot of record %d, which is not there: %w", seq, errkind.Invalid)
}

func checkKey(key string) error {
	if key == "" {
		return fmt.Errorf("the name of a value is empty: %w", errkind.Invalid)
	}
	return checkPrefix(key)
}

// checkPrefix checks what a name may begin with.
func checkPrefix(key string) error {
	if len(key) > MaxMetaKey {
		return fmt.Errorf("name of a value %.80q…: it has at most %d characters: %w", key, MaxMetaKey, errkind.Invalid)
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("name of a value %q: it has printable ASCII without space only: %w", key, errkind.Invalid)
		}
	}
	return nil
}

// afterAll follows a prefix: what begins with it is less, in the order of bytes.
const afterAll = "\x7f"

func checkValue(key string, value []byte) error {
	if len(value) > MaxMetaBytes {
		return fmt.Errorf("value %s of %d bytes: at most %d are kept: %w", key, len(value), MaxMetaBytes, errkind.TooLarge)
	}
	return nil
}

func checkSet(key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) == 0 {
		return fmt.Errorf("value %s is empty; remove it instead: %w", key, errkind.Invalid)
	}
	return checkValue(key, value)
}

func checkSwap(key string, old, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := checkValue(key, old); err != nil {
		return err
	}
	return checkValue(key, value)
}

func checkListMeta(prefix, after string, limit int) (int, error) {
	if err := checkPrefix(prefix); err != nil {
		return 0, err
	}
	if err := checkPrefix(after); err != nil {
		return 0, err
	}
	return checkPage(limit)
}

// checkPage returns how many entries a page of a list has.
func checkPage(limit int) (int, error) {
	switch {
	case limit < 0:
		return 0, fmt.Errorf("list %d entries: %w", limit, errkind.Invalid)
	case limit > MaxList:
		return 0, fmt.Errorf("list %d entries: a page has at most %d: %w", limit, MaxList, errkind.TooLarge)
	case limit == 0:
		return MaxList, nil
	}
	return limit, nil
}

func errNoMeta(key string) error { return fmt.Errorf("value %s: %w", key, errkind.NotFound) }

func errSwapped(key string) error {
	return fmt.Errorf("value %s is not what it was: %w", key, errkind.Conflict)
}

func errNoSnapshot() error { return fmt.Errorf("snapshot: %w", errkind.NotFound) }

func errNoDocument(doc string) error { return fmt.Errorf("document %s: %w", doc, errkind.NotFound) }

func errDocumentExists(doc string) error { return fmt.Errorf("document %s: %w", doc, errkind.Exists) }

func errClosed(doc string) error {
	return fmt.Errorf("document %s is closed: %w", doc, errkind.Unavailable)
}
