package control_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
)

func replyKey(p id.Principal, name string) control.ReplyKey {
	return control.ReplyKey{Principal: p, Hash: sha256.Sum256([]byte(name))}
}

// begin claims a key, and says what was known of it.
func begin(tb testing.TB, c *control.Control, k control.ReplyKey) *control.Reply {
	tb.Helper()
	known, err := c.BeginReply(tb.Context(), k)
	return must(tb, known, err)
}

// doOnce does a request under a key, unless it is known.
func doOnce(tb testing.TB, c *control.Control, k control.ReplyKey, body string) bool {
	tb.Helper()
	if begin(tb, c, k) != nil {
		return false
	}
	must0(tb, c.FinishReply(tb.Context(), k, control.Reply{Status: 201, Answer: control.Answer{Body: []byte(body)}}))
	return true
}

func countReplies(tb testing.TB, c *control.Control) (n int) {
	tb.Helper()
	must0(tb, c.DB().Read(tb.Context(), func(q control.Conn) error {
		return second(q.First("SELECT count(*) FROM reply", func(r control.Row) { n = int(r.Int64(0)) }))
	}))
	return n
}

// TestReplies: a claim is known until it is finished or forgotten, on each node and after a restart; what was answered comes
// back, and is not in the database for others to read.
func TestReplies(t *testing.T) { onEach(t, testReplies) }

func testReplies(t *testing.T, db backend) {
	where := db.fresh(t)
	c := withKeys(t, where, 1)
	alice, bob := principal(t, c, "alice").ID, principal(t, c, "bob").ID
	k := replyKey(alice, "one")
	if known := begin(t, c, k); known != nil {
		t.Fatalf("a new key is known: %+v", known)
	}
	if known := begin(t, c, k); known == nil || known.Done {
		t.Errorf("a request that is being done: %+v", known)
	}
	must0(t, c.ForgetReply(t.Context(), k))
	if known := begin(t, c, k); known != nil {
		t.Errorf("after it was refused: %+v", known)
	}
	want := control.Reply{Done: true, Sent: sha256.Sum256([]byte("asked")), Status: 201, Answer: control.Answer{
		Header: map[string][]string{"Content-Type": {"application/json"}}, Body: []byte("what a stranger must not read"),
	}}
	must0(t, c.FinishReply(t.Context(), k, want))
	must0(t, c.ForgetReply(t.Context(), k)) // too late
	again := withKeys(t, where, 1)
	for _, node := range []*control.Control{c, again} {
		if diff := cmp.Diff(&want, begin(t, node, k)); diff != "" {
			t.Errorf("the answer (-want +got):\n%s", diff)
		}
	}
	if begin(t, c, replyKey(bob, "one")) != nil || begin(t, c, replyKey(alice, "two")) != nil {
		t.Error("another principal's key, or another key, is known")
	}
	must0(t, c.DB().Read(t.Context(), func(q control.Conn) error {
		for r, err := range q.Query("SELECT wrapped, box FROM reply") {
			must0(t, err)
			if bytes.Contains(slices.Concat(r.Bytes(0), r.Bytes(1)), []byte("stranger")) {
				t.Error("the answer is in the database")
			}
		}
		return nil
	}))

	// Moved to another's key, it does not open; nor without the master key. The request is still not done twice.
	execute(t, c, `UPDATE reply SET sent = ?, status = 201, key_id = (SELECT key_id FROM reply WHERE status = 201),
		wrapped = (SELECT wrapped FROM reply WHERE status = 201), box = (SELECT box FROM reply WHERE status = 201) WHERE principal_id = ?`, want.Sent, bob)
	for name, known := range map[string]*control.Reply{
		"moved": begin(t, c, replyKey(bob, "one")), "without the key": begin(t, withKeys(t, where, 2), k), "without keys": begin(t, openAt(t, where), k),
	} {
		if known == nil || !known.Done || known.Status != 0 || known.Why == "" || known.Answer.Body != nil {
			t.Errorf("%s: %+v", name, known)
		}
	}
}

// TestRepliesAreBounded: by number, by principal, by size and by time; and neither one principal nor one tenant pushes out the
// others' answers.
func TestRepliesAreBounded(t *testing.T) { onEach(t, testRepliesAreBounded) }

func testRepliesAreBounded(t *testing.T, db backend) {
	c := withKeys(t, db.fresh(t), 1)
	now := time.Now()
	c.SetClock(func() time.Time { now = now.Add(time.Millisecond); return now })
	alice, mallory := principal(t, c, "alice").ID, principal(t, c, "mallory").ID
	doOnce(t, c, replyKey(alice, "first"), "")
	begin(t, c, replyKey(mallory, "still being done"))
	// As if mallory had made as many requests as one may, and many others as all may together.
	fill := func(p id.Principal, share string, from, n int) {
		must0(t, c.DB().Write(t.Context(), func(q control.Conn) error {
			for i := range n {
				if err := q.Exec("INSERT INTO reply (principal_id, hash, begun, sent, status, why, share, key_id) VALUES (?, ?, ?, ?, 0, 'x', ?, '')",
					p, sha256.Sum256(fmt.Append(nil, from+i)), now, make([]byte, 32), share); err != nil {
					return err
				}
				now = now.Add(time.Microsecond)
			}
			return nil
		}))
	}
	fill(mallory, "", 0, control.MaxRepliesOfOne)
	doOnce(t, c, replyKey(mallory, "one more"), "")
	if n := countReplies(t, c); n != control.MaxRepliesOfOne+2 {
		t.Errorf("%d are known, want %d of mallory's, the one that is being done, and alice's", n, control.MaxRepliesOfOne)
	}
	if doOnce(t, c, replyKey(alice, "first"), "") {
		t.Error("mallory made the server forget what alice did")
	}
	for i := range control.MaxReplies / control.MaxRepliesOfOne {
		fill(principal(t, c, fmt.Sprint("p", i)).ID, "ten_mallory", i*control.MaxRepliesOfOne, control.MaxRepliesOfOne)
	}
	for range 100 { // until what came on top is gone
		if doOnce(t, c, replyKey(mallory, fmt.Sprint("another", countReplies(t, c))), ""); countReplies(t, c) <= control.MaxReplies {
			break
		}
	}
	if n := countReplies(t, c); n > control.MaxReplies+1 || n < control.MaxReplies-control.ForgetReplies {
		t.Errorf("%d are known, want %d and one that is being done", n, control.MaxReplies)
	}
	if doOnce(t, c, replyKey(alice, "first"), "") {
		t.Error("ten principals of mallory's made the server forget what alice did")
	}
	large := replyKey(alice, "large")
	doOnce(t, c, large, string(make([]byte, 64<<10)))
	if known := begin(t, c, large); !known.Done || known.Status != 0 || known.Why != "it was too large" {
		t.Errorf("a large answer: %d, %q", known.Status, known.Why)
	}
	now = now.Add(24 * time.Hour)
	doOnce(t, c, replyKey(alice, "later"), "")
	if n := countReplies(t, c); n != 1 {
		t.Errorf("a day later %d are known", n)
	}
}
