package sign_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/crdt"
)

// Who has the log cannot put a good signature to another operation.
func TestVerifyOp(t *testing.T) {
	t.Parallel()
	made := func() *config.Op {
		s := signed(t, body)
		return &config.Op{
			ID: crdt.Dot{Node: "n1", Seq: 7}, Time: crdt.HLC(noon.UnixMicro()), Actor: body.Actor, Kind: config.SetOverride, Intent: "more traffic", //nolint:gosec // after 1970
			Writes:    []config.Write{{Do: config.Life, Entity: "route.api-v1", Inc: 1}, {Do: config.Put, Entity: "route.api-v1", Field: "weight", Env: "staging", Value: int64(90)}},
			Signature: s.ForOp(&body),
		}
	}
	tests := []struct {
		name   string
		change func(*config.Op)
		rule   sign.Rule
		says   string
	}{
		{"as it was made", func(*config.Op) {}, "", ""},
		{"not signed", func(o *config.Op) { o.Signature = nil }, sign.BadSignature, "n1#7: it is not signed"},
		{"no base64", func(o *config.Op) { o.Signature.Sig = "!" }, sign.Malformed, "not base64"},
		{"another signature", func(o *config.Op) { o.Signature.Sig = base64.StdEncoding.EncodeToString(make([]byte, 64)) }, sign.BadSignature, ""},
		{"another body", func(o *config.Op) { o.Signature.Body = strings.Replace(o.Signature.Body, "90", "91", 1) }, sign.BadSignature, ""},
		{"key", func(o *config.Op) { o.Signature.Key = "bob@1" }, sign.OtherRequest, "its key is not"},
		{"actor", func(o *config.Op) { o.Actor.ID = "bob" }, sign.OtherRequest, "its actor is not"},
		{"class", func(o *config.Op) { o.Actor.Class = config.Pipeline }, sign.OtherRequest, "its actor is not"},
		{"intent", func(o *config.Op) { o.Intent = "" }, sign.OtherRequest, "its intent is not"},
		{"kind", func(o *config.Op) { o.Kind = config.RemoveEntity }, sign.OtherRequest, "its kind is not"},
		{"entity", func(o *config.Op) { o.Writes[1].Entity = "route.web" }, sign.OtherRequest, "its entity is not"},
		{"field", func(o *config.Op) { o.Writes[1].Field = "hosts" }, sign.OtherRequest, "its field is not"},
		{"value", func(o *config.Op) { o.Writes[1].Value = int64(91) }, sign.OtherRequest, "its value is not"},
		{"type", func(o *config.Op) { o.Writes[1].Value = "90" }, sign.OtherRequest, "its value is not"},
		{"unset", func(o *config.Op) { o.Writes[1].Value = nil }, sign.OtherRequest, "its value is not"},
		{"left out", func(o *config.Op) { o.Writes = o.Writes[:1] }, sign.OtherRequest, "its value is not"},
		{"added", func(o *config.Op) {
			o.Writes = append(o.Writes, config.Write{Do: config.Add, Entity: "route.api-v1", Field: "weight", Env: "staging", Value: "x"})
		}, sign.OtherRequest, "its value is not"},
		{"environment", func(o *config.Op) { o.Writes[1].Env = "dev" }, sign.OtherRequest, "its environment is not"},
		{"override", func(o *config.Op) { o.Writes[1].Do = config.Override }, sign.OtherRequest, "its override is not"},
		{"removal", func(o *config.Op) { o.Writes[0].Inc = 2 }, sign.OtherRequest, "its kind is not"},
		{"move", func(o *config.Op) { o.Writes[0] = config.Write{Do: config.Move, Entity: "route.api-v1"} }, sign.OtherRequest, "its kind is not"},
		{"schema", func(o *config.Op) { o.Schema = &config.NewSchema{Text: "x"} }, sign.OtherRequest, "its schema is not"},
		{"before the key", func(o *config.Op) { o.Time = 1 }, sign.NotYetValid, ""},
	}
	for _, tt := range tests {
		op := made()
		tt.change(op)
		_, err := sign.VerifyOp(registry(t), op, "infra")
		if tt.rule == "" && err != nil || tt.rule != "" && (!errors.Is(err, tt.rule) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want rule %q and %q", tt.name, err, tt.rule, tt.says)
		}
	}
	if _, err := sign.VerifyOp(registry(t), made(), "web"); !errors.Is(err, sign.OtherDocument) {
		t.Errorf("in another document: %v", err)
	}
}
