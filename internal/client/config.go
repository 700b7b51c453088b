package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// Configuration is what a document of configuration says: on a server, or with a skep config daemon. It is safe for concurrent use.
type Configuration struct {
	c    *Client
	path string // of the document, below the API's
}

// Document is the content of a document on this server, by its tenant and its ID or name.
func (c *Client) Document(tenant, document string) *Configuration {
	return &Configuration{c: c, path: documentPath(tenant, document)}
}

// daemonBase is the path below which a skep config daemon has its API.
const daemonBase = "/v1"

// DaemonOptions are the settings of a daemon's client. The zero DaemonOptions asks anonymously.
type DaemonOptions struct {
	Key        string       // an API key of the daemon
	Actor      string       // who asks, for a daemon that believes it
	ActorClass string       // what that is: human, pipeline, operator or system; "": human
	UserAgent  string       // "": skep
	HTTP       *http.Client // nil: one of its own; with a client certificate, where the daemon asks for one
}

// DaemonDocument is the content of the document that the skep config daemon at daemonURL serves, such as http://127.0.0.1:9400.
func DaemonDocument(daemonURL string, opts DaemonOptions) (*Configuration, error) {
	c, err := New(daemonURL, Options{Token: opts.Key, UserAgent: opts.UserAgent, HTTP: opts.HTTP})
	if err != nil {
		return nil, err
	}
	c.api, c.own = daemonBase, http.Header{}
	if opts.Actor != "" {
		c.own.Set("X-Conflux-Actor", opts.Actor)
	}
	if opts.ActorClass != "" {
		c.own.Set("X-Conflux-Actor-Class", opts.ActorClass)
	}
	return &Configuration{c: c}, nil
}

// WriteOptions say how operations are done. The zero WriteOptions does them.
type WriteOptions struct {
	DryRun         bool   // work it out and write nothing
	IfMatch        string // the ETag or version of what was seen: refuse, with errkind.Conflict, if what is written to has changed since
	IdempotencyKey string // what is sent again with the same key is done once
}

// write sends operations and decodes what became of them.
func write[T any](ctx context.Context, d *Configuration, path string, in any, how WriteOptions) (out T, err error) {
	k := call{method: http.MethodPost, path: d.path + path, in: in, query: url.Values{}, header: http.Header{}}
	if how.DryRun {
		k.query.Set("dry_run", "true")
	}
	if how.IfMatch != "" {
		k.header.Set("If-Match", how.IfMatch)
	}
	if how.IdempotencyKey != "" {
		k.header.Set("Idempotency-Key", how.IdempotencyKey)
	}
	err = d.c.do(ctx, k, &out)
	return out, err
}

// Submit has an operation done. Its Base and Expect say what the writer had seen.
func (d *Configuration) Submit(ctx context.Context, op wire.Operation, how WriteOptions) (wire.Result, error) {
	return write[wire.Result](ctx, d, "/ops", op, how)
}

// SubmitBatch has operations done, all or none.
func (d *Configuration) SubmitBatch(ctx context.Context, ops []wire.Operation, how WriteOptions) (wire.Results, error) {
	return write[wire.Results](ctx, d, "/ops/batch", wire.Batch{Operations: ops}, how)
}

// Promote makes an environment as another one is, by one operation.
func (d *Configuration) Promote(ctx context.Context, p wire.Promotion, how WriteOptions) (wire.Result, error) {
	return write[wire.Result](ctx, d, "/envs/promote", p, how)
}

// Resolve chooses the value of a field for which writes wait. The choice covers what the document has; to choose among what somebody has seen,
// submit a resolve_conflict with a base.
func (d *Configuration) Resolve(ctx context.Context, entity, field, env string, choice wire.Value, intent string) (wire.Result, error) {
	op := wire.Operation{Type: "resolve_conflict", EntityID: entity, Field: field, Environment: env, ChosenValue: &choice, Intent: intent}
	return d.Submit(ctx, op, WriteOptions{})
}

// StateQuery chooses what is read of the state. The zero one asks for all of the base environment.
type StateQuery struct {
	Env   string
	Type  string // only entities of this type
	After string // only those after this ID: Next of the page before
	Limit int    // 0: as many as the server gives
}

func (q StateQuery) values() url.Values {
	return values("env", q.Env, "type", q.Type, "after", q.After, "limit", number(q.Limit))
}

// State reads the entities of an environment, or a page of them.
func (d *Configuration) State(ctx context.Context, q StateQuery) (*wire.State, error) {
	return get[*wire.State](ctx, d.c, d.path+"/state", q.values())
}

// StateSince is State for who asks again and again: it returns nil if nothing has changed since the answer that had this ETag ("" is none),
// which costs the server next to nothing. The ETag of the answer comes with it.
func (d *Configuration) StateSince(ctx context.Context, q StateQuery, etag string) (s *wire.State, newETag string, err error) {
	k := call{method: http.MethodGet, path: d.path + "/state", query: q.values(), header: http.Header{}}
	if etag != "" {
		k.header.Set("If-None-Match", etag)
	}
	h, err := d.c.doHeader(ctx, k, &s)
	if err != nil {
		return nil, "", err
	}
	return s, h.Get("ETag"), nil
}

// Entity reads one entity, TYPE.ID, in an environment ("" is the base).
func (d *Configuration) Entity(ctx context.Context, entity, env string) (*wire.Entity, error) {
	return get[*wire.Entity](ctx, d.c, d.path+"/state/"+segment(entity), values("env", env))
}

// Status returns the document at a glance.
func (d *Configuration) Status(ctx context.Context) (*wire.Status, error) {
	return get[*wire.Status](ctx, d.c, d.path+"/status", nil)
}

// Schema returns the schema in force.
func (d *Configuration) Schema(ctx context.Context) (wire.SchemaText, error) {
	return get[wire.SchemaText](ctx, d.c, d.path+"/schema", nil)
}

// Environments lists the environments, the base first.
func (d *Configuration) Environments(ctx context.Context) ([]wire.Environment, error) {
	out, err := get[wire.Environments](ctx, d.c, d.path+"/envs", nil)
	return out.Environments, err
}

// FieldFilter chooses fields. The zero one chooses all.
type FieldFilter struct {
	Entities []string // TYPE or TYPE.ID, with * for any text
	Fields   []string
}

func (f FieldFilter) add(q url.Values) url.Values {
	q["entity"], q["field"] = f.Entities, f.Fields
	return q
}

// Diff returns what would change if environment from became as to.
func (d *Configuration) Diff(ctx context.Context, from, to string, f FieldFilter) ([]wire.Change, error) {
	out, err := get[wire.Diff](ctx, d.c, d.path+"/envs/diff", f.add(values("from", from, "to", to)))
	return out.Changes, err
}

// Then names an earlier state by one of its fields. The zero Then is the last milestone's.
type Then struct {
	Milestone string // a commit, or how it begins
	Version   string
	Time      time.Time
}

// Since returns what has changed since an earlier state, in an environment or ("") in all.
func (d *Configuration) Since(ctx context.Context, then Then, env string, f FieldFilter) ([]wire.Change, error) {
	q := values("milestone", then.Milestone, "version", then.Version, "at", moment(then.Time), "env", env)
	out, err := get[wire.Changes](ctx, d.c, d.path+"/diff", f.add(q))
	return out.Changes, err
}

// Conflicts lists the fields for which somebody has to choose.
func (d *Configuration) Conflicts(ctx context.Context) ([]wire.Conflict, error) {
	out, err := get[wire.Conflicts](ctx, d.c, d.path+"/conflicts", nil)
	return out.Conflicts, err
}

// Violations lists the rules of the schema that the state breaks, in an environment or ("") in all.
func (d *Configuration) Violations(ctx context.Context, env string) ([]wire.Violation, error) {
	out, err := get[wire.Violations](ctx, d.c, d.path+"/violations", values("env", env))
	return out.Violations, err
}

// OperationQuery chooses operations of the log. The zero one asks for the newest.
type OperationQuery struct {
	Entity string // only those that write to this one
	Actor  string
	Type   string
	Since  time.Time
	Until  time.Time // before then
	Before uint64    // only those with a smaller seq: Next of the page before
	Limit  int       // 0: 100
}

// Log returns operations, the newest first.
func (d *Configuration) Log(ctx context.Context, q OperationQuery) (*wire.Log, error) {
	before := ""
	if q.Before > 0 {
		before = strconv.FormatUint(q.Before, 10)
	}
	return get[*wire.Log](ctx, d.c, d.path+"/log", values("entity", q.Entity, "actor", q.Actor, "type", q.Type, "since", moment(q.Since),
		"until", moment(q.Until), "before", before, "limit", number(q.Limit)))
}

// Blame returns where an entity's values come from: one field's, or ("") all.
func (d *Configuration) Blame(ctx context.Context, entity, field, env string) ([]wire.Blame, error) {
	out, err := get[wire.Blames](ctx, d.c, d.path+"/blame/"+segment(entity), values("field", field, "env", env))
	return out.Fields, err
}

// CreateMilestone commits what the document says.
func (d *Configuration) CreateMilestone(ctx context.Context, n wire.NewMilestone) (*wire.Milestone, error) {
	return send[*wire.Milestone](ctx, d.c, http.MethodPost, d.path+"/milestones", n)
}

// Milestones lists milestones, the latest first; at most limit, or 100 if that is 0.
func (d *Configuration) Milestones(ctx context.Context, limit int) ([]wire.Milestone, error) {
	out, err := get[wire.MilestoneList](ctx, d.c, d.path+"/milestones", values("limit", number(limit)))
	return out.Milestones, err
}

// Milestone finds a milestone by its commit, or how that begins; "" is the last one.
func (d *Configuration) Milestone(ctx context.Context, commit string) (*wire.Milestone, error) {
	if commit == "" {
		list, err := d.Milestones(ctx, 1)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("there is no milestone yet: %w", errkind.NotFound)
		}
		if err != nil {
			return nil, err
		}
		return &list[0], nil
	}
	return get[*wire.Milestone](ctx, d.c, d.path+"/milestones/"+segment(commit), nil)
}

// ExportQuery chooses what is exported of the log. The zero one asks for all of it.
type ExportQuery struct {
	Since  time.Time
	Until  time.Time // before then
	Actor  string
	Entity string
}

// ExportLog copies the log as lines of JSON, the oldest first, with what shows that nothing was changed.
func (d *Configuration) ExportLog(ctx context.Context, w io.Writer, q ExportQuery) error {
	resp, err := d.c.send(ctx, call{method: http.MethodGet, path: d.path + "/audit/export", query: values(
		"since", moment(q.Since), "until", moment(q.Until), "actor", q.Actor, "entity", q.Entity)})
	if err != nil {
		return err
	}
	defer closeBody(resp)
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("copy the log: %w", err)
	}
	return nil
}

// values is a query of names and values, of which empty ones are left out.
func values(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}
