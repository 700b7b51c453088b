package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
	"github.com/skep-dev/skep/internal/router"
)

const (
	packType = "application/x-git-packfile"
	// maxNamed bounds the objects that one fetch names, and maxFetchJSON its request: 43 bytes for each.
	maxNamed     = 100_000
	maxFetchJSON = 10 << 20
	// maxPushUpdates bounds the references that one push moves, and maxUpdatesJSON their list.
	maxPushUpdates = 10_000
	maxUpdatesJSON = 4 << 20
	// maxDrain is how much of a refused pack is still read, so that its sender gets to see the answer.
	maxDrain = 64 << 20
)

func (a *restAPI) registerPacks() {
	const tag = "packs"
	o := op(http.MethodPost, "/repos/{repo}/fetch", "fetch-pack", tag, "Get objects as a pack")
	o.Description = "The pack holds all that is reachable from want and not from have. Its deltas need no objects outside of it."
	o.DefaultStatus, o.MaxBodyBytes = http.StatusOK, maxFetchJSON
	o.Responses = a.bodyOf(nil, packType)
	handle(a, o, a.fetchPack)

	o = op(http.MethodPost, "/repos/{repo}/push", "push-pack", tag, "Put objects as a pack, and move references")
	o.Description = `All of it is done or nothing. Two forms of body are taken:

- multipart/form-data with a field updates, a JSON array of {ref, old, new}, and after it the file pack;
- the pack alone (` + packType + `), with the one reference's ref, old and new in the query.

A pack may be thin. It may be missing or empty when the new values are there already. old is compared with the reference's
value; where they differ, the answer is 409 and says so in conflicts.`
	o.DefaultStatus = http.StatusOK
	result := &huma.MediaType{Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[client.PushResult](), true, "")}
	for status, text := range map[string]string{"409": "References are not where the push expected them", "422": "The pack or an update breaks a rule"} {
		if o.Responses == nil {
			o.Responses = map[string]*huma.Response{}
		}
		o.Responses[status] = &huma.Response{Description: text, Content: map[string]*huma.MediaType{"application/json": result}}
	}
	binary := &huma.Schema{Type: huma.TypeString, Format: "binary"}
	updates := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[[]client.PushUpdate](), true, "")
	handle(a, o, a.pushPack)
	// Only now: huma would read the body of an operation that describes one.
	a.OpenAPI().Paths[o.Path].Post.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{
		packType: {Schema: binary},
		"multipart/form-data": {Schema: &huma.Schema{Type: huma.TypeObject, Required: []string{"updates"}, Properties: map[string]*huma.Schema{
			"updates": updates, "pack": binary,
		}}},
	}}
}

func (a *restAPI) fetchPack(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Body client.FetchRequest
},
) (*huma.StreamResponse, error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	return a.stream(ctx, func(w *answer) error {
		defer s.Release()
		req := revwalk.Request{Wants: in.Body.Want}
		if len(req.Wants)+len(in.Body.Have) > maxNamed {
			return fmt.Errorf("more than %d objects in one fetch: %w", maxNamed, errkind.TooLarge)
		}
		if err := s.mustSee(ctx, req.Wants...); err != nil {
			return err
		}
		for _, o := range in.Body.Have {
			if s.view.Objects.Has(o) {
				req.Haves = append(req.Haves, o)
			}
		}
		if in.Body.Filter != "" {
			if req.Filter, err = revwalk.ParseFilter(in.Body.Filter); err != nil {
				return err
			}
			if err := s.view.ResolveFilter(ctx, &req.Filter); err != nil {
				return err
			}
		}
		plan, err := s.graph.Plan(ctx, req)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", packType)
		_, err = s.view.Objects.WritePack(ctx, w, plan.Send, odb.WriteOptions{OfsDelta: true})
		return err
	}), nil
}

type pushOut struct {
	Status int
	Body   client.PushResult
}

func (a *restAPI) pushPack(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	ContentType string  `header:"Content-Type" hidden:"true"`
	Ref         string  `query:"ref" maxLength:"1100" example:"refs/heads/main" doc:"With a bare pack: the reference to move"`
	Old         git.OID `query:"old" doc:"With a bare pack: the value it must have now. Default, or 40 zeros: it must not exist"`
	New         git.OID `query:"new" doc:"With a bare pack: the value it gets. Default, or 40 zeros: delete it"`
},
) (*pushOut, error) {
	cell, r, w, err := a.openToWrite(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	c := callOf(ctx)
	mayStore := func() error { return a.mayStore(ctx, r.Tenant) }
	c.body.limit = a.opts.MaxPackBytes
	var body io.Reader = http.NoBody
	if c.body.rc != nil {
		body = &c.body
	}
	res, err := pushTo(ctx, w, cell, mayStore, body, in.ContentType, client.PushUpdate{Ref: in.Ref, Old: in.Old, New: in.New})
	if err != nil {
		_, _ = io.CopyN(io.Discard, body, maxDrain) // the push has failed already
		if status := problem.Status(err); status < http.StatusInternalServerError {
			a.logFailure(ctx, c, err)
			return &pushOut{status, client.PushResult{Error: problem.Explain(err)}}, nil
		}
		return nil, err
	}
	if !res.Success {
		if len(res.Conflicts) > 0 {
			return &pushOut{http.StatusConflict, res}, nil
		}
		return &pushOut{http.StatusUnprocessableEntity, res}, nil
	}
	return &pushOut{http.StatusOK, res}, nil
}

// pushTo reads the updates and the pack, and does all or nothing.
func pushTo(ctx context.Context, w protocol.Writer, cell *router.Repo, mayStore func() error, body io.Reader, contentType string, single client.PushUpdate) (client.PushResult, error) {
	var none client.PushResult
	updates, pack, err := readPush(body, contentType, single)
	if err != nil {
		return none, err
	}
	moves, err := parseUpdates(updates)
	if err != nil {
		return none, err
	}
	objects := cell.View().Objects
	for _, m := range moves {
		if cell.View().HidesFromPush(m.Name) {
			return none, errHidden
		}
	}
	var q *odb.Quarantine
	if pack != nil {
		if err := mayStore(); err != nil {
			return none, err
		}
		if q, err = cell.Quarantine(ctx, pack, func(string, int, int) {}); err != nil {
			return none, err
		}
		defer func() { _ = q.Close() }() // after Update there is nothing left in it
		if q.Store != nil {
			objects = q.Store
		}
	}
	for _, m := range moves {
		if !m.New.IsZero() && !objects.Has(m.New) {
			return none, fmt.Errorf("update %s: object %s is neither in the pack nor in the repository: %w", m.Name, m.New, errkind.Invalid)
		}
	}
	taken := q
	if q != nil && q.Received != nil && q.Pack != nil && q.Pack.Len() == 0 {
		taken = nil // an empty pack: nothing to keep
	}
	errs, err := cell.Update(ctx, taken, moves, protocol.UpdateOptions{Writer: w, Atomic: true, Message: "push"})
	if err != nil {
		return none, err
	}
	return pushResult(cell, moves, errs), nil
}

// pushResult says what became of each reference.
func pushResult(cell *router.Repo, moves []git.RefUpdate, errs []error) client.PushResult {
	res := client.PushResult{Success: true}
	refs := cell.View().Refs
	for i, m := range moves {
		if errs[i] == nil {
			res.Refs = append(res.Refs, client.Ref{Name: string(m.Name), SHA: m.New})
			continue
		}
		res.Success = false
		if now, _ := refs.Get(m.Name); now.OID != m.Old {
			res.Conflicts = append(res.Conflicts, client.PushConflict{Ref: string(m.Name), Expected: m.Old, Actual: now.OID})
		}
		if res.Error == "" || len(res.Conflicts) == 1 {
			res.Error = problem.Explain(errs[i])
		}
	}
	if !res.Success {
		res.Refs = nil
	}
	return res
}

var errPushType = denial{errkind.Invalid, "a push is multipart/form-data, or a pack as " + packType + " with ref, old and new in the query"}

// readPush finds the updates and the pack, which is nil if there is none, in either form of body.
func readPush(body io.Reader, contentType string, single client.PushUpdate) ([]client.PushUpdate, io.Reader, error) {
	media, params := "", map[string]string(nil)
	if contentType != "" {
		var err error
		if media, params, err = mime.ParseMediaType(contentType); err != nil {
			return nil, nil, errPushType
		}
	}
	switch media {
	case packType, "application/octet-stream", "":
		pack, err := unlessEmpty(body)
		return []client.PushUpdate{single}, pack, err
	case "multipart/form-data":
	default:
		return nil, nil, errPushType
	}
	form := multipart.NewReader(body, params["boundary"])
	part, err := form.NextPart()
	if err != nil || part.FormName() != "updates" {
		return nil, nil, fmt.Errorf("the form's first field is not updates: %w", errkind.Invalid)
	}
	var updates []client.PushUpdate
	bounded := &io.LimitedReader{R: part, N: maxUpdatesJSON}
	if err := json.NewDecoder(bounded).Decode(&updates); err != nil {
		if bounded.N == 0 {
			return nil, nil, fmt.Errorf("updates take more than %d bytes: %w", maxUpdatesJSON, errkind.TooLarge)
		}
		return nil, nil, fmt.Errorf("updates are not a JSON array of {ref, old, new}: %w", errkind.Invalid)
	}
	switch part, err = form.NextPart(); {
	case errors.Is(err, io.EOF):
		return updates, nil, nil
	case err != nil || part.FormName() != "pack":
		return nil, nil, fmt.Errorf("the form's second field is not pack: %w", errkind.Invalid)
	}
	pack, err := unlessEmpty(part)
	return updates, pack, err
}

// unlessEmpty returns nil for a reader that has nothing.
func unlessEmpty(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	_, err := b.Peek(1)
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, io.EOF):
		return nil, nil
	}
	return nil, err
}

// parseUpdates checks what a push wants to move.
func parseUpdates(updates []client.PushUpdate) ([]git.RefUpdate, error) {
	switch {
	case len(updates) == 0:
		return nil, fmt.Errorf("a push moves at least one reference: %w", errkind.Invalid)
	case len(updates) > maxPushUpdates:
		return nil, fmt.Errorf("more than %d references in one push: %w", maxPushUpdates, errkind.TooLarge)
	}
	moves := make([]git.RefUpdate, len(updates))
	seen := make(map[git.RefName]bool, len(updates))
	for i, u := range updates {
		name, err := git.ParseRefName(u.Ref)
		if err != nil {
			return nil, err
		}
		switch {
		case seen[name]:
			return nil, fmt.Errorf("reference %s is moved twice: %w", name, errkind.Invalid)
		case u.Old.IsZero() && u.New.IsZero():
			return nil, fmt.Errorf("reference %s: neither old nor new names an object: %w", name, errkind.Invalid)
		}
		seen[name] = true
		moves[i] = git.RefUpdate{Name: name, Old: u.Old, New: u.New}
	}
	return moves, nil
}
