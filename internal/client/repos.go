package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/skep-dev/skep/internal/git"
)

// CreateRepo makes a repository.
func (c *Client) CreateRepo(ctx context.Context, r CreateRepo) (Repo, error) {
	return send[Repo](ctx, c, http.MethodPost, "/repos", r)
}

// Repos lists the repositories that the caller may see: of one tenant (ID or path), or of all ("").
func (c *Client) Repos(ctx context.Context, tenant, cursor string, limit int) (Page[Repo], error) {
	q := paging(cursor, limit)
	if tenant != "" {
		q.Set("tenant", tenant)
	}
	return get[Page[Repo]](ctx, c, "/repos", q)
}

// Repo finds a repository by its ID or TENANT/NAME. So does every other method that takes a repository.
func (c *Client) Repo(ctx context.Context, repo string) (Repo, error) {
	return get[Repo](ctx, c, repoPath(repo, ""), nil)
}

// RepoByName finds a repository by its tenant's path and its name.
func (c *Client) RepoByName(ctx context.Context, tenant, name string) (Repo, error) {
	return c.Repo(ctx, tenant+"/"+name)
}

// UpdateRepo changes what u has.
func (c *Client) UpdateRepo(ctx context.Context, repo string, u UpdateRepo) (Repo, error) {
	return send[Repo](ctx, c, http.MethodPatch, repoPath(repo, ""), u)
}

// DeleteRepo deletes a repository with all that is in it.
func (c *Client) DeleteRepo(ctx context.Context, repo string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: repoPath(repo, "")}, nil)
}

// Stats says what a repository takes.
func (c *Client) Stats(ctx context.Context, repo string) (Stats, error) {
	return get[Stats](ctx, c, repoPath(repo, "/stats"), nil)
}

// Refs lists references whose names start with prefix ("" for all).
func (c *Client) Refs(ctx context.Context, repo, prefix, cursor string, limit int) (Page[Ref], error) {
	q := paging(cursor, limit)
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	var p Page[Ref]
	h, err := c.doHeader(ctx, call{method: http.MethodGet, path: repoPath(repo, "/refs"), query: q}, &p.Items)
	if err == nil {
		p.NextCursor = h.Get(NextCursorHeader)
	}
	return p, err
}

// NextCursorHeader carries the next page's cursor where the answer is a bare array.
const NextCursorHeader = "X-Next-Cursor"

// Ref finds one reference by its full name.
func (c *Client) Ref(ctx context.Context, repo, name string) (Ref, error) {
	return get[Ref](ctx, c, refPath(repo, name), nil)
}

// CreateRef makes a reference that must not exist yet.
func (c *Client) CreateRef(ctx context.Context, repo, name string, sha git.OID) (Ref, error) {
	return send[Ref](ctx, c, http.MethodPost, repoPath(repo, "/refs"), CreateRef{Name: name, SHA: sha})
}

// UpdateRef moves a reference. expected, unless nil, is where it must be now.
func (c *Client) UpdateRef(ctx context.Context, repo, name string, sha git.OID, expected *git.OID) (Ref, error) {
	return send[Ref](ctx, c, http.MethodPut, refPath(repo, name), UpdateRef{SHA: sha, Expected: expected})
}

// DeleteRef deletes a reference. expected, unless nil, is where it must be now.
func (c *Client) DeleteRef(ctx context.Context, repo, name string, expected *git.OID) error {
	q := url.Values{}
	if expected != nil {
		q.Set("expected", expected.String())
	}
	return c.do(ctx, call{method: http.MethodDelete, path: refPath(repo, name), query: q}, nil)
}

// RefLog lists the newest moves of one reference, or ("") of all.
func (c *Client) RefLog(ctx context.Context, repo, name string, limit int) ([]RefLogEntry, error) {
	q := paging("", limit)
	if name != "" {
		q.Set("ref", name)
	}
	p, err := get[Page[RefLogEntry]](ctx, c, repoPath(repo, "/reflog"), q)
	return p.Items, err
}

// CreateCommit makes a commit of file changes on a branch.
func (c *Client) CreateCommit(ctx context.Context, repo string, k CreateCommit) (CreatedCommit, error) {
	return send[CreatedCommit](ctx, c, http.MethodPost, repoPath(repo, "/commits"), k)
}

// Fetch streams a pack of what r asks for. The caller closes it.
func (c *Client) Fetch(ctx context.Context, repo string, r FetchRequest) (io.ReadCloser, error) {
	resp, err := c.send(ctx, call{method: http.MethodPost, path: repoPath(repo, "/fetch"), in: r})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Push moves references, after taking in the objects of pack, which may be nil. Conflicts come back in the result
// together with an error that wraps errkind.Conflict.
func (c *Client) Push(ctx context.Context, repo string, updates []PushUpdate, pack io.Reader) (PushResult, error) {
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	go func() { pw.CloseWithError(writePush(form, updates, pack)) }()
	var out PushResult
	err := c.do(ctx, call{method: http.MethodPost, path: repoPath(repo, "/push"), body: pr, ctype: form.FormDataContentType()}, &out)
	pr.CloseWithError(io.ErrClosedPipe) // ends the goroutine when the server did not read it all
	var p *Problem
	if errors.As(err, &p) && json.Unmarshal(p.raw, &out) == nil && out.Error != "" {
		p.Detail = out.Error
	}
	return out, err
}

func writePush(form *multipart.Writer, updates []PushUpdate, pack io.Reader) error {
	w, err := form.CreateFormField("updates")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(w).Encode(updates); err != nil {
		return fmt.Errorf("encode updates: %w", err)
	}
	if pack != nil {
		if w, err = form.CreateFormFile("pack", "pack"); err != nil {
			return err
		}
		if _, err := io.Copy(w, pack); err != nil {
			return err
		}
	}
	return form.Close()
}

// repoPath is the path of a repository or of something in it.
func repoPath(repo, rest string) string { return "/repos/" + segment(repo) + rest }

// refPath is the path of a reference: refs/heads/main is …/refs/heads/main.
func refPath(repo, name string) string {
	parts := strings.Split(strings.TrimPrefix(name, "refs/"), "/")
	for i, p := range parts {
		parts[i] = segment(p)
	}
	return repoPath(repo, "/refs/"+strings.Join(parts, "/"))
}
