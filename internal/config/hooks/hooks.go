// Package hooks tells webhooks of what happens to a document.
//
//	h := webhook.New(hooks.Store(doc.Meta()), hooks.NewSource(doc), client, webhook.Options{})
//	err := hooks.Milestone(ctx, h, doc.Name(), hooks.Commit{…})
//
// There are five types of events:
//
//	operation   each operation, and what the fields that it wrote to are now
//	promotion   one that copies an environment's values to another
//	conflict    one after which a field waits for somebody to choose
//	violation   one after which the state breaks a rule of the schema
//	milestone   a commit in a Git repository
//
// Conflicts and violations are those that there are when the event is looked at. One that was settled before then is not told, and one that
// came from a removal or a new schema is told with all others of that moment, since they are what it led to.
package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/webhook"
)

// The types of events.
const (
	Operation = "operation"
	Promotion = "promotion"
	Conflict  = "conflict"
	Violated  = "violation"
	Committed = "milestone"
)

var types = [...]string{Operation, Promotion, Conflict, Violated, Committed}

// Limits of what an event tells. Who needs more asks for the state.
const (
	maxChanges    = 1000
	maxViolations = 100
	maxFiles      = 300
	maxMessage    = 8 << 10 // bytes
	// maxEvent is how large a milestone's event is, in all its forms: below oplog.MaxMetaBytes, as one of which it is kept.
	maxEvent = 56 << 10
	// maxRead is how many operations one Next looks at.
	maxRead = 100
)

// Payload is what is sent, in the form that Standard Webhooks recommends for one. Which of its parts are there depends on the type.
type Payload struct {
	Type       string          `json:"type"`
	Timestamp  time.Time       `json:"timestamp"`
	Document   string          `json:"document"`
	Seq        uint64          `json:"seq,omitempty"` // the operation's record
	Op         *Op             `json:"op,omitempty"`
	Changes    []engine.Change `json:"changes,omitempty"`    // of conflict: the fields that wait
	Violations []Violation     `json:"violations,omitempty"` // of violation
	Truncated  bool            `json:"truncated,omitempty"`  // there are more changes, violations or files
	Milestone  *Commit         `json:"milestone,omitempty"`
}

// Op says who did what.
type Op struct {
	ID     crdt.Dot     `json:"id"`
	Time   crdt.HLC     `json:"hlc"`
	Actor  config.Actor `json:"actor"`
	Kind   config.Kind  `json:"kind"`
	Intent string       `json:"intent,omitempty"`
	From   string       `json:"from,omitempty"`
	To     string       `json:"to,omitempty"`
}

// Violation is a rule that the state breaks.
type Violation struct {
	ID       string          `json:"id"`
	Entity   string          `json:"entity"`
	Field    string          `json:"field,omitempty"`
	Env      string          `json:"env"`
	Rule     string          `json:"rule"`
	Message  string          `json:"message"`
	Severity config.Severity `json:"severity"`
}

// Commit is a milestone in a repository.
type Commit struct {
	Commit       string    `json:"commit"`
	Before       string    `json:"before,omitempty"` // the branch's commit before; "": there was none
	Repository   string    `json:"repository"`       // its URL, as those who fetch from it write it
	Branch       string    `json:"branch"`           // without refs/heads/
	Message      string    `json:"message"`
	Time         time.Time `json:"time"`
	Environments []string  `json:"environments,omitempty"`
	Operations   int       `json:"operations"`
	Added        []string  `json:"added,omitempty"` // files
	Modified     []string  `json:"modified,omitempty"`
	Removed      []string  `json:"removed,omitempty"`
}

// Store makes a document's small named values those of webhooks.
func Store(meta oplog.Metadata) webhook.Store { return store{meta} }

type store struct{ oplog.Metadata }

// Keys returns names of values.
func (s store) Keys(ctx context.Context, prefix, after string) ([]string, error) {
	list, err := s.ListMeta(ctx, prefix, after, 0)
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys, err
}

// NewSource makes a document's operations events.
func NewSource(d *engine.Document) webhook.Source { return source{d} }

type source struct{ *engine.Document }

// Head returns the document's last record.
func (s source) Head() uint64 { return s.Document.Head().Seq }

var errRead = errors.New("read")

// Next returns the events of operations after a cursor.
func (s source) Next(ctx context.Context, cursor uint64, wants func(string) bool) (list []webhook.Event, next uint64, err error) {
	next = cursor
	err = s.Watch(ctx, cursor, func(e engine.Event) error {
		events, err := s.events(&e, wants)
		if err != nil {
			return err
		}
		list, next = append(list, events...), e.Seq
		if next >= s.Head() || next >= cursor+maxRead {
			return errRead
		}
		return nil
	})
	if errors.Is(err, errRead) {
		err = nil
	}
	return list, next, err
}

// events returns those of one operation. All but the last have the cursor before it, so that none is lost if not all are delivered.
func (s source) events(e *engine.Event, wants func(string) bool) (list []webhook.Event, err error) {
	p := Payload{
		Timestamp: e.Op.Time.Time(), Document: s.Name(), Seq: e.Seq,
		Op: &Op{e.Op.ID, e.Op.Time, e.Op.Actor, e.Op.Kind, e.Op.Intent, e.Op.From, e.Op.To},
	}
	add := func(kind string) error {
		event, err := p.event(kind, fmt.Sprintf("%s-%d-%s", s.Name(), e.Seq, kind))
		event.Cursor = e.Seq - 1
		list = append(list, event)
		return err
	}
	waits := slices.DeleteFunc(slices.Clone(e.Changes), func(c engine.Change) bool { return !c.Conflict })
	p.change(e.Changes)
	if wants(Operation) {
		err = add(Operation)
	}
	if wants(Promotion) && e.Op.Kind == config.Promote && err == nil {
		err = add(Promotion)
	}
	if wants(Conflict) && len(waits) > 0 && err == nil {
		p.change(waits)
		err = add(Conflict)
	}
	if wants(Violated) && err == nil {
		p.change(nil)
		if err = s.violations(&p, e.Op); err == nil && len(p.Violations) > 0 {
			err = add(Violated)
		}
	}
	if len(list) > 0 {
		list[len(list)-1].Cursor = e.Seq
	}
	return list, err
}

func (p *Payload) change(changes []engine.Change) {
	p.Truncated = len(changes) > maxChanges
	p.Changes = changes[:min(len(changes), maxChanges)]
}

// violations fills in what an operation led to.
func (s source) violations(p *Payload, op *config.Op) error {
	all := op.Schema != nil
	for i := range op.Writes {
		all = all || op.Writes[i].Do == config.Life && op.Writes[i].Inc%2 == 0
	}
	return s.View(func(state *config.State) error {
		for _, v := range state.Violations() {
			if !all && !slices.ContainsFunc(v.By, func(e *crdt.Entry) bool { return e.Dot == op.ID }) {
				continue
			}
			if p.Truncated = len(p.Violations) == maxViolations; p.Truncated {
				break
			}
			p.Violations = append(p.Violations, Violation{v.ID, v.Entity, v.Field, v.Env, v.Rule, v.Message, v.Severity})
		}
		return nil
	})
}

// event makes an event of a payload, which is about what it names.
func (p *Payload) event(kind, id string) (webhook.Event, error) {
	p.Type = kind
	body, err := json.Marshal(p)
	if err != nil {
		return webhook.Event{}, fmt.Errorf("encode event %s: %w", id, err)
	}
	e := webhook.Event{ID: id, Type: kind, Bodies: map[webhook.Format]json.RawMessage{webhook.Plain: body}}
	note := func(entity, env string) {
		if !slices.Contains(e.Entities, entity) {
			e.Entities = append(e.Entities, entity)
		}
		if env != "" && !slices.Contains(e.Envs, env) {
			e.Envs = append(e.Envs, env)
		}
	}
	for _, c := range p.Changes {
		note(c.Entity, c.Env)
	}
	for _, v := range p.Violations {
		note(v.Entity, v.Env)
	}
	if p.Milestone != nil {
		e.Envs = p.Milestone.Environments
	}
	return e, nil
}

// Milestone tells of a milestone. It is durable when Milestone returns: whichever process delivers finds it.
func Milestone(ctx context.Context, h *webhook.Hooks, document string, c Commit) error {
	p := Payload{Timestamp: c.Time, Document: document, Milestone: &c}
	for _, list := range []*[]string{&c.Added, &c.Modified, &c.Removed} {
		if len(*list) > maxFiles/3 {
			*list, p.Truncated = (*list)[:maxFiles/3], true
		}
	}
	if len(c.Message) > maxMessage {
		c.Message = strings.ToValidUTF8(c.Message[:maxMessage], "")
	}
	e, err := p.milestone()
	if err == nil && size(&e) > maxEvent { // characters that JSON writes as six, or very long names
		c.Added, c.Modified, c.Removed, p.Truncated = nil, nil, nil, true
		c.Message, _, _ = strings.Cut(c.Message, "\n")
		e, err = p.milestone()
	}
	if err != nil {
		return err
	}
	return h.Publish(ctx, e)
}

func size(e *webhook.Event) (n int) {
	for _, body := range e.Bodies {
		n += len(body)
	}
	return n
}

// milestone makes the event of a milestone in both forms.
func (p *Payload) milestone() (webhook.Event, error) {
	e, err := p.event(Committed, p.Document+"-milestone-"+p.Milestone.Commit)
	if err != nil {
		return e, err
	}
	if e.Bodies[webhook.GitHub], err = json.Marshal(pushOf(p.Milestone)); err != nil {
		return e, fmt.Errorf("encode event %s: %w", e.ID, err)
	}
	return e, nil
}

// push is what GitHub tells of a push, as far as those look at it who fetch a repository for it: Argo CD takes the repository's URL, the branch,
// whether that is the default one, and which files changed.
type push struct {
	Ref        string       `json:"ref"`
	Before     string       `json:"before"`
	After      string       `json:"after"`
	Repository pushed       `json:"repository"`
	Commits    []pushCommit `json:"commits"`
	Head       pushCommit   `json:"head_commit"`
}

type pushed struct {
	Name          string `json:"name"`
	URL           string `json:"url"`
	HTMLURL       string `json:"html_url"`
	CloneURL      string `json:"clone_url"`
	DefaultBranch string `json:"default_branch"`
}

type pushCommit struct {
	ID        string    `json:"id"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
	Added     []string  `json:"added"`
	Modified  []string  `json:"modified"`
	Removed   []string  `json:"removed"`
}

func pushOf(c *Commit) push {
	before := c.Before
	if before == "" {
		before = strings.Repeat("0", max(len(c.Commit), 40)) // as Git writes that there was none
	}
	page := strings.TrimSuffix(c.Repository, ".git")
	commit := pushCommit{c.Commit, c.Message, c.Time, orEmpty(c.Added), orEmpty(c.Modified), orEmpty(c.Removed)}
	return push{
		Ref: "refs/heads/" + c.Branch, Before: before, After: c.Commit, Commits: []pushCommit{commit}, Head: commit,
		Repository: pushed{page[strings.LastIndexByte(page, '/')+1:], page, page, c.Repository, c.Branch},
	}
}

// orEmpty makes a list that JSON has as one.
func orEmpty(list []string) []string { return append([]string{}, list...) }
