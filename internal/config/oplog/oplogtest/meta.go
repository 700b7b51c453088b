package oplogtest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

func testSnapshot(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	_, _, err := a.log.Snapshot(ctx)
	wantKind(t, "no snapshot", err, errkind.NotFound)
	wantKind(t, "of an empty log", a.log.SaveSnapshot(ctx, 0, []byte("x")), errkind.Invalid)
	appended(t, a.log, 5, short)
	wantKind(t, "of a record that is not there", b.log.SaveSnapshot(ctx, 6, []byte("x")), errkind.Invalid)
	wantKind(t, "of a record that cannot be", b.log.SaveSnapshot(ctx, 1<<64-1, []byte("x")), errkind.Invalid)
	wantKind(t, "without data", a.log.SaveSnapshot(ctx, 1, nil), errkind.Invalid)
	wantKind(t, "too big", a.log.SaveSnapshot(ctx, 1, make([]byte, oplog.MaxSnapshotBytes+1)), errkind.TooLarge)
	for _, tt := range []struct {
		by      oplog.Log
		seq     uint64
		data    string
		wantSeq uint64
		want    string
	}{
		{a.log, 3, "three", 3, "three"},
		{b.log, 2, "two", 3, "three"},               // an older one is dropped
		{b.log, 3, "three again", 3, "three again"}, // one of the same record replaces
		{a.log, 5, "five", 5, "five"},
		{b.log, 4, "four", 5, "five"},
	} {
		noError(t, "save "+tt.data, tt.by.SaveSnapshot(ctx, tt.seq, []byte(tt.data)))
		for _, n := range []node{a, b} {
			seq, data, err := n.log.Snapshot(ctx)
			if err != nil || seq != tt.wantSeq || string(data) != tt.want {
				t.Errorf("after %q: %d %q %v, want %d %q", tt.data, seq, data, err, tt.wantSeq, tt.want)
			}
		}
	}
}

func testBigSnapshot(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	appended(t, a.log, 3, short)
	for i, size := range []int{5 << 20, 1 << 20, 3<<20 + 17, 1} {
		want := bytes.Repeat([]byte{'a' + byte(i), 'z', '0'}, size/3+1)[:size]
		noError(t, "save", a.log.SaveSnapshot(ctx, uint64(min(i+1, 3)), want)) //nolint:gosec // 1 to 3
		seq, got, err := b.log.Snapshot(ctx)
		if err != nil || int(seq) != min(i+1, 3) || !bytes.Equal(got, want) { //nolint:gosec // 1 to 3
			t.Errorf("snapshot %d: seq %d, %d bytes, %v; want %d bytes", i, seq, len(got), err, len(want))
		}
	}
	// Whoever reads while others save sees one of theirs as a whole.
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 4 {
				data := bytes.Repeat([]byte{'A' + byte(w*4+i)}, 1<<20+w)
				if err := a.log.SaveSnapshot(ctx, 3, data); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 8 {
				_, data, err := b.log.Snapshot(ctx)
				if err != nil || bytes.Count(data, data[:1]) != len(data) {
					t.Errorf("%d bytes, %v, want all the same", len(data), err)
				}
			}
		})
	}
	wg.Wait()
}

func testMeta(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	_, err := a.log.Meta(ctx, "k")
	wantKind(t, "no value", err, errkind.NotFound)
	noError(t, "delete what is not there", a.log.DeleteMeta(ctx, "k"))
	noError(t, "set", a.log.SetMeta(ctx, "k", []byte("1")))
	is := func(key, want string) {
		t.Helper()
		for _, n := range []node{a, b} {
			if got, err := n.log.Meta(ctx, key); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v, want %q", key, got, err, want)
			}
		}
	}
	is("k", "1")
	noError(t, "set again", b.log.SetMeta(ctx, "k", []byte("2")))
	is("k", "2")
	wantKind(t, "swap what is not so", a.log.SwapMeta(ctx, "k", []byte("1"), []byte("3")), errkind.Conflict)
	wantKind(t, "swap as if there were none", a.log.SwapMeta(ctx, "k", nil, []byte("3")), errkind.Conflict)
	wantKind(t, "swap what is not there", a.log.SwapMeta(ctx, "other", []byte("1"), []byte("3")), errkind.Conflict)
	is("k", "2")
	noError(t, "swap", a.log.SwapMeta(ctx, "k", []byte("2"), []byte("3")))
	is("k", "3")
	wantKind(t, "swap away what is not so", b.log.SwapMeta(ctx, "k", []byte("2"), nil), errkind.Conflict)
	noError(t, "swap away", b.log.SwapMeta(ctx, "k", []byte("3"), nil))
	_, err = a.log.Meta(ctx, "k")
	wantKind(t, "what was swapped away", err, errkind.NotFound)
	noError(t, "swap nothing for nothing", b.log.SwapMeta(ctx, "k", nil, nil))
	noError(t, "swap in", b.log.SwapMeta(ctx, "k", nil, []byte("4")))
	is("k", "4")
	noError(t, "delete", a.log.DeleteMeta(ctx, "k"))
	_, err = b.log.Meta(ctx, "k")
	wantKind(t, "what was deleted", err, errkind.NotFound)
	longest := strings.Repeat("~", oplog.MaxMetaKey)
	biggest := strings.Repeat("\x00\xff", oplog.MaxMetaBytes/2)
	noError(t, "set the biggest", a.log.SetMeta(ctx, longest, []byte(biggest)))
	is(longest, biggest)
	noError(t, "swap the biggest", a.log.SwapMeta(ctx, longest, []byte(biggest), []byte("small")))
	is(longest, "small")
}

func testMetaRefused(t suite) {
	ctx := t.Context()
	a, _ := nodes(t)
	v, tooBig := []byte("v"), make([]byte, oplog.MaxMetaBytes+1)
	for _, key := range []string{"", "a b", "ä", "a\x00", "a\x7f", strings.Repeat("a", oplog.MaxMetaKey+1)} {
		_, err := a.log.Meta(ctx, key)
		wantKind(t, fmt.Sprintf("get %q", key), err, errkind.Invalid)
		wantKind(t, fmt.Sprintf("set %q", key), a.log.SetMeta(ctx, key, v), errkind.Invalid)
		wantKind(t, fmt.Sprintf("swap %q", key), a.log.SwapMeta(ctx, key, v, v), errkind.Invalid)
		wantKind(t, fmt.Sprintf("delete %q", key), a.log.DeleteMeta(ctx, key), errkind.Invalid)
	}
	wantKind(t, "set nothing", a.log.SetMeta(ctx, "k", nil), errkind.Invalid)
	wantKind(t, "set too much", a.log.SetMeta(ctx, "k", tooBig), errkind.TooLarge)
	wantKind(t, "swap too much", a.log.SwapMeta(ctx, "k", nil, tooBig), errkind.TooLarge)
	_, err := a.log.ListMeta(ctx, "a b", "", 0)
	wantKind(t, "list a prefix that cannot be", err, errkind.Invalid)
	_, err = a.log.ListMeta(ctx, "", "", -1)
	wantKind(t, "list -1", err, errkind.Invalid)
	_, err = a.log.ListMeta(ctx, "", "", oplog.MaxList+1)
	wantKind(t, "list too many", err, errkind.TooLarge)
}

// testSwapTogether: a number that many count up with SwapMeta misses nobody.
func testSwapTogether(t suite) {
	a, b := nodes(t)
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		log := []oplog.Log{a.log, b.log}[w%2]
		wg.Go(func() {
			for done := 0; done < each; {
				old, err := log.Meta(t.Context(), "n")
				if err != nil && !errors.Is(err, errkind.NotFound) {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(old)) // 0 for none
				switch err := log.SwapMeta(t.Context(), "n", old, []byte(strconv.Itoa(n+1))); {
				case err == nil:
					done++
				case errors.Is(err, errkind.Conflict) || errors.Is(err, errkind.Unavailable):
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got, err := a.log.Meta(t.Context(), "n"); err != nil || string(got) != strconv.Itoa(writers*each) {
		t.Errorf("n is %s, %v, want %d", got, err, writers*each)
	}
}

func testListMeta(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	for _, key := range []string{"hook/2", "hook/1", "hook", "hook0", "hook/a%_", "HOOK/1", "node/1", "~"} {
		noError(t, "set", a.log.SetMeta(ctx, key, []byte("of "+key)))
	}
	for _, tt := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 0, []string{"HOOK/1", "hook", "hook/1", "hook/2", "hook/a%_", "hook0", "node/1", "~"}},
		{"hook/", "", 0, []string{"hook/1", "hook/2", "hook/a%_"}},
		{"hook/", "hook/1", 0, []string{"hook/2", "hook/a%_"}},
		{"hook/", "hook/1", 1, []string{"hook/2"}},
		{"hook/", "hook/a%_", 0, nil},
		{"hook/", "z", 0, nil},
		{"hook/", "a", 2, []string{"hook/1", "hook/2"}},
		{"%", "", 0, nil},
		{"~", "", 0, []string{"~"}},
	} {
		var got []string
		list, err := b.log.ListMeta(ctx, tt.prefix, tt.after, tt.limit)
		for _, m := range list {
			got = append(got, m.Key)
			if string(m.Value) != "of "+m.Key {
				t.Errorf("%s is %q", m.Key, m.Value)
			}
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("ListMeta(%q, %q, %d): %v\n%s", tt.prefix, tt.after, tt.limit, err, diff)
		}
	}
	// More than one page of any database.
	for i := range 40 {
		noError(t, "set", a.log.SetMeta(ctx, fmt.Sprintf("big/%02d", i), bytes.Repeat([]byte{byte(i + 1)}, oplog.MaxMetaBytes)))
	}
	list, err := b.log.ListMeta(ctx, "big/", "", 0)
	noError(t, "list", err)
	for i, m := range list {
		if m.Key != fmt.Sprintf("big/%02d", i) || bytes.Count(m.Value, []byte{byte(i + 1)}) != oplog.MaxMetaBytes {
			t.Errorf("value %d is %s with %d bytes", i, m.Key, len(m.Value))
		}
	}
	if len(list) != 40 {
		t.Errorf("%d values, want 40", len(list))
	}
}
