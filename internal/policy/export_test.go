package policy

// Row is what is known of an action, for the reference.
type Row struct {
	Action Action
	Kind   Kind
	Role   Role
	Scope  Scope
}

// Rows are all actions.
func Rows() []Row {
	rows := make([]Row, len(actions))
	for i, a := range actions {
		rows[i] = Row{a.action, a.kind, a.role, a.scope}
	}
	return rows
}
