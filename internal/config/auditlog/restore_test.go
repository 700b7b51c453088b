package auditlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/auditlog"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/errkind"
)

const many = `name = "shop"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]
[entity.service]
fields = [
    { name = "image", type = "string", merge = "review" },
    { name = "weight", type = "int", merge = "max" },
    { name = "tags", type = "list<string>", merge = "set" },
    { name = "labels", type = "map<string>" },
]
`

// newLog returns an empty log.
func newLog(tb rapid.TB) oplog.Log {
	tb.Helper()
	store := oplog.NewMemory()
	err := store.Create(context.Background(), "shop")
	var l oplog.Log
	if err == nil {
		l, err = store.Open(context.Background(), "shop")
	}
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func open(tb rapid.TB, l oplog.Log) *engine.Document {
	tb.Helper()
	d, err := engine.Open(context.Background(), "shop", l, engine.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func stateOf(tb rapid.TB, d *engine.Document) (text []byte) {
	tb.Helper()
	err := d.View(func(s *config.State) (err error) { text, err = s.Snapshot(); return err })
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func anyRequest(t *rapid.T) config.Request {
	entity := fmt.Sprintf("service.s%d", rapid.IntRange(0, 2).Draw(t, "entity"))
	env := rapid.SampledFrom([]string{"production", "staging"}).Draw(t, "env")
	word := rapid.SampledFrom([]string{"a", "b", "c", "ü\u2028<&>"}).Draw(t, "word")
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		return config.Request{Kind: config.SetField, Entity: entity, Env: env, Field: "tags", Add: []any{word}}
	case 1:
		return config.Request{Kind: config.SetField, Entity: entity, Env: env, Field: "weight", Value: rapid.Int64Range(0, 9).Draw(t, "weight")}
	case 2:
		return config.Request{Kind: config.SetField, Entity: entity, Env: env, Field: "labels", Key: word, Value: word}
	case 3:
		return config.Request{Kind: config.Promote, From: "staging", To: "production"}
	case 4:
		return config.Request{Kind: config.RemoveEntity, Entity: entity}
	default:
		return config.Request{Kind: config.SetField, Entity: entity, Env: env, Field: "image", Value: word, Intent: word}
	}
}

// Whatever was written: a log that was exported and restored has the same head, and comes to the same state; so does one whose restoring
// was broken off and begun again.
func TestRestoreIsTheSameDocument(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		originalLog := newLog(t)
		original := open(t, originalLog)
		submit := func(r config.Request) error {
			_, err := original.Submit(ctx, engine.Batch{Actor: config.Actor{ID: "alice", Class: config.Human}, Requests: []config.Request{r}})
			return err
		}
		if err := submit(config.Request{Kind: config.ChangeSchema, Text: many}); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			_ = submit(anyRequest(t)) // what cannot be done now is refused
		}
		var text bytes.Buffer
		lines, err := auditlog.Export(ctx, original, auditlog.Filter{}, new(sign.Registry), time.Now(), &text, func(_, _ uint64) {})
		if err != nil {
			t.Fatal(err)
		}
		l := newLog(t)
		if had := uint64(rapid.IntRange(0, lines).Draw(t, "had")); had > 0 {
			err := originalLog.Read(ctx, 1, int(had), func(r oplog.Record) error {
				head, err := l.Head(ctx)
				if err == nil {
					r.Data = bytes.Clone(r.Data)
					err = l.Append(ctx, head, []oplog.Record{r})
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := auditlog.Restore(ctx, &text, new(sign.Registry), l); err != nil {
			t.Fatal(err)
		}
		restored := open(t, l)
		if restored.Head() != original.Head() || !bytes.Equal(stateOf(t, restored), stateOf(t, original)) {
			t.Fatalf("restored: %v\n%s\nwant %v\n%s", restored.Head(), stateOf(t, restored), original.Head(), stateOf(t, original))
		}
		if restored.Node() == original.Node() {
			t.Fatal("the restored document writes under the name of the one that it was made from")
		}
	})
}

func TestRestoreLeavesAnotherLogAlone(t *testing.T) {
	t.Parallel()
	l := begin(t)
	text := l.export(t, auditlog.Filter{})
	other := newLog(t)
	d := open(t, other)
	if _, err := d.Submit(t.Context(), engine.Batch{Requests: []config.Request{{Kind: config.ChangeSchema, Text: many}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := auditlog.Restore(t.Context(), strings.NewReader(strings.Join(text, "")), l.keys, other); !errors.Is(err, errkind.Exists) {
		t.Errorf("into another log: %v, want Exists", err)
	}
	if head, err := other.Head(t.Context()); err != nil || head != d.Head() {
		t.Errorf("the log ends with %v, %v, want %v", head, err, d.Head())
	}
}
