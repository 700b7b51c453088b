package wire

// Batch is operations that all count, or none does.
type Batch struct {
	Operations []Operation `json:"operations" maxItems:"10000"`
	Intent     string      `json:"intent,omitempty" doc:"Why, of the operations that do not say"`
}

// Results are those of a batch.
type Results struct {
	Results []Result `json:"results" doc:"In the order of the operations"`
	Version string   `json:"version"`
}

// Promotion is what is promoted.
type Promotion struct {
	From     string     `json:"from"`
	To       string     `json:"to"`
	Entities []string   `json:"entities,omitempty" doc:"Only these, as TYPE or TYPE.ID, with * for any text"`
	Fields   []string   `json:"fields,omitempty" doc:"Only these fields"`
	AnyPath  bool       `json:"any_path,omitempty" doc:"Also to an environment that the source does not inherit from"`
	Prune    bool       `json:"prune,omitempty" doc:"Take away from the source what it inherits then"`
	Base     string     `json:"base,omitempty"`
	Expect   bool       `json:"expect,omitempty"`
	Intent   string     `json:"intent,omitempty"`
	DryRun   bool       `json:"dry_run,omitempty"`
	Signed   *Signature `json:"signed,omitempty"`
}

// SchemaText is the schema in force.
type SchemaText struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
	Text    string `json:"text" doc:"TOML"`
}

// Environments are those of the schema.
type Environments struct {
	Environments []Environment `json:"environments" doc:"The base first"`
}

// Diff is what differs between two environments.
type Diff struct {
	From    string   `json:"from"`
	To      string   `json:"to"`
	Changes []Change `json:"changes" doc:"What would change if from became as to"`
}

// Conflicts are the fields for which somebody has to choose.
type Conflicts struct {
	Conflicts []Conflict `json:"conflicts"`
}

// Violations are the rules of the schema that the state breaks.
type Violations struct {
	Violations []Violation `json:"violations"`
}

// Blames says where an entity's values come from.
type Blames struct {
	Fields []Blame `json:"fields"`
}

// MilestoneList is milestones, the latest first.
type MilestoneList struct {
	Milestones []Milestone `json:"milestones"`
}

// Polled is the answer to a poll.
type Polled struct {
	Events []*Event `json:"events"`
	Cursor uint64   `json:"cursor" doc:"To go on after"`
}

// Changes are what has changed since an earlier state.
type Changes struct {
	Changes []Change `json:"changes"`
}

// WebhookList is subscriptions.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks"`
}

// Deliveries are attempts, the latest first.
type Deliveries struct {
	Deliveries []Delivery `json:"deliveries"`
}

// Again is what is sent again.
type Again struct {
	Event string `json:"event,omitempty" doc:"Of one of the last deliveries; none: the latest"`
}
