package server_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/tidy/goldentest"
)

var reference = filepath.Join("..", "..", "docs", "reference")

// TestReferenceOfTheAPI: docs/reference/api.md is the OpenAPI document, with the actions that each operation's code asks policy for.
func TestReferenceOfTheAPI(t *testing.T) {
	byTag := map[string]string{}
	asked := actionsAsked(t)
	eachOperation(t, openAPI(t), func(path, method string, op map[string]any) {
		var params []string
		list, _ := op["parameters"].([]any)
		for _, p := range list {
			if p := p.(map[string]any); p["in"] != "path" {
				params = append(params, "`"+p["name"].(string)+"`")
			}
		}
		id := op["operationId"].(string)
		actions, known := asked[id]
		if strings.HasPrefix(id, "config-") { // package config/service asks, not the handler
			actions, known = []string{"for [each field](config-rest.md#who-calls)"}, true
		}
		if !known {
			t.Errorf("%s: its handler is not found in the code: declare it as handle(a, op(method, path, \"%s\", …), a.handler)", id, id)
		}
		tag := op["tags"].([]any)[0].(string)
		byTag[tag] += fmt.Sprintf("| `%s %s` | %s | %s | %s | %s | %s |\n", strings.ToUpper(method), strings.TrimPrefix(path, client.Base), op["summary"],
			strings.Join(params, ", "), schemaOf(op["requestBody"]), answerOf(op), strings.Join(actions, ", "))
	})
	var b strings.Builder
	b.WriteString(`# REST API

Generated from the code: ` + "`make update`" + ` writes it. Paths begin with ` + "`" + client.Base + "`" + `; how to use them is in the
[guide](../guide/rest.md), the types are in the OpenAPI document, ` + "`" + client.Base + "/openapi.json`" + `, and failures in [problems](problems.md).
The last column has the [actions](actions.md) that policy is asked for, one of them or several as the request demands; where it is
empty, every principal may ask, and gets what is theirs.
`)
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		fmt.Fprintf(&b, "\n## %s%s\n\n| Operation | | Query and headers | Body | Answer | Policy |\n|---|---|---|---|---|---|\n%s", strings.ToUpper(tag[:1]), tag[1:], byTag[tag])
	}
	goldentest.Check(t, filepath.Join(reference, "api.md"), b.String())
}

// schemaOf names the types that a body may have.
func schemaOf(body any) string {
	var names []string
	m, _ := body.(map[string]any)
	content, _ := m["content"].(map[string]any)
	for _, ct := range slices.Sorted(maps.Keys(content)) {
		name := ct
		media, _ := content[ct].(map[string]any)
		schema, _ := media["schema"].(map[string]any)
		if ref, ok := schema["$ref"].(string); ok {
			name = ref[strings.LastIndexByte(ref, '/')+1:]
		}
		names = append(names, "`"+name+"`")
	}
	return strings.Join(names, ", ")
}

func answerOf(op map[string]any) string {
	responses := op["responses"].(map[string]any)
	for _, code := range slices.Sorted(maps.Keys(responses)) {
		if code[0] == '2' {
			return strings.TrimSpace(code + " " + schemaOf(responses[code]))
		}
	}
	return ""
}

// actionsAsked reads in the code of the API's operations which actions they name, themselves or in what they call.
func actionsAsked(t *testing.T) map[string][]string {
	t.Helper()
	names := map[string]string{} // of constants
	for _, a := range policy.Actions() {
		kind, verb, _ := strings.Cut(string(a), ".")
		names[strings.ToLower(kind+strings.ReplaceAll(verb, ".", ""))] = string(a)
	}
	files, err := filepath.Glob("rest_*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "snapshot.go", "access.go")
	bodies, handlers := map[string]ast.Node{}, map[string]ast.Node{} // by a function's name, and by an operation's
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				if name == "access.go" && f.Name.Name != "sponsor" { // the others are given the action
					continue
				}
				bodies[f.Name.Name] = f.Body
				findHandlers(f.Body, handlers)
			}
		}
	}
	bodies["sponsored"] = bodies["sponsor"] // what else it asks for only chooses the words of a refusal
	out := map[string][]string{}
	for op, handler := range handlers {
		found, seen := map[string]bool{}, map[string]bool{}
		var visit func(n ast.Node) bool
		visit = func(n ast.Node) bool {
			if x, ok := n.(*ast.SelectorExpr); ok {
				if from, ok := x.X.(*ast.Ident); ok && from.Name == "policy" {
					if action := names[strings.ToLower(x.Sel.Name)]; action != "" {
						found["`"+action+"`"] = true
					}
				} else if body := bodies[x.Sel.Name]; body != nil && !seen[x.Sel.Name] {
					seen[x.Sel.Name] = true
					ast.Inspect(body, visit)
				}
			}
			return true
		}
		ast.Inspect(handler, visit)
		out[op] = slices.Sorted(maps.Keys(found))
	}
	return out
}

// operationID is what an operation's identifier looks like in the code, and neither its path nor its summary does.
var operationID = regexp.MustCompile(`^"[a-z0-9]+(-[a-z0-9]+)*"$`)

// findHandlers finds handle(a, op(…, "operation-id", …), handler), where what op gives may have a name first. Something else than op may
// make it, if it is given the identifier as a literal.
func findHandlers(body ast.Node, handlers map[string]ast.Node) {
	last := map[string]string{} // the operation that a variable holds
	idOf := func(e ast.Expr) string {
		call, ok := e.(*ast.CallExpr)
		if !ok {
			return ""
		}
		for _, arg := range call.Args {
			if lit, ok := arg.(*ast.BasicLit); ok && operationID.MatchString(lit.Value) {
				return strings.Trim(lit.Value, `"`)
			}
		}
		return ""
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if v, ok := n.Lhs[0].(*ast.Ident); ok && idOf(n.Rhs[0]) != "" {
				last[v.Name] = idOf(n.Rhs[0])
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "handle" && len(n.Args) == 3 {
				id := idOf(n.Args[1])
				if v, ok := n.Args[1].(*ast.Ident); ok {
					id = last[v.Name]
				}
				handlers[id] = n.Args[2]
			}
		}
		return true
	})
}

// TestReferenceOfProblems: docs/reference/problems.md is the list of kinds of failure, with what errkind says of them.
func TestReferenceOfProblems(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "errkind", "errkind.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var about []string // in the constants' order
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Comment != nil {
			about = append(about, strings.TrimSpace(spec.Comment.Text()))
		}
		return true
	})
	var b strings.Builder
	b.WriteString(`# Problems

Generated from the code: ` + "`make update`" + ` writes it. A failure over REST is a problem document (RFC 9457):
` + "`type`, `title`, `status`, `detail`" + `, and ` + "`errors`" + ` where a body does not fit. Its type is one of these.

| Type | Status | |
|---|---|---|
`)
	for k := errkind.Internal; k <= errkind.Unsupported; k++ {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", client.ProblemType(k), strconv.Itoa(server.StatusOf(k)), about[k])
	}
	b.WriteString("\nWhat does not reach an operation has the type that is nearest: 400 and 415 are `" + client.ProblemType(errkind.Invalid) +
		"`, 405 is `" + client.ProblemType(errkind.Unsupported) + "`.\n")
	goldentest.Check(t, filepath.Join(reference, "problems.md"), b.String())
}
