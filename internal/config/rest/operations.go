package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// Writing is what all writes may say besides.
type Writing struct {
	Payload
	IfMatch string `header:"If-Match" maxLength:"4096" doc:"The ETag or version of what was seen: refuse with 412 if what is written to has changed since"`
	DryRun  bool   `query:"dry_run" doc:"Work it out and write nothing"`
}

func (w *Writing) raw() *Payload { return &w.Payload }

// submission says how a write is submitted.
func (w *Writing) submission() (service.Submission, error) {
	how := service.Submission{DryRun: w.DryRun}
	if w.IfMatch == "" || w.IfMatch == "*" {
		return how, nil
	}
	version, err := versionOf(w.IfMatch)
	how.Base, how.Expect = version, true
	return how, err
}

// refused makes the failure of a write that named an ETag what HTTP calls it.
func (w *Writing) refused(err error) error {
	if w.IfMatch != "" && errkind.Of(err) == errkind.Conflict {
		return &Failure{Err: err, Status: http.StatusPreconditionFailed}
	}
	return err
}

// Written is the answer to a write.
type Written[T any] struct {
	Status int
	ETag   string `header:"ETag"`
	Body   T
}

func (a *routes) operations() {
	handleBody(a, a.op(http.MethodPost, "/ops", "submit", "Do one operation"), a.submit)
	handleBody(a, a.op(http.MethodPost, "/ops/batch", "submit-batch", "Do several operations, all or none"), a.submitBatch)
	handleBody(a, a.op(http.MethodPost, "/envs/promote", "promote", "Copy what an environment has to another, as one operation"), a.promote)
}

// explicit tells a value that is null, which unsets a field, from one that is not there: for encoding/json they are the same.
type explicit struct {
	Value       json.RawMessage `json:"value"`
	ChosenValue json.RawMessage `json:"chosen_value"`
}

func (e *explicit) tell(op *wire.Operation) {
	if op.Value == nil && e.Value != nil {
		op.Value = &wire.Value{}
	}
	if op.ChosenValue == nil && e.ChosenValue != nil {
		op.ChosenValue = &wire.Value{}
	}
}

// tellNulls finds the values that are null in a body that was decoded into operations: in "operations", or the body's own.
func tellNulls(p *Payload, ops []wire.Operation) {
	if !bytes.Contains(p.RawBody, []byte("null")) {
		return
	}
	var found struct {
		explicit
		Operations []explicit `json:"operations"`
	}
	if json.Unmarshal(p.RawBody, &found) != nil {
		return // it was decoded before, and can be again
	}
	list := append(found.Operations, found.explicit)
	for i := range ops {
		list[i].tell(&ops[i])
	}
}

func (a *routes) submit(ctx context.Context, c *Caller, in *Writing, op *wire.Operation) (*Written[wire.Result], error) {
	ops := []wire.Operation{*op}
	tellNulls(&in.Payload, ops)
	results, err := do(ctx, c, in, ops)
	if err != nil {
		return nil, err
	}
	return &Written[wire.Result]{Status: written(in, results), ETag: quoted(results[0].Version), Body: results[0]}, nil
}

func (a *routes) submitBatch(ctx context.Context, c *Caller, in *Writing, b *wire.Batch) (*Written[wire.Results], error) {
	if n := len(b.Operations); n > engine.MaxBatch {
		return nil, fmt.Errorf("a batch has at most %d operations, and this one has %d: %w", engine.MaxBatch, n, errkind.TooLarge)
	}
	tellNulls(&in.Payload, b.Operations)
	for i := range b.Operations {
		if b.Operations[i].Intent == "" {
			b.Operations[i].Intent = b.Intent
		}
	}
	results, err := do(ctx, c, in, b.Operations)
	if err != nil {
		return nil, err
	}
	version := results[len(results)-1].Version
	return &Written[wire.Results]{Status: written(in, results), ETag: quoted(version), Body: wire.Results{Results: results, Version: version}}, nil
}

func (a *routes) promote(ctx context.Context, c *Caller, in *Writing, p *wire.Promotion) (*Written[wire.Result], error) {
	in.DryRun = in.DryRun || p.DryRun
	results, err := do(ctx, c, in, []wire.Operation{{
		Type: "promote", From: p.From, To: p.To, Entities: p.Entities, Only: p.Fields, AnyPath: p.AnyPath, Prune: p.Prune,
		Base: p.Base, Expect: p.Expect, Intent: p.Intent, Signed: p.Signed,
	}})
	if err != nil {
		return nil, err
	}
	return &Written[wire.Result]{Status: written(in, results), ETag: quoted(results[0].Version), Body: results[0]}, nil
}

// do submits operations.
func do(ctx context.Context, c *Caller, in *Writing, ops []wire.Operation) ([]wire.Result, error) {
	how, err := in.submission()
	if err != nil {
		return nil, err
	}
	results, err := c.Service.Submit(ctx, c.Actor, ops, how)
	if err != nil {
		return nil, in.refused(err)
	}
	return results, nil
}

// written is 201 if something was.
func written(in *Writing, results []wire.Result) int {
	for i := range results {
		if results[i].Seq > 0 && !in.DryRun {
			return http.StatusCreated
		}
	}
	return http.StatusOK
}

// quoted is a version as an ETag for If-Match.
func quoted(version string) string { return `"` + version + `"` }
