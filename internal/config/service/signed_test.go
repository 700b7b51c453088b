package service_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

const schema = `
name = "shop"
[environments]
base = "production"
overlays = [{ name = "staging" }]
[entity.service]
fields = [{ name = "image", type = "string" }, { name = "replicas", type = "int", merge = "max" }]
`

var bob = config.Actor{ID: "bob", Class: config.Human}

// open returns a document with a schema, and its log.
func open(t *testing.T, opts service.Options) (*service.Service, oplog.Log) {
	t.Helper()
	store := oplog.NewMemory()
	if err := store.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	log, err := store.Open(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := engine.Open(t.Context(), "shop", log, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := service.New(doc, service.Options{})
	if _, err := s.Submit(t.Context(), bob, []wire.Operation{{Type: "change_schema", Schema: schema}}, service.Submission{}); err != nil {
		t.Fatal(err)
	}
	s.Configure(opts)
	return s, log
}

type signer struct {
	keys *sign.Registry
	key  ed25519.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	k, private, err := sign.Generate("bob", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{new(sign.Registry), private}
	if err := s.keys.Register(k); err != nil {
		t.Fatal(err)
	}
	return s
}

// sign signs an operation, after change has changed what is signed.
func (s *signer) sign(t *testing.T, op wire.Operation, change func(*sign.Body)) wire.Operation {
	t.Helper()
	r, err := service.Request(&op)
	if err != nil {
		t.Fatal(err)
	}
	body := sign.Body{Doc: "shop", ID: "request-1", Actor: bob, KeyID: s.keys.List()[0].ID, Request: *r, ClientTime: time.Now()}
	change(&body)
	signed, err := sign.Sign(s.key, body)
	if err != nil {
		t.Fatal(err)
	}
	out := signed.ForOp(&body)
	op.Signed = &wire.Signature{Key: out.Key, Body: out.Body, Sig: out.Sig}
	return op
}

func set(image string) wire.Operation {
	return wire.Operation{Type: "set_field", EntityID: "service.api", Field: "image", Value: &wire.Value{Any: image}, Intent: "release"}
}

func asIs(*sign.Body) {}

func TestSignedOperations(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	tests := []struct {
		name string
		op   func() wire.Operation
		want error
		text string
	}{
		{"good", func() wire.Operation { return s.sign(t, set("app:1"), asIs) }, nil, ""},
		{"not signed", func() wire.Operation { return set("app:1") }, errkind.Unauthorized, "have to be signed"},
		{"another value", func() wire.Operation {
			op := s.sign(t, set("app:1"), asIs)
			op.Value = &wire.Value{Any: "app:2"}
			return op
		}, errkind.Forbidden, "another request"},
		{"another intent", func() wire.Operation {
			op := s.sign(t, set("app:1"), asIs)
			op.Intent = "none"
			return op
		}, errkind.Forbidden, "another request"},
		{"another document", func() wire.Operation { return s.sign(t, set("app:1"), func(b *sign.Body) { b.Doc = "other" }) }, errkind.Forbidden, "for document other"},
		{"another's name", func() wire.Operation { return s.sign(t, set("app:1"), func(b *sign.Body) { b.Actor.ID = "alice" }) }, errkind.Forbidden, "says that alice"},
		{"another class", func() wire.Operation {
			return s.sign(t, set("app:1"), func(b *sign.Body) { b.Actor.Class = config.System })
		}, errkind.Forbidden, "another"},
		{"expired", func() wire.Operation {
			return s.sign(t, set("app:1"), func(b *sign.Body) { b.Expires = time.Now().Add(-time.Second) })
		}, errkind.Unauthorized, "sign it again"},
		{"bits", func() wire.Operation {
			op := s.sign(t, set("app:1"), asIs)
			op.Signed.Body = strings.Replace(op.Signed.Body, "release", "relaase", 1)
			op.Intent = "relaase"
			return op
		}, errkind.Unauthorized, "not that of key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			svc, _ := open(t, service.Options{Check: service.CheckSigned("shop", s.keys, true, time.Now)})
			_, err := svc.Submit(t.Context(), bob, []wire.Operation{tt.op()}, service.Submission{})
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// What was signed counts once: also in one batch, and also for a document that was opened anew, from its log or a snapshot.
func TestSignedOperationsCountOnce(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	opts := service.Options{Check: service.CheckSigned("shop", s.keys, false, time.Now)}
	svc, log := open(t, opts)
	op := s.sign(t, set("app:1"), asIs)
	submit := func(svc *service.Service, ops ...wire.Operation) error {
		_, err := svc.Submit(t.Context(), bob, ops, service.Submission{})
		return err
	}
	if err := submit(svc, op, op); !errors.Is(err, errkind.Exists) {
		t.Errorf("twice in a batch: %v", err)
	}
	if err := submit(svc, op); err != nil {
		t.Fatal(err)
	}
	again := s.sign(t, set("app:2"), asIs) // another request of the same ID
	for _, replayed := range []wire.Operation{op, again} {
		if err := submit(svc, replayed); !errors.Is(err, errkind.Exists) {
			t.Errorf("again: %v", err)
		}
	}
	for _, snapshot := range []int{0, 1} {
		if err := svc.Document().Snapshot(t.Context(), snapshot); err != nil {
			t.Fatal(err)
		}
		doc, err := engine.Open(t.Context(), "shop", log, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := submit(service.New(doc, opts), op); !errors.Is(err, errkind.Exists) {
			t.Errorf("opened anew: %v", err)
		}
	}
	if err := submit(svc, s.sign(t, set("app:3"), func(b *sign.Body) { b.ID = "request-2" })); err != nil {
		t.Errorf("another request: %v", err)
	}
}

// The version that a whole submission is based on is part of what each operation signs.
func TestSignedBase(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	svc, _ := open(t, service.Options{Check: service.CheckSigned("shop", s.keys, true, time.Now)})
	how := service.Submission{Base: svc.Status(t.Context(), bob).Version, Expect: true}
	based := set("app:1")
	based.Base, based.Expect = how.Base, true
	if _, err := svc.Submit(t.Context(), bob, []wire.Operation{s.sign(t, set("app:1"), asIs)}, how); !errors.Is(err, errkind.Forbidden) {
		t.Errorf("a base that was not signed: %v", err)
	}
	op := s.sign(t, based, asIs)
	op.Base, op.Expect = "", false
	if _, err := svc.Submit(t.Context(), bob, []wire.Operation{op}, how); err != nil {
		t.Errorf("a base that was signed: %v", err)
	}
}
