package rest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/rest"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/errkind"
)

// open opens a new document.
func open(t *testing.T, name string) *engine.Document {
	t.Helper()
	ctx := t.Context()
	store := oplog.NewMemory()
	if err := store.Create(ctx, name); err != nil {
		t.Fatal(err)
	}
	log, err := store.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := engine.Open(ctx, name, log, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = doc.Submit(ctx, engine.Batch{Actor: config.Actor{ID: "skep", Class: config.System}, Requests: []config.Request{{
		Kind: config.ChangeSchema, Text: "name = \"" + name + "\"\n[environments]\nbase = \"production\"\n[entity.service]\nfields = [{ name = \"image\", type = \"string\" }]\n",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// One declaration serves many documents, by what the prefix names: each request is about the one that Find returns.
func TestPrefixWithParameters(t *testing.T) {
	t.Parallel()
	docs := map[string]*engine.Document{"acme/shop": open(t, "shop"), "acme/mail": open(t, "mail")}
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("test", "1"))
	param := func(name string) *huma.Param {
		return &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	rest.Register(api, rest.Mount{
		Prefix: "/api/v2/tenants/{tenant}/config/{document}", Params: []*huma.Param{param("tenant"), param("document")}, Operations: "tenant-config-",
		Find: func(ctx huma.Context) (*rest.Caller, error) {
			name := ctx.Param("tenant") + "/" + ctx.Param("document")
			doc := docs[name]
			if doc == nil {
				return nil, fmt.Errorf("document %s: %w", name, errkind.NotFound)
			}
			return &rest.Caller{
				Caller:     &service.Caller{Service: service.New(doc, service.Options{}), Actor: config.Actor{ID: "zara", Class: config.Human}},
				Milestones: publish.New(doc, publish.Options{}),
			}, nil
		},
		Failed: func(context.Context, error) {},
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	get := func(path string) (int, string) {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for _, name := range []string{"shop", "mail"} {
		if status, text := get("/api/v2/tenants/acme/config/" + name + "/status"); status != http.StatusOK || !strings.Contains(text, `"document":"`+name+`"`) {
			t.Errorf("status of %s: %d %s", name, status, text)
		}
	}
	if status, text := get("/api/v2/tenants/other/config/shop/status"); status != http.StatusNotFound {
		t.Errorf("another tenant's: %d %s", status, text)
	}
	for path, item := range api.OpenAPI().Paths {
		for _, o := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if o == nil {
				continue
			}
			named := map[string]int{}
			for _, p := range o.Parameters {
				if p.In == "path" {
					named[p.Name]++
				}
			}
			for _, part := range strings.Split(path, "{")[1:] {
				if name, _, _ := strings.Cut(part, "}"); named[name] != 1 {
					t.Errorf("%s declares %q %d times", path, name, named[name])
				}
			}
			if !strings.HasPrefix(o.OperationID, "tenant-config-") {
				t.Errorf("%s is called %s", path, o.OperationID)
			}
		}
	}
}
