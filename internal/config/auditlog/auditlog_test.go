package auditlog_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/auditlog"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

const schema = "name = \"shop\"\n[environments]\nbase = \"production\"\n[entity.service]\nfields = [{ name = \"image\", type = \"string\" }]\n"

// log is a document in which bob signs what he writes, and alice does not.
type log struct {
	doc  *engine.Document
	s    *service.Service
	keys *sign.Registry
	key  ed25519.PrivateKey
}

func begin(t *testing.T) *log {
	t.Helper()
	store := oplog.NewMemory()
	if err := store.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	records, err := store.Open(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	l := &log{keys: new(sign.Registry)}
	if l.doc, err = engine.Open(t.Context(), "shop", records, engine.Options{}); err != nil {
		t.Fatal(err)
	}
	k, private, err := sign.Generate("bob", time.Now())
	if err == nil {
		err = l.keys.Register(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.key = private
	l.s = service.New(l.doc, service.Options{Check: service.CheckSigned("shop", l.keys, false, time.Now)})
	l.must(t, "alice", wire.Operation{Type: "change_schema", Schema: schema})
	for _, image := range []string{"app:1", "app:2", "app:3"} {
		l.must(t, "alice", wire.Operation{Type: "set_field", EntityID: "service.api", Field: "image", Value: &wire.Value{Any: image}})
		l.must(t, "bob", l.signed(t, wire.Operation{Type: "set_field", EntityID: "service.web", Field: "image", Value: &wire.Value{Any: image}}, image))
	}
	return l
}

func (l *log) must(t *testing.T, actor string, op wire.Operation) {
	t.Helper()
	if _, err := l.s.Submit(t.Context(), config.Actor{ID: actor, Class: config.Human}, []wire.Operation{op}, service.Submission{}); err != nil {
		t.Fatal(err)
	}
}

func (l *log) signed(t *testing.T, op wire.Operation, id string) wire.Operation {
	t.Helper()
	r, err := service.Request(&op)
	if err != nil {
		t.Fatal(err)
	}
	kid := l.keys.List()[0].ID
	body := sign.Body{Doc: "shop", ID: id, Actor: config.Actor{ID: "bob", Class: config.Human}, KeyID: kid, Request: *r, ClientTime: time.Now()}
	s, err := sign.Sign(l.key, body)
	if err != nil {
		t.Fatal(err)
	}
	out := s.ForOp(&body)
	op.Signed = &wire.Signature{Key: out.Key, Body: out.Body, Sig: out.Sig}
	return op
}

func none(uint64, uint64) {}

func nobody(auditlog.Head) {}

func (l *log) export(t *testing.T, f auditlog.Filter) []string {
	t.Helper()
	var b bytes.Buffer
	n, err := auditlog.Export(t.Context(), l.doc, f, l.keys, time.Now(), &b, none)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	if lines = lines[:len(lines)-1]; len(lines) != n {
		t.Fatalf("%d lines, and it says %d", len(lines), n)
	}
	return lines
}

func TestExportIsInOrder(t *testing.T) {
	t.Parallel()
	l := begin(t)
	r, err := auditlog.Verify(strings.NewReader(strings.Join(l.export(t, auditlog.Filter{}), "")), l.keys, nobody)
	if err != nil || r.Operations != 7 || r.Signed != 3 || r.First.Seq != 1 || r.Last.Seq != 7 || r.Partial {
		t.Errorf("%+v, %v", r, err)
	}
	own, err := auditlog.VerifyLog(t.Context(), l.doc, l.keys, nobody, none)
	if err != nil || own.Last != r.Last || own.Signed != 3 {
		t.Errorf("the log itself: %+v, %v", own, err)
	}
	chosen := l.export(t, auditlog.Filter{Actor: "alice", Entity: "service/api"})
	r, err = auditlog.Verify(strings.NewReader(strings.Join(chosen, "")), l.keys, nobody)
	if err != nil || r.Operations != 3 || !r.Partial {
		t.Errorf("chosen: %+v, %v", r, err)
	}
}

func TestVerifyFindsWhatWasDone(t *testing.T) {
	t.Parallel()
	l := begin(t)
	all := l.export(t, auditlog.Filter{})
	other := begin(t).export(t, auditlog.Filter{})
	change := func(i int, old, now string) func([]string) []string {
		return func(lines []string) []string {
			if !strings.Contains(lines[i], old) {
				t.Fatalf("%q is not in %s", old, lines[i])
			}
			lines[i] = strings.ReplaceAll(lines[i], old, now)
			return lines
		}
	}
	tests := []struct {
		name string
		do   func([]string) []string
		want string
	}{
		{"value", change(1, "app:1", "app:9"), "line 2: operation 2 does not have the hash"},
		{"actor", change(1, `"id":"alice"`, `"id":"carol"`), "line 2: operation 2 does not have the hash"},
		{"taken out", func(l []string) []string { return append(l[:2], l[3:]...) }, "line 3: operations 3 to 3 are missing"},
		{"end", func(l []string) []string { return l[:5] }, "operations 6 to 7 are missing at the end"},
		{"order", func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }, "line 4: operations 4 to 4 are missing"},
		{"twice", func(l []string) []string { return append(l[:3], l[2:]...) }, "line 4: operation 3 comes after 3"},
		{"another log's", func(l []string) []string { l[4] = other[4]; return l }, "line 5: operation 5 does not follow"},
		{"document", change(0, `"document_id":"shop"`, `"document_id":"mine"`), "line 1: it is not the first operation"},
		{"signature", change(2, `"sig":"`, `"sig":"AAAA`), "line 3: operation 3 does not have the hash"},
		{"text", func(l []string) []string { l[2] = "x\n"; return l }, "line 3: it cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lines := tt.do(append([]string{}, all...))
			_, err := auditlog.Verify(strings.NewReader(strings.Join(lines, "")), l.keys, nobody)
			if !errors.Is(err, errkind.Invalid) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s…", err, tt.want)
			}
		})
	}
}

// The signature of a key that was revoked before is no signature any more, also if all hashes are right.
func TestVerifyAsksTheRegistry(t *testing.T) {
	t.Parallel()
	l := begin(t)
	text := strings.Join(l.export(t, auditlog.Filter{}), "")
	if err := l.keys.Revoke(l.keys.List()[0].ID, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]*sign.Registry{"revoked": l.keys, "unknown": new(sign.Registry)} {
		if r, err := auditlog.Verify(strings.NewReader(text), keys, nobody); !errors.Is(err, errkind.Invalid) || r.Signed != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if _, err := auditlog.VerifyLog(t.Context(), l.doc, keys, nobody, none); !errors.Is(err, errkind.Invalid) {
			t.Errorf("%s, the log: %v", name, err)
		}
	}
}

// Who makes all hashes anew cannot give another value to an operation that somebody signed.
func TestVerifyComparesWhatWasSigned(t *testing.T) {
	t.Parallel()
	l := begin(t)
	lines := l.export(t, auditlog.Filter{})
	forge := func(line int, old, now string) string {
		list := make([]auditlog.Line, len(lines))
		at := oplog.Head{Hash: engine.Genesis("shop")}
		for i := range lines {
			if err := json.Unmarshal([]byte(lines[i]), &list[i]); err != nil {
				t.Fatal(err)
			}
			if i == line-1 {
				list[i].Operation = bytes.ReplaceAll(list[i].Operation, []byte(old), []byte(now))
			}
			list[i].Metadata.Prev = at.Hash
			at = oplog.Head{Seq: at.Seq + 1, Hash: engine.Chain(at, list[i].Operation)}
			list[i].Metadata.Hash = at.Hash
		}
		var b strings.Builder
		for i := range list {
			list[i].Metadata.Head.Hash = at.Hash
			text, err := json.Marshal(list[i])
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(text, '\n'))
		}
		return b.String()
	}
	tests := []struct {
		name     string
		line     int
		old, now string
		want     string
	}{
		{"nothing", 3, "app:1", "app:1", ""},
		{"not signed", 2, `"app:1"`, `"app:9"`, ""},
		{"value", 3, `"app:1"`, `"app:9"`, "line 3: check operation"},
		{"entity", 3, `"service.web"`, `"service.api"`, "line 3: check operation"},
	}
	for _, tt := range tests {
		_, err := auditlog.Verify(strings.NewReader(forge(tt.line, tt.old, tt.now)), l.keys, nobody)
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, errkind.Invalid) || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"version":"1","export_time":"2026-01-01T00:00:00Z","operation":{"id":"a#1","hlc":"hlc:1.0000"},"metadata":{"document_id":"shop","seq":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := auditlog.Verify(bytes.NewReader(text), new(sign.Registry), nobody); err == nil && r.Signed > 0 {
			t.Errorf("a signature of nobody is good: %+v", r)
		}
	})
}
