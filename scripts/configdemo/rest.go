package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// operation is what the REST API takes, as far as the writers use it.
type operation struct {
	Type        string   `json:"type"`
	EntityID    string   `json:"entity_id,omitempty"`
	Field       string   `json:"field,omitempty"`
	Key         string   `json:"key,omitempty"`
	Value       any      `json:"value,omitempty"`
	Add         []any    `json:"add,omitempty"`
	Remove      []any    `json:"remove,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Override    bool     `json:"override,omitempty"`
	From        string   `json:"from,omitempty"`
	To          string   `json:"to,omitempty"`
	Only        []string `json:"only,omitempty"`
	Base        string   `json:"base,omitempty"`
	Intent      string   `json:"intent,omitempty"`
	Via         string   `json:"via,omitempty"`
}

// result is what it answers.
type result struct {
	ID      string `json:"id"`
	Seq     uint64 `json:"seq"`
	Version string `json:"version"`
}

// record is an operation of the log.
type record struct {
	Seq   uint64 `json:"seq"`
	ID    string `json:"id"`
	Actor struct {
		ID string `json:"id"`
	} `json:"actor"`
	Type   string `json:"type"`
	Intent string `json:"intent"`
	Via    string `json:"via"`
}

// entity is an entity in an environment.
type entity struct {
	ID        string         `json:"id"`
	Fields    map[string]any `json:"fields"`
	Conflicts []string       `json:"conflicts"`
	Version   string         `json:"version"`
}

// state is a document in an environment.
type state struct {
	Version  string   `json:"version"`
	Entities []entity `json:"entities"`
}

// status is a document at a glance.
type status struct {
	Version    string `json:"version"`
	Operations uint64 `json:"operations"`
	Head       string `json:"head"`
}

// restClient asks the daemon over a link, or without one.
type restClient struct {
	http    *http.Client
	address func() string
	key     string
}

// refusal is an answer that says no, for good.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.text) }

// maxAnswer is more than any answer here has.
const maxAnswer = 64 << 20

// do makes one request. Errors other than a refusal say nothing about what has happened.
func (c *restClient) do(ctx context.Context, method, path, idempotency string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.address()+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("X-API-Key", c.key)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if idempotency != "" {
		r.Header.Set("Idempotency-Key", idempotency)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	case resp.StatusCode/100 != 2:
		var problem struct {
			Detail string `json:"detail"`
		}
		_ = json.Unmarshal(text, &problem)
		return &refusal{resp.StatusCode, problem.Detail}
	case out != nil:
		return json.Unmarshal(text, out)
	}
	return nil
}

// submit does writes, all or none: one alone, several as a batch.
func (c *restClient) submit(ctx context.Context, key string, list []*write) ([]result, error) {
	if len(list) == 1 {
		var one result
		err := c.do(ctx, http.MethodPost, "/v1/ops", key, list[0].op, &one)
		return []result{one}, err
	}
	var batch struct {
		Operations []operation `json:"operations"`
	}
	for _, w := range list {
		batch.Operations = append(batch.Operations, w.op)
	}
	var done struct {
		Results []result `json:"results"`
	}
	err := c.do(ctx, http.MethodPost, "/v1/ops/batch", key, batch, &done)
	if err == nil && len(done.Results) != len(list) {
		err = fmt.Errorf("a batch of %d has %d results", len(list), len(done.Results))
	}
	return done.Results, err
}

// find looks for writes in the log. A writer has one request under way at a time, so that they are among the last that it made.
func (c *restClient) find(ctx context.Context, actor string, list []*write) (map[string]result, error) {
	query := url.Values{"actor": {actor}, "limit": {strconv.Itoa(2*len(list) + 10)}}
	var page struct {
		Operations []record `json:"operations"`
	}
	if err := c.do(ctx, http.MethodGet, "/v1/log?"+query.Encode(), "", nil, &page); err != nil {
		return nil, err
	}
	found := map[string]result{}
	for _, r := range page.Operations {
		found[r.Via] = result{ID: r.ID, Seq: r.Seq}
	}
	return found, nil
}

// version asks for the document's version.
func (c *restClient) version(ctx context.Context) (string, error) {
	var s status
	err := c.do(ctx, http.MethodGet, "/v1/status", "", nil, &s)
	return s.Version, err
}
