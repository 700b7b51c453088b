package client

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Contents reads a file or a directory at a revision ("" is HEAD).
func (c *Client) Contents(ctx context.Context, repo, rev, path string) (Contents, error) {
	return get[Contents](ctx, c, repoPath(repo, "/contents"), at(rev, path))
}

// File streams a file's bytes at a revision. The caller closes it.
func (c *Client) File(ctx context.Context, repo, rev, path string) (io.ReadCloser, error) {
	q := at(rev, path)
	q.Set("raw", "true")
	resp, err := c.send(ctx, call{method: http.MethodGet, path: repoPath(repo, "/contents"), query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Tree lists a directory ("" is the root) at a revision, with everything below it if recursive.
func (c *Client) Tree(ctx context.Context, repo, rev, path string, recursive bool, cursor string, limit int) (Tree, error) {
	q := at(rev, path)
	add(q, paging(cursor, limit))
	if recursive {
		q.Set("recursive", "true")
	}
	return get[Tree](ctx, c, repoPath(repo, "/tree"), q)
}

// LogOptions narrow Commits.
type LogOptions struct {
	Rev          string // "" is HEAD
	Path         string // only commits that change this path
	Since, Until time.Time
	FirstParent  bool
}

// Commits lists history, newest first.
func (c *Client) Commits(ctx context.Context, repo string, o LogOptions, cursor string, limit int) (Page[Commit], error) {
	q := at(o.Rev, o.Path)
	add(q, paging(cursor, limit))
	if !o.Since.IsZero() {
		q.Set("since", o.Since.UTC().Format(time.RFC3339))
	}
	if !o.Until.IsZero() {
		q.Set("until", o.Until.UTC().Format(time.RFC3339))
	}
	if o.FirstParent {
		q.Set("first_parent", "true")
	}
	return get[Page[Commit]](ctx, c, repoPath(repo, "/commits"), q)
}

// Commit reads one commit and its difference from its first parent.
func (c *Client) Commit(ctx context.Context, repo, rev string) (CommitDiff, error) {
	return get[CommitDiff](ctx, c, repoPath(repo, "/commits/"+segment(rev)), nil)
}

// Compare says what head has that base has not.
func (c *Client) Compare(ctx context.Context, repo, base, head string) (Comparison, error) {
	return get[Comparison](ctx, c, repoPath(repo, "/compare"), url.Values{"base": {base}, "head": {head}})
}

// Blame says which commit brought which lines of a file.
func (c *Client) Blame(ctx context.Context, repo, rev, path string) (Blame, error) {
	return get[Blame](ctx, c, repoPath(repo, "/blame"), at(rev, path))
}

// Archive streams a tree as "tar.gz" or "zip". The caller closes it.
func (c *Client) Archive(ctx context.Context, repo, rev, format string) (io.ReadCloser, error) {
	q := at(rev, "")
	q.Set("format", format)
	resp, err := c.send(ctx, call{method: http.MethodGet, path: repoPath(repo, "/archive"), query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// at is the query for a path at a revision.
func at(rev, path string) url.Values {
	q := url.Values{}
	if rev != "" {
		q.Set("ref", rev)
	}
	if path != "" {
		q.Set("path", path)
	}
	return q
}

func add(q, more url.Values) {
	maps.Copy(q, more)
}

// Health asks whether the server is ready to serve.
func (c *Client) Health(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer closeBody(resp)
	if resp.StatusCode != http.StatusOK {
		return &Problem{Status: resp.StatusCode, Title: "not ready: " + strconv.Itoa(resp.StatusCode)}
	}
	return nil
}
