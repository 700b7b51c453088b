package server

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerDeployKeys() {
	const tag = "keys"
	const all = "/repos/{repo}/deploy-keys"
	handle(a, op(http.MethodPost, all, "add-deploy-key", tag, "Let an SSH key use one repository"), a.addDeployKey)
	handle(a, op(http.MethodGet, all, "list-deploy-keys", tag, "List the SSH keys of a repository"), a.listDeployKeys)
	handle(a, op(http.MethodDelete, all+"/{key}", "remove-deploy-key", tag, "Refuse an SSH key of a repository from now on"), a.removeDeployKey)
}

func deployKeyOut(k control.DeployKey) client.DeployKey {
	return client.DeployKey{
		ID: k.ID, Repo: k.Repo, Title: k.Title, Kind: k.Kind, Key: authorizedLine(k.Kind, k.Public), Fingerprint: k.Fingerprint, Write: k.Writes,
		By: k.By, CreatedAt: k.Created, ExpiresAt: timeOut(k.Expires), LastUsedAt: timeOut(k.Used), LastUsedFrom: k.UsedFrom,
	}
}

// addDeployKey is for who administers the repository. What they came with and ends by itself makes no key that does not.
func (a *restAPI) addDeployKey(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Body client.AddDeployKey
},
) (*out[client.DeployKey], error) {
	r, err := a.sharedRepo(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	if p.Within != "" {
		return nil, errSigned
	}
	parsed, err := parseAuthorizedKey(in.Body.Key)
	if err != nil {
		return nil, err
	}
	k := control.DeployKey{
		Repo: r.ID, Title: in.Body.Title, Kind: parsed.kind, Public: parsed.wire, Fingerprint: parsed.fingerprint, Writes: in.Body.Write, By: p.ID,
	}
	if k.Title == "" {
		k.Title = parsed.comment
	}
	if k.Expires, err = a.keyEnd(ctx, p, in.Body.TTL); err != nil {
		return nil, err
	}
	if k, err = a.control.AddDeployKey(ctx, k); err != nil {
		return nil, err
	}
	return &out[client.DeployKey]{deployKeyOut(k)}, nil
}

// keyEnd is when a key ends that somebody adds: after a time, or with the credential that they came with. Zero: never.
func (a *restAPI) keyEnd(ctx context.Context, p policy.Principal, ttl string) (end time.Time, err error) {
	if ttl != "" {
		d, err := parseTTL(ttl)
		if err != nil {
			return end, err
		}
		end = time.Now().Add(d)
	}
	own, err := a.endOf(ctx, p)
	if !own.IsZero() && (end.IsZero() || own.Before(end)) {
		end = own
	}
	return end, err
}

func (a *restAPI) listDeployKeys(ctx context.Context, p policy.Principal, in *RepoParam) (*out[client.Page[client.DeployKey]], error) {
	r, err := a.sharedRepo(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	list, err := a.control.DeployKeys(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return whole(list, deployKeyOut), nil
}

func (a *restAPI) removeDeployKey(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Key string `path:"key" maxLength:"100"`
},
) (*none, error) {
	r, err := a.sharedRepo(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	key, err := id.ParseDeployKey(in.Key)
	if err != nil {
		return nil, errMissing
	}
	err = a.control.RemoveDeployKey(ctx, r.ID, key)
	if errIsMissing(err) {
		err = denial{errkind.NotFound, "the repository has no such deploy key"}
	}
	return &none{}, err
}
