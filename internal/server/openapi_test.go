package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/tidy/goldentest"
)

// openAPI is the document as the server gives it out.
func openAPI(t *testing.T) map[string]any {
	t.Helper()
	s := server.New(nil, nil, server.Options{Version: "1.2.3"})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v2/openapi.json", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET openapi.json = %d: %s", w.Code, w.Body)
	}
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// eachOperation visits the operations in order.
func eachOperation(t *testing.T, doc map[string]any, visit func(path, method string, op map[string]any)) {
	t.Helper()
	paths, ok := doc["paths"].(map[string]any)
	if !ok {
		t.Fatal("the document has no paths")
	}
	for _, path := range slices.Sorted(keys(paths)) {
		item := paths[path].(map[string]any)
		for _, method := range slices.Sorted(keys(item)) {
			visit(path, method, item[method].(map[string]any))
		}
	}
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestOperationsAreKnown: a change of the API is a change of this list, and so seen in review.
func TestOperationsAreKnown(t *testing.T) {
	var b strings.Builder
	eachOperation(t, openAPI(t), func(path, method string, op map[string]any) {
		fmt.Fprintf(&b, "%-6s %-50s %s\n", strings.ToUpper(method), path, op["operationId"])
	})
	goldentest.Check(t, filepath.Join("testdata", "operations.txt"), b.String())
}

// TestOpenAPIDocumentHolds checks what generators of clients stumble over.
func TestOpenAPIDocumentHolds(t *testing.T) {
	doc := openAPI(t)
	if v, _ := doc["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("openapi = %q, want 3.1.x", v)
	}
	ids := map[string]bool{}
	param := regexp.MustCompile(`\{([^}]+)\}`)
	eachOperation(t, doc, func(path, method string, op map[string]any) {
		name := strings.ToUpper(method) + " " + path
		id, _ := op["operationId"].(string)
		if id == "" || ids[id] {
			t.Errorf("%s: operationId %q is empty or used twice", name, id)
		}
		ids[id] = true
		if s, _ := op["summary"].(string); s == "" {
			t.Errorf("%s has no summary", name)
		}
		responses, _ := op["responses"].(map[string]any)
		var success, failure bool
		for code, r := range responses {
			success = success || strings.HasPrefix(code, "2")
			failure = failure || strings.HasPrefix(code, "4")
			if d, _ := r.(map[string]any)["description"].(string); d == "" {
				t.Errorf("%s: response %s has no description", name, code)
			}
		}
		if !success || !failure {
			t.Errorf("%s describes success: %v, failure: %v", name, success, failure)
		}
		declared := map[string]bool{}
		params, _ := op["parameters"].([]any)
		for _, p := range params {
			p := p.(map[string]any)
			if p["in"] == "path" {
				declared[p["name"].(string)] = true
			}
		}
		for _, m := range param.FindAllStringSubmatch(path, -1) {
			if !declared[m[1]] {
				t.Errorf("%s: path parameter %s is not declared", name, m[1])
			}
			delete(declared, m[1])
		}
		if len(declared) > 0 {
			t.Errorf("%s declares %v, which are not in the path", name, declared)
		}
	})
	checkRefs(t, doc, doc)
}

// TestProblemsAreDescribed: the document knows the types that problems have.
func TestProblemsAreDescribed(t *testing.T) {
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Required   []string
				Properties map[string]struct {
					Enum    []string
					Default string
				}
			}
		}
	}
	b, err := json.Marshal(openAPI(t))
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	problem := doc.Components.Schemas["ErrorModel"]
	kind := problem.Properties["type"]
	if err != nil || !slices.Contains(problem.Required, "type") || kind.Default != "" ||
		!slices.Contains(kind.Enum, "urn:skep:problem:not-found") || !slices.Contains(kind.Enum, "urn:skep:problem:internal-error") {
		t.Errorf("problems are described as %+v, %v", problem, err)
	}
}

// checkRefs follows every $ref.
func checkRefs(t *testing.T, doc map[string]any, node any) {
	t.Helper()
	switch n := node.(type) {
	case map[string]any:
		if ref, ok := n["$ref"].(string); ok {
			var at any = doc
			for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
				m, _ := at.(map[string]any)
				at = m[part]
			}
			if at == nil {
				t.Errorf("$ref %s leads nowhere", ref)
			}
		}
		for _, v := range n {
			checkRefs(t, doc, v)
		}
	case []any:
		for _, v := range n {
			checkRefs(t, doc, v)
		}
	}
}
