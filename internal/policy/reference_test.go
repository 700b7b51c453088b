package policy_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/tidy/goldentest"
)

// TestReference: docs/reference/actions.md is the list of actions.
func TestReference(t *testing.T) {
	about := comments(t)
	var b strings.Builder
	b.WriteString(`# Actions, roles and scopes

Generated from the code: ` + "`make update`" + ` writes it. What they mean together is in the guide to [policy](../guide/policy.md).

An action is allowed to members of the tenant from the role in its line on: ` + "`guest`, `reader`, `writer`, `owner`" + `, each with what the
one before may do. A document of policy gives and takes it by its verb, as in ` + "`actions = [\"read\"], resource = \"repo/acme/*\"`" + `. A token
lets its principal do it from the scope in its line on: ` + "`read`, `write`, `admin`" + `.

| Action | On | Role | Scope | |
|---|---|---|---|---|
`)
	for _, row := range policy.Rows() {
		role := "`" + string(row.Role) + "`"
		if row.Role == "" {
			role = "the server's administrators"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | %s |\n", row.Action, row.Kind, role, row.Scope, about[string(row.Action)])
	}
	goldentest.Check(t, filepath.Join("..", "..", "docs", "reference", "actions.md"), b.String())
}

// comments are what action.go says beside the actions' constants.
func comments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "action.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && spec.Comment != nil {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok {
				out[strings.Trim(value.Value, `"`)] = strings.TrimSpace(spec.Comment.Text())
			}
		}
		return true
	})
	return out
}
