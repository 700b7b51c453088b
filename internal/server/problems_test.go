package server_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/server"
)

// TestOpenAPIDocumentIsValid has the document judged by the specification's own schema, and by kin-openapi, which knows what that
// leaves out: schemas, examples, references. Documents with mistakes judge the two.
func TestOpenAPIDocumentIsValid(t *testing.T) {
	// From https://spec.openapis.org/oas/3.1/schema/2026-08-03 (Apache License 2.0).
	schema := result(jsonschema.NewCompiler().Compile(filepath.Join("testdata", "openapi-3.1-schema.json")))(t)
	validate := func(doc map[string]any) error {
		if err := schema.Validate(doc); err != nil {
			return err
		}
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := openapi3.NewLoader().LoadFromData(b)
		if err != nil {
			return err
		}
		return parsed.Validate(t.Context(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation())
	}
	if err := validate(openAPI(t)); err != nil {
		t.Errorf("the document is not valid: %v", err)
	}
	operation := func(doc map[string]any, path, method string) map[string]any {
		return doc["paths"].(map[string]any)[path].(map[string]any)[method].(map[string]any)
	}
	for name, spoil := range map[string]func(map[string]any){
		"a response of no status": func(doc map[string]any) {
			operation(doc, "/api/v2/tenants", "get")["responses"].(map[string]any)["often"] = map[string]any{"description": "x"}
		},
		"a $ref to nowhere": func(doc map[string]any) {
			delete(doc["components"].(map[string]any)["schemas"].(map[string]any), "Tenant")
		},
		"no version": func(doc map[string]any) { delete(doc, "openapi") },
		"a parameter that is not in the path": func(doc map[string]any) {
			o := operation(doc, "/api/v2/tenants", "get")
			o["parameters"] = append(o["parameters"].([]any), map[string]any{"name": "x", "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
		},
		"a type that is none": func(doc map[string]any) {
			doc["components"].(map[string]any)["schemas"].(map[string]any)["Tenant"].(map[string]any)["type"] = "text"
		},
	} {
		doc := openAPI(t)
		if spoil(doc); validate(doc) == nil {
			t.Errorf("a document with %s passes", name)
		}
	}
}

var pathParam = regexp.MustCompile(`\{([^}]+)\}`)

// unknown fills in the parameters of a path with what is not there.
func unknown(path string) string {
	return pathParam.ReplaceAllStringFunc(path, func(name string) string {
		switch name {
		case "{sha}":
			return strings.Repeat("0", 39) + "1"
		case "{ref}":
			return "heads/unknown"
		}
		return "unknown%2Funknown"
	})
}

// TestEachOperationExplainsItsFailures makes bad calls of every operation that the document knows: without a credential, by a
// stranger, about what is not there, with bodies that fit nothing. Each failure is a problem that the document describes.
func TestEachOperationExplainsItsFailures(t *testing.T) {
	s := startSite(t, server.Options{})
	_, stranger := s.person("stranger")
	failures := 0
	doc := openAPI(t)
	eachOperation(t, doc, func(path, method string, op map[string]any) {
		method = strings.ToUpper(method)
		responses := op["responses"].(map[string]any)
		body, _ := op["requestBody"].(map[string]any)
		for _, call := range []struct {
			name, token, contentType, body string
			must                           []int // if not empty: what is answered
		}{
			{"nobody", "", "application/json", "{}", nil},
			{"with a token that is none", "skep_nonsense", "application/json", "{}", []int{401}},
			{"a stranger", stranger, "application/json", "{}", nil},
			{"what is not there", s.admin, "application/json", "{}", nil},
			{"no JSON", s.admin, "application/json", `{"`, nil},
			{"another type", s.admin, "text/csv", "a,b", nil},
			{"fields that are none", s.admin, "application/json", `{"no such field": "s3cret"}`, nil},
			{"no object", s.admin, "application/json", `"s3cret"`, nil},
		} {
			header := []string{"Content-Type", call.contentType}
			text := call.body
			if body == nil {
				header, text = nil, ""
			}
			resp, answer := s.do(method, unknown(path), call.token, strings.NewReader(text), header...)
			what := method + " " + path + ", " + call.name
			if resp.StatusCode < 400 {
				if strings.Contains(path, "{") || call.token == "" && method != http.MethodGet && !strings.HasSuffix(path, "/fetch") || call.must != nil {
					t.Errorf("%s = %d %s", what, resp.StatusCode, answer)
				}
				continue // it reads what everybody may
			}
			failures++
			if call.must != nil && !slices.Contains(call.must, resp.StatusCode) {
				t.Errorf("%s = %d, want %v", what, resp.StatusCode, call.must)
			}
			checkProblem(t, what, resp, answer, responses)
		}
	})
	if failures < 200 {
		t.Errorf("%d failures: the test shows little", failures)
	}
}

// checkProblem checks that a failure is a problem (RFC 9457) of a known type, says something, repeats no secret, and has a status that
// its operation describes.
func checkProblem(t *testing.T, what string, resp reply, text string, responses map[string]any) {
	t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("%s = %d, of type %q", what, resp.StatusCode, ct)
		return
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Errorf("%s: %v: %s", what, err, text)
		return
	}
	if p.Status != resp.StatusCode || resp.StatusCode >= 500 || p.Title == "" || len(strings.Fields(p.Detail)) < 2 ||
		!strings.HasPrefix(p.Type, "urn:skep:problem:") || p.Type == client.ProblemType(0) {
		t.Errorf("%s = %d %s", what, resp.StatusCode, text)
	}
	if strings.Contains(text, "s3cret") {
		t.Errorf("%s repeats what was sent: %s", what, text)
	}
	_, described := responses[strconv.Itoa(resp.StatusCode)]
	if !described {
		t.Errorf("%s = %d, which the document does not describe", what, resp.StatusCode)
	}
}
