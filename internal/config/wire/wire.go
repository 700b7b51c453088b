// Package wire has the forms in which a document's edges, REST, gRPC and the command line's --json, say what is asked and answered.
//
// Names are those of Conflux's API where it has them: what was written for that works.
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// Value is the value of a field, with which integers stay integers.
type Value struct{ Any any }

// MarshalJSON writes the value.
func (v Value) MarshalJSON() ([]byte, error) { return value.Encode(v.Any), nil }

// UnmarshalJSON reads a value.
func (v *Value) UnmarshalJSON(data []byte) (err error) {
	v.Any, err = value.Decode(data)
	return err
}

// Schema describes a value in an OpenAPI document: what it may be depends on the field.
func (Value) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Description: "A value of the field's type"}
}

// Actor is who did or wants something.
type Actor struct {
	ID    string `json:"id"`
	Class string `json:"class" doc:"human, pipeline, operator or system"`
	Name  string `json:"display_name,omitempty"`
}

// Operation is something that is wanted. Which of its parts count depends on its type.
type Operation struct {
	Type        string  `json:"type" doc:"set_field, insert_entity, remove_entity, move_entity, resolve_conflict, promote or change_schema; set_override is set_field in an environment"`
	EntityID    string  `json:"entity_id,omitempty" doc:"TYPE.ID, as service.api"`
	Field       string  `json:"field,omitempty"`
	Key         string  `json:"key,omitempty" doc:"Of a map: only this key"`
	Value       *Value  `json:"value,omitempty" doc:"The whole value; null unsets it. Of a key, that key's"`
	Add         []Value `json:"add,omitempty" doc:"Elements to add to a set, instead of a value"`
	Remove      []Value `json:"remove,omitempty" doc:"Elements to remove from a set"`
	Environment string  `json:"environment,omitempty" doc:"The base if empty"`
	Env         string  `json:"env,omitempty" doc:"The same as environment"`
	Override    bool    `json:"override,omitempty" doc:"Over the strategy of max, min and grow"`
	ChosenValue *Value  `json:"chosen_value,omitempty" doc:"Of resolve_conflict"`

	Fields    map[string]Value `json:"fields,omitempty" doc:"Of insert_entity: its values"`
	Parent    string           `json:"parent,omitempty"`
	Before    string           `json:"before,omitempty" doc:"The parent's child to be put before"`
	After     string           `json:"after,omitempty"`
	Position  string           `json:"position,omitempty" doc:"As an entity's answer has it; instead of before and after"`
	Restore   bool             `json:"restore,omitempty" doc:"Of insert_entity: with the values that it had when it was removed"`
	Cascade   bool             `json:"cascade,omitempty" doc:"Of remove_entity: with all below it"`
	MustExist bool             `json:"must_exist,omitempty" doc:"Of set_field: refuse if the entity is not there, instead of beginning it"`

	From     string   `json:"from,omitempty" doc:"Of promote: the source environment"`
	To       string   `json:"to,omitempty" doc:"Of promote: the target environment"`
	Entities []string `json:"entities,omitempty" doc:"Of promote: only these, as TYPE or TYPE.ID, with * for any text"`
	Only     []string `json:"only,omitempty" doc:"Of promote: only these fields"`
	AnyPath  bool     `json:"any_path,omitempty" doc:"Of promote: also to an environment that the source does not inherit from"`
	Prune    bool     `json:"prune,omitempty" doc:"Of promote: take away from the source what it inherits then"`

	Schema string `json:"schema,omitempty" doc:"Of change_schema: the text"`

	Base   string `json:"base,omitempty" doc:"The version that the actor saw; none: the current one"`
	Expect bool   `json:"expect,omitempty" doc:"Refuse with 409 if what is written to has changed since base"`
	Intent string `json:"intent,omitempty" doc:"Why"`
	Via    string `json:"via,omitempty" doc:"Where it comes from, if not from the actor's hand"`

	Signed *Signature `json:"signed,omitempty" doc:"What the actor signed, where operations are signed"`
}

// Signature is what a client signed, and with which key.
type Signature struct {
	Key  string `json:"key"`
	Body string `json:"body" doc:"The text that was signed: RFC 8785"`
	Sig  string `json:"sig" doc:"Ed25519, in base64"`
}

// Result is what became of an operation.
type Result struct {
	ID      string  `json:"id" doc:"NODE#NUMBER"`
	Seq     uint64  `json:"seq" doc:"Its number in the log, and a cursor; 0: there was nothing to do"`
	HLC     string  `json:"hlc,omitempty"`
	Writes  []Write `json:"writes" doc:"What it did"`
	Version string  `json:"version" doc:"Of the document with it"`
	Now     *Value  `json:"now,omitempty" doc:"What the field is now, which a strategy may have decided otherwise"`
}

// Write is one effect of an operation, for people.
type Write struct {
	EntityID    string `json:"entity_id"`
	Field       string `json:"field,omitempty"`
	Key         string `json:"key,omitempty"`
	Environment string `json:"environment,omitempty"`
	Do          string `json:"do" doc:"put, override, add, remove, insert, delete or move"`
	Old         *Value `json:"old,omitempty"`
	Value       *Value `json:"value,omitempty"`
}

// Source is a write that a value comes from.
type Source struct {
	Operation string `json:"operation"`
	HLC       string `json:"hlc"`
	Time      string `json:"time"`
	Actor     Actor  `json:"actor"`
	Intent    string `json:"intent,omitempty"`
	Value     *Value `json:"value,omitempty" doc:"Of one element or key, where a value comes from several writes"`
	Key       string `json:"key,omitempty"`
}

// Entity is an entity in an environment.
type Entity struct {
	ID          string           `json:"id"`
	Type        string           `json:"type"`
	Parent      string           `json:"parent,omitempty"`
	Position    string           `json:"position,omitempty"`
	Environment string           `json:"environment"`
	Fields      map[string]Value `json:"fields"`
	Conflicts   []string         `json:"conflicts,omitempty" doc:"Fields that wait for somebody to choose"`
	Version     string           `json:"version,omitempty"`
}

// State is a document in an environment.
type State struct {
	Document    string   `json:"document"`
	Environment string   `json:"environment"`
	Version     string   `json:"version"`
	Seq         uint64   `json:"seq" doc:"The cursor to watch from"`
	Entities    []Entity `json:"entities"`
	Next        string   `json:"next,omitempty" doc:"The ID to go on after; none: that is all"`
}

// Environment is an environment.
type Environment struct {
	Name     string `json:"name"`
	Inherits string `json:"inherits,omitempty"`
	Base     bool   `json:"base,omitempty"`
}

// Change is a field that differs.
type Change struct {
	EntityID    string   `json:"entity_id"`
	Field       string   `json:"field,omitempty" doc:"None where an entity began, and new is true, or ended, and old is"`
	Environment string   `json:"environment,omitempty" doc:"Where one was looked at over time"`
	Old         *Value   `json:"old,omitempty"`
	New         *Value   `json:"new,omitempty"`
	By          []Source `json:"by,omitempty"`
}

// Record is an operation of the log.
type Record struct {
	Seq       uint64     `json:"seq"`
	ID        string     `json:"id"`
	HLC       string     `json:"hlc"`
	Time      string     `json:"time"`
	Actor     Actor      `json:"actor"`
	Type      string     `json:"type"`
	Intent    string     `json:"intent,omitempty"`
	From      string     `json:"from,omitempty"`
	To        string     `json:"to,omitempty"`
	Via       string     `json:"via,omitempty"`
	Writes    []Write    `json:"writes"`
	More      int        `json:"more,omitempty" doc:"Writes that were left out"`
	Signature *Signature `json:"signature,omitempty"`
}

// Log is a page of the log.
type Log struct {
	Operations []Record `json:"operations"`
	Next       uint64   `json:"next,omitempty" doc:"The seq to go on before; 0: that is all"`
}

// Blame says where a field's value comes from.
type Blame struct {
	EntityID    string   `json:"entity_id"`
	Field       string   `json:"field"`
	Environment string   `json:"environment"`
	Value       Value    `json:"value"`
	From        string   `json:"from,omitempty" doc:"The environment that the value is from; none: it is the default"`
	Conflict    bool     `json:"conflict,omitempty"`
	By          []Source `json:"by"`
}

// Conflict is a field for which somebody has to choose.
type Conflict struct {
	EntityID    string   `json:"entity_id"`
	Field       string   `json:"field"`
	Environment string   `json:"environment"`
	Value       *Value   `json:"value,omitempty" doc:"What it is meanwhile"`
	Candidates  []Source `json:"candidates"`
}

// Violation is a rule of the schema that the state breaks.
type Violation struct {
	ID          string   `json:"id"`
	EntityID    string   `json:"entity_id"`
	Field       string   `json:"field,omitempty"`
	Environment string   `json:"environment"`
	Rule        string   `json:"rule"`
	Severity    string   `json:"severity"`
	Message     string   `json:"message"`
	By          []Source `json:"by,omitempty"`
}

// Status is a document at a glance.
type Status struct {
	Document     string         `json:"document"`
	Node         string         `json:"node"`
	Schema       string         `json:"schema,omitempty" doc:"Its name and version"`
	Version      string         `json:"version"`
	Operations   uint64         `json:"operations"`
	Head         string         `json:"head,omitempty" doc:"The hash of the log's last record"`
	Latest       string         `json:"latest,omitempty" doc:"The time of the latest operation"`
	Entities     map[string]int `json:"entities" doc:"How many of each type"`
	Environments []Environment  `json:"environments"`
	Conflicts    int            `json:"conflicts"`
	Violations   int            `json:"violations"`

	Automatic *Automatic `json:"automatic_milestones,omitempty" doc:"Where some are made by themselves, for those who may read every field"`
}

// Automatic says how the milestones do that are made by themselves.
type Automatic struct {
	Every      string `json:"every,omitempty"`
	After      uint64 `json:"after,omitempty" doc:"Operations"`
	Operations uint64 `json:"operations" doc:"Since the last milestone"`
	Commit     string `json:"commit,omitempty" doc:"Of the last milestone"`
	Next       string `json:"next,omitempty" doc:"When one is made at the latest, if nothing stands in its way; none: nothing has changed, or it goes by the number of operations"`
	Refused    string `json:"refused,omitempty" doc:"Why the last attempt made none; it is tried again"`
	RefusedAt  string `json:"refused_at,omitempty"`
}

// Milestone is a commit that has what the document says.
type Milestone struct {
	ID           string   `json:"id" doc:"Of the commit"`
	Message      string   `json:"message" doc:"Its subject, without milestone:"`
	Text         string   `json:"text" doc:"The whole message"`
	Author       string   `json:"author,omitempty"`
	CreatedAt    string   `json:"created_at"`
	Environments []string `json:"environments" doc:"Of which files changed"`
	Operations   int      `json:"operations" doc:"Since the milestone before"`
	Start        string   `json:"start,omitempty" doc:"The time of the first of them"`
	End          string   `json:"end,omitempty" doc:"The time of the last of them"`
	Schema       string   `json:"schema,omitempty"`
	Version      string   `json:"version" doc:"Of the document"`
	LogHead      string   `json:"log_head,omitempty"`
	Allowed      bool     `json:"violations_allowed,omitempty" doc:"It was made in spite of conflicts or broken rules"`
}

// NewMilestone is what milestone is wanted.
type NewMilestone struct {
	Message         string   `json:"message" doc:"One line"`
	Environments    []string `json:"environments,omitempty" doc:"All if there is none"`
	AllowViolations bool     `json:"allow_violations,omitempty" doc:"In spite of conflicts and broken rules, which the milestone then tells; for administrators"`
	AllowEmpty      bool     `json:"allow_empty,omitempty" doc:"Also if nothing has changed"`
	Overwrite       bool     `json:"overwrite,omitempty" doc:"What was edited in Git becomes as the document says; for administrators"`
	Import          bool     `json:"import,omitempty" doc:"Take over first what was edited in Git"`
}

// Event is what a watcher gets.
type Event struct {
	Cursor    uint64        `json:"cursor" doc:"To go on after"`
	Operation *Record       `json:"operation,omitempty" doc:"None of the state at the beginning"`
	Changes   []FieldChange `json:"changes"`

	once sync.Once
	text []byte
	err  error
}

// Text returns the event as a line of JSON. It is worked out once, however many watchers get it; the event does not change any more.
func (e *Event) Text() ([]byte, error) {
	e.once.Do(func() {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		e.err = enc.Encode(e)
		e.text = b.Bytes()
	})
	return e.text, e.err
}

// FieldChange is a field in an environment after an operation.
type FieldChange struct {
	EntityID    string `json:"entity_id"`
	Field       string `json:"field,omitempty" doc:"None where an entity began or ended"`
	Environment string `json:"environment,omitempty"`
	Value       *Value `json:"value,omitempty"`
	Removed     bool   `json:"removed,omitempty" doc:"The entity is not there any more"`
	Conflict    bool   `json:"conflict,omitempty"`
}

// ParsePath reads what people write for a field: TYPE.ID FIELD in two words, or TYPE.ID.FIELD in one, of which the last part is the field;
// and FIELD[KEY] for a key of a map.
func ParsePath(entity, field string) (entityID, fieldName, key string, err error) {
	if field == "" {
		i := strings.LastIndexByte(entity, '.')
		if b := strings.IndexByte(entity, '['); b >= 0 {
			i = strings.LastIndexByte(entity[:b], '.')
		}
		if i < 0 || !strings.ContainsAny(entity[:i], "./") {
			return "", "", "", fmt.Errorf("%q is not of the form TYPE.ID.FIELD: %w", entity, errkind.Invalid)
		}
		entity, field = entity[:i], entity[i+1:]
	}
	if name, rest, ok := strings.Cut(field, "["); ok {
		if !strings.HasSuffix(rest, "]") {
			return "", "", "", fmt.Errorf("field %q: a key is written FIELD[KEY]: %w", field, errkind.Invalid)
		}
		field, key = name, strings.TrimSuffix(rest, "]")
	}
	return entity, field, key, nil
}

// NewWebhook is a subscription that is wanted.
type NewWebhook struct {
	URL          string   `json:"url" doc:"https://HOST/PATH. Addresses that are not public, and plain http, are for networks that the operator allows"`
	Secret       string   `json:"secret,omitempty" doc:"What requests are signed with: whsec_ and base64, or 24 to 200 printable characters; none: a new one"`
	Events       []string `json:"events,omitempty" doc:"operation, promotion, conflict, violation, milestone, with * for any text; none: all"`
	Entities     []string `json:"entities,omitempty" doc:"TYPE.ID, with * for any text; none: all"`
	Environments []string `json:"environments,omitempty" doc:"None: all"`
	Format       string   `json:"format,omitempty" doc:"github: milestones only, as GitHub tells of a push"`
}

// Webhook is a subscription, and how it does.
type Webhook struct {
	ID           string   `json:"id"`
	URL          string   `json:"url"`
	Secret       string   `json:"secret,omitempty" doc:"In the answer that makes it, and never again"`
	Events       []string `json:"events" doc:"None: all"`
	Entities     []string `json:"entities" doc:"None: all"`
	Environments []string `json:"environments" doc:"None: all"`
	Format       string   `json:"format,omitempty"`
	CreatedAt    string   `json:"created_at"`
	CreatedBy    string   `json:"created_by,omitempty" doc:"CLASS:ID"`
	Cursor       uint64   `json:"cursor" doc:"The seq of the last operation that it was told of, or that is not for it"`
	Missed       uint64   `json:"missed,omitempty" doc:"Milestones that were dropped before they could be delivered"`
	FailingSince string   `json:"failing_since,omitempty"`
	Attempts     int      `json:"attempts,omitempty" doc:"For the event that is next"`
	NextAttempt  string   `json:"next_attempt,omitempty"`
	Disabled     string   `json:"disabled,omitempty" doc:"Why nothing is sent until somebody enables it"`
}

// Delivery is an attempt to tell of an event.
type Delivery struct {
	Event     string `json:"event" doc:"Its ID, which the receiver gets as webhook-id"`
	Type      string `json:"type"`
	At        string `json:"at"`
	Attempt   int    `json:"attempt"`
	Status    int    `json:"status,omitempty" doc:"Of the answer; none: there was no answer"`
	Error     string `json:"error,omitempty" doc:"None: it was taken"`
	TookMS    int64  `json:"took_ms"`
	Delivered bool   `json:"delivered"`
}
