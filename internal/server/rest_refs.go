package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/policy"
)

// RefParam is a reference in a path.
type RefParam struct {
	RepoParam
	Ref string `path:"refname" maxLength:"1100" doc:"The name without refs/: heads/main. Slashes may stand as they are"`
}

func (a *restAPI) registerRefs() {
	const tag = "references"
	handle(a, op(http.MethodGet, "/repos/{repo}/refs", "list-refs", tag, "List references"), a.listRefs)
	handle(a, op(http.MethodPost, "/repos/{repo}/refs", "create-ref", tag, "Create a reference"), a.createRef)
	handle(a, op(http.MethodGet, "/repos/{repo}/refs/{refname}", "get-ref", tag, "Get a reference"), a.getRef)
	handle(a, op(http.MethodPut, "/repos/{repo}/refs/{refname}", "update-ref", tag, "Move a reference"), a.updateRef)
	handle(a, op(http.MethodDelete, "/repos/{repo}/refs/{refname}", "delete-ref", tag, "Delete a reference"), a.deleteRef)
	handle(a, op(http.MethodGet, "/repos/{repo}/reflog", "list-reflog", tag, "List the newest moves of references"), a.listRefLog)
}

func refOut(r git.Ref) client.Ref {
	o := client.Ref{Name: string(r.Name), SHA: r.OID}
	if !r.Peeled.IsZero() {
		o.Peeled = &r.Peeled
	}
	return o
}

type refsOut struct {
	Next string `header:"X-Next-Cursor" doc:"Pass as ?cursor= to get the next page; missing on the last one"`
	Link string `header:"Link" doc:"The next page's address, rel=next"`
	Body []client.Ref
}

func (a *restAPI) listRefs(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Prefix string `query:"prefix" maxLength:"1100" example:"refs/heads/" doc:"Only names that start so"`
	Cursor string `query:"cursor" maxLength:"1500" doc:"Where the page starts: the X-Next-Cursor of the page before"`
	// The default is what a remote helper wants: all references of any but monstrous repositories.
	Limit int `query:"limit" minimum:"1" maximum:"100000" default:"100000" doc:"How many at most"`
},
) (*refsOut, error) {
	cell, r, err := a.openRepo(ctx, p, policy.RepoRead, in.Repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	refs := cell.View().Shown().Prefix(in.Prefix)
	refs = refs[startOf(refs, after):]
	res := &refsOut{Body: make([]client.Ref, 0, min(len(refs), in.Limit))}
	for i, ref := range refs {
		if i == in.Limit {
			res.Next = makeCursor(string(refs[i-1].Name))
			q := queryOf("cursor", res.Next, "limit", strconv.Itoa(in.Limit), "prefix", in.Prefix)
			res.Link = "<" + client.Base + "/repos/" + string(r.ID) + "/refs?" + q + `>; rel="next"`
			break
		}
		res.Body = append(res.Body, refOut(ref))
	}
	return res, nil
}

func (a *restAPI) getRef(ctx context.Context, p policy.Principal, in *RefParam) (*out[client.Ref], error) {
	cell, _, err := a.openRepo(ctx, p, policy.RepoRead, in.Repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	ref, ok := cell.View().Shown().Get(git.RefName("refs/" + in.Ref))
	if !ok {
		return nil, errNoRef
	}
	return &out[client.Ref]{refOut(ref)}, nil
}

var (
	errNoRef  = denial{errkind.NotFound, "there is no such reference"}
	errHidden = denial{errkind.Forbidden, "the repository's settings hide this reference: nobody moves it"}
)

func (a *restAPI) createRef(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Body client.CreateRef
},
) (*out[client.Ref], error) {
	return a.moveRef(ctx, p, in.Repo, in.Body.Name, in.Body.SHA, &git.OID{})
}

func (a *restAPI) updateRef(ctx context.Context, p policy.Principal, in *struct {
	RefParam
	Body client.UpdateRef
},
) (*out[client.Ref], error) {
	return a.moveRef(ctx, p, in.Repo, "refs/"+in.Ref, in.Body.SHA, in.Body.Expected)
}

func (a *restAPI) deleteRef(ctx context.Context, p policy.Principal, in *struct {
	RefParam
	Expected string `query:"expected" doc:"The value it must have now. Default: whatever it is"`
},
) (*none, error) {
	var expected *git.OID
	if in.Expected != "" {
		o, err := git.ParseOID(in.Expected)
		if err != nil {
			return nil, err
		}
		expected = &o
	}
	_, err := a.moveRef(ctx, p, in.Repo, "refs/"+in.Ref, git.ZeroOID, expected)
	return &none{}, err
}

// moveRef sets or, with a zero value, deletes one reference.
func (a *restAPI) moveRef(ctx context.Context, p policy.Principal, repo, name string, to git.OID, expected *git.OID) (*out[client.Ref], error) {
	cell, _, w, err := a.openToWrite(ctx, p, repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	ref, err := git.ParseRefName(name)
	if err != nil {
		return nil, err
	}
	view := cell.View()
	now, exists := view.Refs.Get(ref)
	switch {
	case to.IsZero() && !exists:
		return nil, errNoRef
	case view.HidesFromPush(ref):
		return nil, errHidden
	case !to.IsZero() && !view.Objects.Has(to):
		return nil, fmt.Errorf("object %s is not in this repository: %w", to, errkind.Invalid)
	}
	u := git.RefUpdate{Name: ref, Old: now.OID, New: to}
	if expected != nil {
		u.Old = *expected
	}
	errs, err := cell.Update(ctx, nil, []git.RefUpdate{u}, protocol.UpdateOptions{Writer: w, Atomic: true, Message: "api"})
	if err != nil {
		return nil, err
	}
	if errs[0] != nil {
		return nil, errs[0]
	}
	if ref, ok := cell.View().Refs.Get(ref); ok && ref.OID == to {
		return &out[client.Ref]{refOut(ref)}, nil
	}
	return &out[client.Ref]{client.Ref{Name: name, SHA: to}}, nil // moved again meanwhile
}

func (a *restAPI) listRefLog(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Ref   string `query:"ref" maxLength:"1100" example:"refs/heads/main" doc:"Default: all references"`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
},
) (*out[client.Page[client.RefLogEntry]], error) {
	// Who moved what is for those who may move it: readers of a public repository need not know its members.
	cell, _, err := a.openRepo(ctx, p, policy.RepoWrite, in.Repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	es, err := cell.RefLog(ctx, git.RefName(in.Ref), in.Limit)
	if err != nil {
		return nil, err
	}
	page := client.Page[client.RefLogEntry]{Items: make([]client.RefLogEntry, len(es))}
	for i, e := range es {
		page.Items[i] = client.RefLogEntry{At: e.At.In(time.UTC), Actor: e.Actor, Message: e.Message, Ref: string(e.Name), Old: e.Old, New: e.New}
	}
	return &out[client.Page[client.RefLogEntry]]{page}, nil
}

// startOf finds where a page of references starts.
func startOf(refs []git.Ref, after string) int {
	return sort.Search(len(refs), func(i int) bool { return after == "" || string(refs[i].Name) > after })
}

// queryOf encodes keys and values, leaving out empty ones.
func queryOf(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q.Encode()
}
