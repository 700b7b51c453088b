package schema_test

import (
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/schema"
)

const ruled = `
name = "x"
[entity.service]
[entity.pool]
fields = [
    { name = "low", type = "int" },
    { name = "high", type = "int" },
    { name = "ratio", type = "float" },
    { name = "name", type = "string" },
    { name = "on", type = "bool" },
    { name = "wait", type = "duration" },
    { name = "waits", type = "list<duration>", merge = "set" },
    { name = "limits", type = "map<duration>" },
    { name = "ports", type = "list<int>", merge = "set" },
    { name = "labels", type = "map" },
    { name = "service", type = "ref<service>" },
    { name = "health-check", type = "string" },
]
`

func parseRule(check string) (*schema.Rule, error) {
	s, err := schema.Parse("schema.toml", []byte(ruled+"[[entity.pool.rules]]\nname = \"r\"\ncheck = '''"+check+"'''"))
	if err != nil {
		return nil, err
	}
	return &s.Entity("pool").Rules[0], nil
}

func TestRules(t *testing.T) {
	full := map[string]any{
		"low": int64(1), "high": int64(3), "ratio": 0.5, "name": "api", "on": true, "wait": "1m30s", "waits": []any{"1s", "2s"},
		"limits": map[string]any{"a": "1h"}, "ports": []any{int64(80), int64(443)}, "labels": map[string]any{"a": "b", "n": int64(1)},
		"service": "service.api", "health-check": "/",
	}
	none := map[string]any{}
	tests := []struct {
		check  string
		fields map[string]any
		want   string // true, false or an error
	}{
		{"self.low <= self.high", full, "true"},
		{"self.low > self.high", full, "false"},
		{"self.low <= self.high", none, "true"}, // as a CHECK of SQL
		{"self.low <= self.high", map[string]any{"low": int64(1), "high": nil}, "true"},
		{"has(self.low) == has(self.high)", map[string]any{"low": int64(1)}, "false"},
		{"!has(self.low) || has(self.name)", map[string]any{"low": int64(1)}, "false"},
		{"has(self.name) && self.name != ''", none, "false"},
		{"self.on || self.low > 5", map[string]any{"on": true}, "true"},
		{"self.on && self.low > 5", map[string]any{"on": false}, "false"},
		{"self.low > self.ratio", full, "true"},
		{"self.low / (self.high - 3) == 1", full, "division by zero"},
		{"self.wait > duration('60s')", full, "true"},
		{"self.waits.all(w, w < duration('2s'))", full, "false"},
		{"self.limits['a'] == duration('60m')", full, "true"},
		{"self.limits['b'] == duration('60m')", full, "no such key"},
		{"self.ports.all(p, p > 0 && p < 65536) && size(self.ports) == 2", full, "true"},
		{"self.labels.a == 'b' && self.labels.n == 1", full, "true"},
		{"self.service == 'service.api'", full, "true"},
		{"self.`health-check`.startsWith('/')", full, "true"},
		{"self.name.matches('^[a-z]+$')", full, "true"},
		{"self.ports.all(a, self.ports.all(b, self.ports.all(c, self.ports.all(d, self.ports.all(e, a + b + c + d + e >= 0)))))", map[string]any{"ports": hundred()}, "cost limit exceeded"},
	}
	for _, tt := range tests {
		r, err := parseRule(tt.check)
		if err != nil {
			t.Errorf("%s: %v", tt.check, err)
			continue
		}
		ok, err := r.Eval(tt.fields)
		got := "false"
		if err != nil {
			got = err.Error()
		} else if ok {
			got = "true"
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s = %s, want %s", tt.check, got, tt.want)
		}
	}
}

func hundred() []any {
	list := make([]any, 100)
	for i := range list {
		list[i] = int64(i)
	}
	return list
}

// What cannot be right with any values is found when the schema is read.
func TestRuleProblems(t *testing.T) {
	tests := []struct{ check, want string }{
		{"self.low <", "Syntax error"},
		{"self.lwo < 1", `schema.toml:21:1: rule "r": check: undefined field 'lwo' (line 1, column 5 of the expression)`},
		{"low < 1", "undeclared reference to 'low'"},
		{"self.name > 1", "found no matching overload"},
		{"self.name", "it is a string, and has to be a bool: write a comparison"},
		{"self.labels.a", "it is a dyn, and has to be a bool"},
		{"timestamp('2024-01-01T00:00:00Z') > timestamp('2023-01-01T00:00:00Z')", "undeclared reference to 'timestamp'"},
		{"google.protobuf.Timestamp{seconds: 1}.getHours('Europe/Berlin') == 1", "google.protobuf.Timestamp"},
		{"pool{low: 1} == self", "undeclared reference to 'pool'"},
		{"now() > 1", "undeclared reference to 'now'"},
		{"self.name.matches('a(')", "missing closing"},
		{"", "it checks nothing"},
		{strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300), "recursion"},
		{"self.low == 1" + strings.Repeat(" || self.low == 1", 400), "and 4000 are allowed"},
	}
	for _, tt := range tests {
		if _, err := parseRule(tt.check); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s: %v, want %s", tt.check, err, tt.want)
		}
	}
}
