package server

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// PrincipalParam is the principal in a path.
type PrincipalParam struct {
	Principal string `path:"principal" maxLength:"600" doc:"ID or name"`
}

func (a *restAPI) registerPrincipals() {
	const tag = "principals"
	handle(a, op(http.MethodGet, "/whoami", "whoami", tag, "Say whom your credential stands for"), a.whoami)
	handle(a, op(http.MethodPost, "/principals", "create-principal", tag, "Create a principal: a person, an agent, a machine"), a.createPrincipal)
	handle(a, op(http.MethodGet, "/principals", "list-principals", tag, "List principals"), a.listPrincipals)
	handle(a, op(http.MethodGet, "/principals/{principal}", "get-principal", tag, "Get a principal"), a.getPrincipal)
	handle(a, op(http.MethodDelete, "/principals/{principal}", "delete-principal", tag, "Delete a principal, its tokens and memberships"), a.deletePrincipal)
}

func principalOut(p control.Principal) client.Principal {
	return client.Principal{ID: p.ID, Name: p.Name, Class: p.Class, Admin: p.Admin, Tenant: p.Home, CreatedAt: p.Created}
}

func (a *restAPI) whoami(ctx context.Context, p policy.Principal, _ *none) (*out[client.Identity], error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	return &out[client.Identity]{client.Identity{
		Principal: p.ID, Name: p.Name, Class: p.Class, Admin: p.Admin, Scope: p.Scope, Repo: p.Repo, Tenant: p.Within,
	}}, nil
}

func (a *restAPI) createPrincipal(ctx context.Context, p policy.Principal, in *struct{ Body client.CreatePrincipal }) (*out[client.Principal], error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	who, err := a.control.CreatePrincipal(ctx, in.Body.Name, in.Body.Class, in.Body.Admin)
	if err != nil {
		return nil, err
	}
	return &out[client.Principal]{principalOut(who)}, nil
}

func (a *restAPI) listPrincipals(ctx context.Context, p policy.Principal, in *Paging) (*out[client.Page[client.Principal]], error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	ps, err := a.control.Principals(ctx, id.Principal(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	return &out[client.Page[client.Principal]]{pageOf(ps, in.Limit, principalOut, func(p control.Principal) string { return string(p.ID) })}, nil
}

func (a *restAPI) getPrincipal(ctx context.Context, p policy.Principal, in *PrincipalParam) (*out[client.Principal], error) {
	find := a.governed
	if in.Principal == string(p.ID) && !p.Anonymous() {
		find = func(ctx context.Context, _ policy.Principal, ref string) (control.Principal, error) {
			return a.findPrincipal(ctx, ref)
		}
	}
	who, err := find(ctx, p, in.Principal)
	if err != nil {
		return nil, err
	}
	return &out[client.Principal]{principalOut(who)}, nil
}

func (a *restAPI) deletePrincipal(ctx context.Context, p policy.Principal, in *PrincipalParam) (*none, error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	who, err := a.findPrincipal(ctx, in.Principal)
	if err != nil {
		return nil, err
	}
	if who.ID == p.ID {
		return nil, denial{errkind.Conflict, "an administrator cannot delete itself: let another one do it"}
	}
	return &none{}, a.control.DeletePrincipal(ctx, who.ID)
}

// governed finds a principal for somebody who governs it: an administrator of the server, or of the tenant whose account it is. To
// anybody else all principals look alike, those that there are and others.
func (a *restAPI) governed(ctx context.Context, p policy.Principal, ref string) (control.Principal, error) {
	refused := a.allowServer(p, policy.SystemAdmin)
	if p.Anonymous() {
		return control.Principal{}, refused
	}
	who, err := a.findPrincipal(ctx, ref)
	if refused == nil || err == nil && who.Home != "" && a.sponsor(ctx, p, who.Home) == nil {
		return who, err
	}
	return control.Principal{}, refused
}

// pageOf makes a page of items of which one more than limit was asked for. key is what the next page starts after.
func pageOf[In, Out any](items []In, limit int, conv func(In) Out, key func(In) string) client.Page[Out] {
	page := client.Page[Out]{Items: make([]Out, 0, min(len(items), limit))}
	for i, it := range items {
		if i == limit {
			page.NextCursor = makeCursor(key(items[i-1]))
			break
		}
		page.Items = append(page.Items, conv(it))
	}
	return page
}

// whole is the answer of a list that is so short that it has no pages.
func whole[In, Out any](items []In, conv func(In) Out) *out[client.Page[Out]] {
	page := client.Page[Out]{Items: make([]Out, len(items))}
	for i, it := range items {
		page.Items[i] = conv(it)
	}
	return &out[client.Page[Out]]{page}
}

// makeCursor makes what clients pass back without looking into it: names need not be UTF-8.
func makeCursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

func parseCursor(cursor string) (string, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || strings.ContainsAny(cursor, "\r\n") { // which the decoder leaves out
		return "", errCursor
	}
	return string(b), nil
}

var errCursor = denial{errkind.Invalid, "cursor: not one that this server gave out"}
