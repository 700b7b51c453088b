package server

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerSSHKeys() {
	const tag = "keys"
	handle(a, op(http.MethodPost, "/principals/{principal}/keys", "add-ssh-key", tag, "Register an SSH key"), a.addSSHKey)
	handle(a, op(http.MethodGet, "/principals/{principal}/keys", "list-ssh-keys", tag, "List SSH keys"), a.listSSHKeys)
	handle(a, op(http.MethodDelete, "/principals/{principal}/keys/{key}", "remove-ssh-key", tag, "Remove an SSH key"), a.removeSSHKey)
}

func sshKeyOut(k control.SSHKey) client.SSHKey {
	return client.SSHKey{
		ID: k.ID, Principal: k.Principal, Title: k.Title, Kind: k.Kind, Key: authorizedLine(k.Kind, k.Public), Fingerprint: k.Fingerprint,
		CreatedAt: k.Created, ExpiresAt: timeOut(k.Expires), LastUsedAt: timeOut(k.Used), LastUsedFrom: k.UsedFrom,
	}
}

// addSSHKey registers a key that may do all that its principal may. So it takes a credential that may do as much, and one that
// ends makes no key that does not.
func (a *restAPI) addSSHKey(ctx context.Context, p policy.Principal, in *struct {
	PrincipalParam
	Body client.AddSSHKey
},
) (*out[client.SSHKey], error) {
	who, err := a.whose(ctx, p, in.Principal)
	if err != nil {
		return nil, err
	}
	parsed, err := parseAuthorizedKey(in.Body.Key)
	if err != nil {
		return nil, err
	}
	k := control.SSHKey{Principal: who.ID, Title: in.Body.Title, Kind: parsed.kind, Public: parsed.wire, Fingerprint: parsed.fingerprint}
	if k.Title == "" {
		k.Title = parsed.comment
	}
	if k.Expires, err = a.keyEnd(ctx, p, in.Body.TTL); err != nil {
		return nil, err
	}
	if k, err = a.control.AddSSHKey(ctx, k); err != nil {
		return nil, err
	}
	return &out[client.SSHKey]{sshKeyOut(k)}, nil
}

// endOf says when the credential of a call ends by itself; zero: never.
func (a *restAPI) endOf(ctx context.Context, p policy.Principal) (time.Time, error) {
	if p.Session != "" {
		s, err := a.control.SessionByID(ctx, p.Session)
		return s.Expires, err
	}
	if t, err := id.ParseToken(string(p.Token)); err == nil {
		own, err := a.control.TokenByID(ctx, t)
		return own.Expires, err
	}
	return callOf(ctx).certEnds, nil
}

func (a *restAPI) listSSHKeys(ctx context.Context, p policy.Principal, in *PrincipalParam) (*out[client.Page[client.SSHKey]], error) {
	who, err := a.whose(ctx, p, in.Principal)
	if err != nil {
		return nil, err
	}
	list, err := a.control.SSHKeys(ctx, who.ID)
	if err != nil {
		return nil, err
	}
	return whole(list, sshKeyOut), nil
}

func (a *restAPI) removeSSHKey(ctx context.Context, p policy.Principal, in *struct {
	PrincipalParam
	Key string `path:"key" maxLength:"100"`
},
) (*none, error) {
	who, err := a.whose(ctx, p, in.Principal)
	if err != nil {
		return nil, err
	}
	key, err := id.ParseKey(in.Key)
	if err != nil {
		return nil, errMissing
	}
	return &none{}, a.control.RemoveSSHKey(ctx, who.ID, key)
}
