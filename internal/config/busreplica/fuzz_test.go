package busreplica_test

import (
	"context"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/busreplica"
)

// What comes from the bus, without the key and with it, is refused or taken.
func FuzzMessages(f *testing.F) {
	n := newNetwork(f, 0, 0)
	x := n.nodes[0]
	write(f, x, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	f.Add([]byte(`{"self":"y","notice":{"document":"shop","node":"y","ops":[{"id":"y#1"}],"marks":{"y#1":"hlc:1.0000"}}}`))
	f.Add([]byte(`{"self":"y","notice":{"document":"shop","node":"y","digest":"00"}}`))
	f.Add([]byte(`{"self":"y","more":true,"message":{"document":"shop","node":"y","version":"y:1,z#3","ops":[{"id":"y#1"}]}}`))
	f.Add([]byte(`{"self":7,"notice":null,"message":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x.link.Hear(t.Context(), data)
		x.link.Answer(t.Context(), data)
		news, question := x.link.Seal(data)
		x.link.Hear(t.Context(), news)
		x.link.Answer(t.Context(), question)
		x.link.CompareDue(t.Context())
		if s := x.link.Status(); len(s.Copies) > 1000 {
			t.Errorf("it knows %d copies", len(s.Copies))
		}
	})
}

// parrot answers with whatever it has, with and without the key.
type parrot struct {
	link  *busreplica.Link
	text  []byte
	plain bool
}

func (p *parrot) Publish(string, []byte) error { return nil }

func (p *parrot) Ask(_ context.Context, _ string, question []byte) ([]byte, error) {
	if p.plain {
		return p.text, nil
	}
	return p.link.SealAnswer(question, p.text), nil
}

func FuzzAnswer(f *testing.F) {
	n := newNetwork(f, 0)
	x := n.nodes[0]
	p := &parrot{}
	var err error
	if p.link, err = busreplica.NewOn(p, x.doc, x.replica, key, busreplica.Options{}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"message":{"document":"shop","node":"y","version":"y:1","ops":[{"id":"y#1"}],"marks":{"y#1":"hlc:1.0000"}}}`))
	f.Add([]byte(`{"error":"no"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		news, _ := p.link.Seal([]byte(`{"self":"y","notice":{"document":"shop","node":"y"}}`))
		p.link.Hear(t.Context(), news)
		p.text = data
		for _, p.plain = range []bool{true, false} {
			if err := p.link.Compare(t.Context(), "y"); err == nil && p.plain {
				t.Error("it takes what nobody sealed")
			}
		}
	})
}
