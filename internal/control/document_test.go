package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// remover is what a node does of Purge.
type remover struct {
	cell func(control.Repo) error
	log  func(control.Document) error
}

// RemoveCell calls cell.
func (r remover) RemoveCell(_ context.Context, repo control.Repo) error { return r.cell(repo) }

// RemoveLog calls log.
func (r remover) RemoveLog(_ context.Context, d control.Document) error { return r.log(d) }

func noLog(control.Document) error { return nil }

func document(t *testing.T, c *control.Control, tn id.Tenant, name string) control.Document {
	t.Helper()
	d, err := c.CreateDocument(t.Context(), control.Document{Tenant: tn, Name: name}, noLog)
	return must(t, d, err)
}

func TestDocuments(t *testing.T) { onEach(t, testDocuments) }

func testDocuments(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, web := tenant(t, c, "Acme"), tenant(t, c, "Acme/Web")
	var made control.Document
	shop, err := c.CreateDocument(ctx, control.Document{Tenant: acme.ID, Name: "Shop"}, func(d control.Document) error {
		made = d
		return nil
	})
	must0(t, err)
	if _, err := id.ParseDocument(string(shop.ID)); err != nil || made.ID != shop.ID || shop.FullName() != "Acme/Shop" || shop.Active {
		t.Errorf("created %+v, with a log for %+v (%v)", shop, made, err)
	}
	repo(t, c, acme.ID, "shop-config") // names of repositories are others
	repo(t, c, acme.ID, "shop")

	crash := errors.New("no log")
	_, err = c.CreateDocument(ctx, control.Document{Tenant: acme.ID, Name: "lost"}, func(control.Document) error { return crash })
	if !errors.Is(err, crash) {
		t.Errorf("without a log: %v", err)
	}
	_, err = c.DocumentByName(ctx, acme.ID, "lost")
	wantKind(t, "one without a log", err, errkind.NotFound)
	for name, want := range map[string]errkind.Kind{"SHOP": errkind.Exists, "": errkind.Invalid, "a/b": errkind.Invalid, "..": errkind.Invalid, "a\x00": errkind.Invalid} {
		_, err := c.CreateDocument(ctx, control.Document{Tenant: acme.ID, Name: name}, noLog)
		wantKind(t, fmt.Sprintf("a document %q", name), err, want)
	}
	_, err = c.CreateDocument(ctx, control.Document{Tenant: "ten_gone", Name: "x"}, noLog)
	wantKind(t, "in no tenant", err, errkind.NotFound)
	document(t, c, web.ID, "shop")

	found, err := c.DocumentByName(ctx, acme.ID, "sHOP")
	if diff := cmp.Diff(shop, found); err != nil || diff != "" {
		t.Errorf("by name: %v (-want +got)\n%s", err, diff)
	}
	found, err = c.Document(ctx, shop.ID)
	if diff := cmp.Diff(shop, found); err != nil || diff != "" {
		t.Errorf("by ID: %v (-want +got)\n%s", err, diff)
	}

	to := control.Milestones{
		Repo: "repo_x", By: "usr_x", Branch: "main", Format: "yaml", Every: "1h", After: 100, Quiet: "1m", Environments: []string{"production"}, Message: "by itself",
	}
	updated, err := c.UpdateDocument(ctx, shop.ID, func(d *control.Document) error {
		d.Name, d.Milestones, d.Active = "store", to, to.Automatic()
		return nil
	})
	must0(t, err)
	found, err = c.DocumentByName(ctx, acme.ID, "store")
	if diff := cmp.Diff(updated, found); err != nil || diff != "" || !found.Active || !cmp.Equal(found.Milestones, to) {
		t.Errorf("updated: %v (-want +got)\n%s", err, diff)
	}
	_, err = c.UpdateDocument(ctx, shop.ID, func(d *control.Document) error { d.Name = "a b"; return nil })
	wantKind(t, "a name that is none", err, errkind.Invalid)
	document(t, c, acme.ID, "other")
	_, err = c.UpdateDocument(ctx, shop.ID, func(d *control.Document) error { d.Name = "Other"; return nil })
	wantKind(t, "a name that is taken", err, errkind.Exists)

	list := func(f control.DocumentFilter) (names []string) {
		t.Helper()
		after := id.Document("")
		for {
			page, err := c.Documents(ctx, f, after, 2)
			for _, d := range must(t, page, err) {
				names, after = append(names, d.FullName()), d.ID
			}
			if len(page) < 2 {
				return names
			}
		}
	}
	for _, tt := range []struct {
		f    control.DocumentFilter
		want string
	}{
		{control.DocumentFilter{}, "Acme/store Acme/Web/shop Acme/other"},
		{control.DocumentFilter{Tenant: acme.ID}, "Acme/store Acme/other"},
		{control.DocumentFilter{Active: true}, "Acme/store"},
	} {
		if got := strings.Join(list(tt.f), " "); got != tt.want {
			t.Errorf("list %+v: %s, want %s", tt.f, got, tt.want)
		}
	}

	wantKind(t, "delete a tenant with a document", c.DeleteTenant(ctx, web.ID, false), errkind.Conflict)
	must0(t, c.DeleteTenant(ctx, web.ID, true))
	if got := strings.Join(list(control.DocumentFilter{}), " "); got != "Acme/store Acme/other" {
		t.Errorf("with a deleted tenant: %s", got)
	}
	if got := len(list(control.DocumentFilter{Ever: true})); got != 3 {
		t.Errorf("with those of deleted tenants there are %d", got)
	}
	must0(t, second(c.RestoreTenant(ctx, web.ID, acme.ID, "back")))
	if got := strings.Join(list(control.DocumentFilter{}), " "); got != "Acme/store Acme/back/shop Acme/other" {
		t.Errorf("with the restored tenant: %s", got)
	}

	must0(t, c.DeleteDocument(ctx, shop.ID))
	wantKind(t, "delete it again", c.DeleteDocument(ctx, shop.ID), errkind.NotFound)
	_, err = c.Document(ctx, shop.ID)
	wantKind(t, "a deleted one", err, errkind.NotFound)
}

// TestDocumentsKey: a tenant has one, which its administrators neither see nor can delete, and which goes on with another master key.
func TestDocumentsKey(t *testing.T) { onEach(t, testDocumentsKey) }

func testDocumentsKey(t *testing.T, db backend) {
	where := db.fresh(t)
	c := withKeys(t, where, 1)
	ctx := t.Context()
	acme, other := tenant(t, c, "acme"), tenant(t, c, "other")
	keys := make([][]byte, 8)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			key, err := c.DocumentsKey(ctx, acme.ID)
			if keys[i] = key; err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, key := range keys {
		if len(key) != 32 || !bytes.Equal(key, keys[0]) {
			t.Errorf("keys %x and %x", keys[0], key)
		}
	}
	another, err := c.DocumentsKey(ctx, other.ID)
	if must0(t, err); bytes.Equal(another, keys[0]) {
		t.Error("two tenants have one key")
	}
	of := control.SecretOwner{Tenant: acme.ID}
	list, err := c.Secrets(ctx, of)
	if must0(t, err); len(list) != 0 {
		t.Errorf("listed: %+v", list)
	}
	_, err = c.SetSecret(ctx, of, "documents", []byte("mine"), "usr_x")
	wantKind(t, "set it", err, errkind.Invalid)
	wantKind(t, "delete it", c.DeleteSecret(ctx, of, "documents"), errkind.NotFound)

	c = withKeys(t, where, 2, 1)
	must0(t, second(c.ReplaceKeys(ctx)))
	c = withKeys(t, where, 2)
	again, err := c.DocumentsKey(ctx, acme.ID)
	if must0(t, err); !bytes.Equal(again, keys[0]) {
		t.Error("with another master key it is another one")
	}
}
