package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// Document is a document of configuration as the control plane knows it: what is in it, its log knows.
type Document struct {
	ID         id.Document
	Tenant     id.Tenant
	TenantPath string
	Name       string
	Milestones Milestones
	Active     bool // it does something without being asked: milestones, or webhooks
	Created    time.Time
	Updated    time.Time // of this record
}

// FullName is TENANT/NAME.
func (d Document) FullName() string { return d.TenantPath + "/" + d.Name }

// Milestones says where a document's milestones go, and when they are made without being asked for. The zero Milestones is nowhere.
type Milestones struct {
	Repo id.Repo      `json:"-"`
	By   id.Principal `json:"-"` // who said so, and as whom automatic ones are made

	// The rest is for package config/publish to understand.
	Branch       string   `json:"branch"`
	Format       string   `json:"format"`
	Every        string   `json:"every,omitempty"` // "": not by time
	After        int      `json:"after,omitempty"` // operations; 0: not by number
	Quiet        string   `json:"quiet,omitempty"` // how long nobody must have written
	Environments []string `json:"environments,omitempty"`
	Message      string   `json:"message,omitempty"`
}

// Automatic reports whether some are made without being asked for.
func (m *Milestones) Automatic() bool { return m.Repo != "" && (m.Every != "" || m.After > 0) }

// maxDocuments is how many a tenant may have.
const maxDocuments = 10_000

// CreateDocument records a document whose log makeLog creates. As with repositories, the log comes first: a crash between the two leaves
// garbage, and never a document without a log.
func (c *Control) CreateDocument(ctx context.Context, d Document, makeLog func(Document) error) (Document, error) {
	out, err := c.createDocument(ctx, d, makeLog)
	if err != nil {
		return Document{}, fmt.Errorf("create document: %w", err)
	}
	return out, nil
}

func (c *Control) createDocument(ctx context.Context, d Document, makeLog func(Document) error) (Document, error) {
	if err := checkName("document name", d.Name); err != nil {
		return Document{}, err
	}
	d.ID, d.Created = id.NewDocument(), c.timestamp()
	d.Updated, d.Active = d.Created, d.Milestones.Automatic()
	check := func(q conn) error {
		tenant, err := tenantByID(q, d.Tenant)
		if err != nil {
			return err
		}
		d.TenantPath = tenant.Path
		if err := mustBeFreeDocument(q, d); err != nil {
			return err
		}
		return mustHold(q, "documents in the tenant", maxDocuments-1, "SELECT 1 FROM document WHERE tenant_id = ? LIMIT 1 OFFSET ?", d.Tenant)
	}
	if err := c.db.Read(ctx, check); err != nil {
		return Document{}, err
	}
	if err := makeLog(d); err != nil {
		return Document{}, err
	}
	err := c.change(ctx, func(q *txn) error {
		if err := check(q); err != nil { // again: the tenant may be gone, or somebody else was faster
			return err
		}
		if err := q.recordDocument("document.create", d, string(d.ID)+d.Milestones.detail()); err != nil {
			return err
		}
		settings, err := d.Milestones.encode()
		if err != nil {
			return err
		}
		return q.Exec(`INSERT INTO document (tenant_id, document_id, name, repo_id, by_id, milestones, active, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			d.Tenant, d.ID, d.Name, d.Milestones.Repo, d.Milestones.By, settings, d.Active, d.Created, d.Updated)
	}, nil)
	return d, err
}

func mustBeFreeDocument(q conn, d Document) error {
	taken, err := exists(q, "SELECT 1 FROM document WHERE tenant_id = ? AND name_key = ? AND document_id <> ?", d.Tenant, fold(d.Name), d.ID)
	if err == nil && taken {
		err = fmt.Errorf("tenant %s has a document %s: %w", d.TenantPath, d.Name, errkind.Exists)
	}
	return err
}

func (q *txn) recordDocument(action string, d Document, detail string) error {
	return q.record(audit.Entry{Action: action, Tenant: string(d.Tenant), Resource: "document/" + d.FullName(), Detail: detail})
}

// detail tells the audit log where milestones go.
func (m *Milestones) detail() string {
	if m.Repo == "" {
		return ""
	}
	return fmt.Sprintf(", milestones in %s, branch %s", m.Repo, m.Branch)
}

func (m *Milestones) encode() (string, error) {
	if m.Repo == "" {
		return "", nil
	}
	text, err := json.Marshal(m)
	return string(text), err
}

const (
	documentFields = `SELECT document_id, tenant_id, tenant.path, name, repo_id, by_id, milestones, active, document.created, updated FROM document `
	// documentColumns selects documents of tenants that are not deleted.
	documentColumns = documentFields + "JOIN (SELECT tenant_id, path FROM tenant WHERE deleted = 0) AS tenant USING (tenant_id) "
	// documentColumnsEver selects those of deleted ones too.
	documentColumnsEver = documentFields + "JOIN tenant USING (tenant_id) "
)

func scanDocument(r row) (Document, error) {
	d := Document{
		ID: id.Document(r.Text(0)), Tenant: id.Tenant(r.Text(1)), TenantPath: r.Text(2), Name: r.Text(3), Active: r.Bool(7), Created: r.Time(8), Updated: r.Time(9),
	}
	if text := r.Text(6); text != "" {
		if err := json.Unmarshal([]byte(text), &d.Milestones); err != nil {
			return d, fmt.Errorf("document %s: its milestones: %w", d.ID, err)
		}
	}
	d.Milestones.Repo, d.Milestones.By = id.Repo(r.Text(4)), id.Principal(r.Text(5))
	return d, nil
}

func documentBy(q conn, what, where string, args ...any) (out Document, err error) {
	var broken error
	err = find(q, "document "+clip(what), documentColumns+where, func(r row) { out, broken = scanDocument(r) }, args...)
	if err == nil {
		err = broken
	}
	return out, err
}

// Document finds a document by its identifier.
func (c *Control) Document(ctx context.Context, d id.Document) (out Document, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = documentBy(q, string(d), "WHERE document_id = ?", d)
		return err
	})
	return out, err
}

// DocumentByName finds a document of a tenant by its name, without regard to case.
func (c *Control) DocumentByName(ctx context.Context, t id.Tenant, name string) (out Document, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = documentBy(q, name, "WHERE tenant_id = ? AND name_key = ?", t, fold(name))
		return err
	})
	return out, err
}

// DocumentFilter narrows Documents.
type DocumentFilter struct {
	Tenant id.Tenant // empty: of all tenants
	Active bool      // only those that do something without being asked
	Ever   bool      // of deleted tenants too
}

// Documents lists documents by ID, after a cursor (an ID, "" at first).
func (c *Control) Documents(ctx context.Context, f DocumentFilter, after id.Document, most int) (out []Document, err error) {
	query := documentColumns + "WHERE document_id > ?1 ORDER BY document_id LIMIT ?2"
	args := []any{after, page(most)}
	switch {
	case f.Tenant != "":
		query, args = documentColumns+"WHERE tenant_id = ?3 AND document_id > ?1 ORDER BY document_id LIMIT ?2", append(args, f.Tenant)
	case f.Active:
		query = documentColumns + "WHERE active = 1 AND document_id > ?1 ORDER BY document_id LIMIT ?2"
	case f.Ever:
		query = documentColumnsEver + "WHERE document_id > ?1 ORDER BY document_id LIMIT ?2"
	}
	out, err = c.documentBatch(ctx, query, args)
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	return out, nil
}

func (c *Control) documentBatch(ctx context.Context, query string, args []any) (out []Document, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(query, args...) {
			if err != nil {
				return err
			}
			d, err := scanDocument(r)
			if err != nil {
				return err
			}
			out = append(out, d)
		}
		return nil
	})
	return out, err
}

// UpdateDocument gives a document another name, or other milestones. change gets it as it is.
func (c *Control) UpdateDocument(ctx context.Context, d id.Document, change func(*Document) error) (out Document, err error) {
	err = c.change(ctx, func(q *txn) error {
		if out, err = documentBy(q, string(d), "WHERE document_id = ?", d); err != nil {
			return err
		}
		was := out
		if err := change(&out); err != nil {
			return err
		}
		if err := checkName("document name", out.Name); err != nil {
			return err
		}
		if err := mustBeFreeDocument(q, out); err != nil {
			return err
		}
		detail := "to " + out.Name + out.Milestones.detail()
		if err := q.recordDocument("document.update", was, detail); err != nil {
			return err
		}
		settings, err := out.Milestones.encode()
		if err != nil {
			return err
		}
		out.Updated = c.timestamp()
		return q.Exec("UPDATE document SET name = ?, repo_id = ?, by_id = ?, milestones = ?, active = ?, updated = ? WHERE tenant_id = ? AND document_id = ?",
			out.Name, out.Milestones.Repo, out.Milestones.By, settings, out.Active, out.Updated, out.Tenant, out.ID)
	}, nil)
	if err != nil {
		return Document{}, fmt.Errorf("update document: %w", err)
	}
	return out, nil
}

// ActivateDocument notes that a document does something without being asked. It stays so: to look now and then costs little.
func (c *Control) ActivateDocument(ctx context.Context, d id.Document) error {
	var found Document
	err := c.db.Read(ctx, func(q conn) (err error) {
		found, err = documentBy(q, string(d), "WHERE document_id = ?", d)
		return err
	})
	if err == nil && !found.Active {
		// No entry of the audit log: whoever is told something has been put there by an operation of their own.
		err = c.db.Write(ctx, func(q conn) error {
			return q.Exec("UPDATE document SET active = 1 WHERE tenant_id = ? AND document_id = ?", found.Tenant, d)
		})
	}
	if err != nil {
		return fmt.Errorf("activate document: %w", err)
	}
	return nil
}

// DeleteDocument forgets a document. Its log is then garbage.
func (c *Control) DeleteDocument(ctx context.Context, d id.Document) error {
	err := c.change(ctx, func(q *txn) error {
		found, err := documentBy(q, string(d), "WHERE document_id = ?", d)
		if err != nil {
			return err
		}
		return q.endDocument("document.delete", found)
	}, nil)
	if err != nil {
		return fmt.Errorf("delete document: %w", err)
	}
	return nil
}

func (q *txn) endDocument(action string, d Document) error {
	if err := q.recordDocument(action, d, string(d.ID)); err != nil {
		return err
	}
	return q.Exec("DELETE FROM document WHERE tenant_id = ? AND document_id = ?", d.Tenant, d.ID)
}

// purgeDocuments is purgeRepos for documents.
func (c *Control) purgeDocuments(ctx context.Context, remove Remover) (more bool, err error) {
	const query = documentColumnsEver + "WHERE tenant_id IN (SELECT tenant_id FROM tenant WHERE deleted > 0 AND deleted_with = ?) LIMIT ?"
	list, err := c.documentBatch(ctx, query, []any{doomed, maxPurge})
	if err != nil {
		return false, err
	}
	for _, d := range list {
		if err := remove.RemoveLog(ctx, d); err != nil {
			return false, fmt.Errorf("remove document %s: %w", d.ID, err)
		}
		if err := c.change(ctx, func(q *txn) error { return q.endDocument("document.purge", d) }, nil); err != nil {
			return false, err
		}
	}
	return len(list) > 0, nil
}
