package control

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/secret"
)

// The bounds of what is remembered of requests that are done at most once.
const (
	replyTime       = 24 * time.Hour
	maxReplies      = 10_000
	maxRepliesOfOne = 1_000 // principal
	// forgetReplies is how many are forgotten at once when there are too many: to find whose costs a look at all of them.
	forgetReplies = 100
	// MaxReplyBody bounds an answer that is kept: with its headers it is sealed as a secret is.
	MaxReplyBody = 32 << 10
)

// ReplyKey is all that must be the same for a request to be the same, but its body.
type ReplyKey struct {
	Principal id.Principal
	Hash      [sha256.Size]byte
}

func (k *ReplyKey) associated() []byte {
	return fmt.Appendf(nil, "skep reply: principal %q, request %x", k.Principal, k.Hash)
}

// Reply is how a request was answered.
type Reply struct {
	Done   bool              // else it is being done, or was interrupted
	Sent   [sha256.Size]byte // the hash of the request's body
	Status int               // 0: the answer is not kept
	Why    string            // not
	Answer Answer

	// Share is among whom the places are divided: the top-level tenant in which the request did something or, if it did so in none, a
	// tenant or the principal itself. When there are too many answers, those of the greatest share are forgotten first, so that nobody makes
	// the server forget what others did, by however many principals.
	Share string
}

// Answer is what is sealed of a reply.
type Answer struct {
	Header map[string][]string
	Body   []byte
}

// Replies are kept on disk, so that a restart does not forget them and all nodes know them. What changes them is not in the audit log:
// the requests themselves are.

// BeginReply claims a key for a request that is then ended with FinishReply or ForgetReply. If the key is taken it returns what is known
// of it instead. A claim whose request was cut off stays: nobody knows whether it was done.
func (c *Control) BeginReply(ctx context.Context, k ReplyKey) (known *Reply, err error) {
	var sealed secret.Sealed
	now := c.timestamp()
	err = c.db.Write(ctx, func(q conn) error {
		known = nil
		if err := q.Exec("DELETE FROM reply WHERE begun <= ?", now.Add(-replyTime)); err != nil {
			return err
		}
		_, err := q.First("SELECT sent, status, why, key_id, wrapped, box FROM reply WHERE principal_id = ? AND hash = ?", func(r row) {
			known = &Reply{Done: !r.IsNull(0), Status: int(r.Int64(1)), Why: r.Text(2)}
			r.Copy(0, known.Sent[:])
			sealed = secret.Sealed{KeyID: r.Text(3), Wrapped: r.Bytes(4), Box: r.Bytes(5)}
		}, k.Principal, k.Hash)
		if err != nil || known != nil {
			return err
		}
		return q.Exec("INSERT INTO reply (principal_id, hash, begun, status, why, key_id) VALUES (?, ?, ?, 0, '', '')", k.Principal, k.Hash, now)
	})
	if err != nil {
		return nil, fmt.Errorf("begin a request once: %w", err)
	}
	if known != nil && known.Status != 0 {
		if err := c.openReply(ctx, k, known, sealed); err != nil {
			known.Status, known.Why = 0, "it cannot be opened any more"
		}
	}
	return known, nil
}

func (c *Control) openReply(ctx context.Context, k ReplyKey, r *Reply, sealed secret.Sealed) error {
	if c.keys == nil {
		return errNoMasterKey
	}
	text, err := c.keys.Open(ctx, sealed, k.associated())
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &r.Answer)
}

// FinishReply remembers how a request was answered, and forgets the oldest ones when there are too many.
func (c *Control) FinishReply(ctx context.Context, k ReplyKey, r Reply) error {
	sealed, err := c.sealReply(ctx, k, &r)
	if err == nil {
		err = c.db.Write(ctx, func(q conn) error {
			if err := q.Exec("UPDATE reply SET sent = ?, status = ?, why = ?, share = ?, key_id = ?, wrapped = ?, box = ? WHERE principal_id = ? AND hash = ?",
				r.Sent, r.Status, r.Why, r.Share, sealed.KeyID, sealed.Wrapped, sealed.Box, k.Principal, k.Hash); err != nil {
				return err
			}
			if err := q.Exec(`DELETE FROM reply WHERE principal_id = ?1 AND sent IS NOT NULL AND begun <= (SELECT begun FROM reply
				WHERE principal_id = ?1 AND sent IS NOT NULL ORDER BY begun DESC LIMIT 1 OFFSET ?2)`, k.Principal, maxRepliesOfOne); err != nil {
				return err
			}
			return forgetOldReplies(q)
		})
	}
	if err != nil {
		return fmt.Errorf("remember an answer: %w", err)
	}
	return nil
}

// forgetOldReplies keeps the number of answers below its limit.
func forgetOldReplies(q conn) error {
	over, err := exists(q, "SELECT 1 FROM reply WHERE sent IS NOT NULL LIMIT 1 OFFSET ?", maxReplies)
	if err != nil || !over {
		return err
	}
	var share string
	_, err = q.First("SELECT share FROM reply WHERE sent IS NOT NULL GROUP BY share ORDER BY count(*) DESC, share LIMIT 1", func(r row) { share = r.Text(0) })
	if err != nil {
		return err
	}
	return q.Exec(`DELETE FROM reply WHERE (principal_id, hash) IN
		(SELECT principal_id, hash FROM reply WHERE sent IS NOT NULL AND share = ? ORDER BY begun LIMIT ?)`, share, forgetReplies)
}

func (c *Control) sealReply(ctx context.Context, k ReplyKey, r *Reply) (secret.Sealed, error) {
	if r.Status == 0 {
		return secret.Sealed{}, nil
	}
	if c.keys == nil {
		r.Status, r.Why = 0, "the server has no master key"
		return secret.Sealed{}, nil
	}
	text, err := json.Marshal(r.Answer)
	if err != nil {
		return secret.Sealed{}, err
	}
	sealed, err := c.keys.Seal(ctx, text, k.associated())
	if errors.Is(err, errkind.TooLarge) {
		r.Status, r.Why = 0, "it was too large"
		return secret.Sealed{}, nil
	}
	return sealed, err
}

// ForgetReply gives a key back whose request changed nothing.
func (c *Control) ForgetReply(ctx context.Context, k ReplyKey) error {
	err := c.db.Write(ctx, func(q conn) error {
		return q.Exec("DELETE FROM reply WHERE principal_id = ? AND hash = ? AND sent IS NULL", k.Principal, k.Hash)
	})
	if err != nil {
		return fmt.Errorf("forget a request: %w", err)
	}
	return nil
}
