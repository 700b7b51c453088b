package milestone

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Options say what milestone to make.
type Options struct {
	Branch  string
	Message string    // one line
	Author  Person    // zero: as the repository's settings say
	When    time.Time // zero: the time of the latest operation
	LogHead string    // hash of the log's last record, "sha256:HEX"

	AllowViolations bool   // in spite of conflicts and violations, which the message then tells
	AllowEmpty      bool   // also if nothing has changed
	Overwrite       bool   // what was edited in Git becomes as the document says, which the message then tells
	Imported        string // the commit whose edits the document has taken over: see Import
}

// Since returns the operations of a log that are not in a version, in any order. It may return more: what is in it is left out.
type Since func(version *crdt.Dots) iter.Seq2[*config.Op, error]

// ErrNothing says that nothing has changed since the last milestone.
var ErrNothing = fmt.Errorf("nothing has changed since the last milestone: %w", errkind.Conflict)

// Made is a new milestone, and what it did to the branch.
type Made struct {
	*Milestone
	Before                   string   // where the branch was; "": it was not there
	Added, Modified, Removed []string // files
}

// creation is a milestone being made.
type creation struct {
	r        Repo
	p        *Projection
	o        Options
	tip      string
	last     *Milestone        // nil of the first one
	manifest *Manifest         // of the last one
	was, now map[string]string // files at the last milestone, and at the tip
	changes  []Change
	kept     []string // files of environments that this milestone leaves as they are
	message  *Message
	ops      Ops
}

// Create makes a milestone of a projection.
//
//  1. The last milestone is found on the branch. What it says it has must be in the projection: otherwise another document, or a copy that
//     is further, writes to this branch.
//  2. Files of the projection that are not as the last milestone left them were edited in Git. They are in the way, unless what they say
//     is what is about to be written, or the options say what to do.
//  3. The operations that the last milestone did not have are told.
//  4. Files that differ are written, and those of the last milestone that are no more are deleted.
//  5. The branch moves, if it is still where it was in step 1. Otherwise errkind.Conflict: nothing has happened, and it can be tried again.
func Create(ctx context.Context, r Repo, p *Projection, log Since, o Options) (*Made, error) {
	if err := CheckSubject(o.Message); err != nil {
		return nil, err
	}
	if o.Author != (Person{}) && !o.Author.printable() {
		return nil, fmt.Errorf("milestone: author %q <%q>: a commit cannot have such a name or address: %w", clip(o.Author.Name), clip(o.Author.Email), errkind.Invalid)
	}
	if !o.AllowViolations {
		if err := blocked(p.Findings); err != nil {
			return nil, err
		}
	}
	if o.When.IsZero() {
		o.When = p.Latest.Time()
	}
	o.When = o.When.UTC().Truncate(time.Second) // as commits have it
	c := &creation{r: r, p: p, o: o}
	m, err := c.run(ctx, log)
	if err != nil {
		return nil, fmt.Errorf("milestone on %s: %w", o.Branch, err)
	}
	return m, nil
}

func (c *creation) run(ctx context.Context, log Since) (*Made, error) {
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	edits, err := c.edits(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.mayReplace(edits); err != nil {
		return nil, err
	}
	if err := c.gather(ctx, log); err != nil {
		return nil, err
	}
	c.note(edits)
	if err := c.compare(ctx); err != nil {
		return nil, err
	}
	if c.ops.Count == 0 && len(c.changes) == 0 && !c.o.AllowEmpty {
		return nil, ErrNothing
	}
	if err := c.addManifest(); err != nil {
		return nil, err
	}
	text := c.message.String()
	if len(text) > maxMessage {
		return nil, fmt.Errorf("its message has %d bytes, and %d are allowed: %w", len(text), maxMessage, errkind.TooLarge)
	}
	id, err := c.r.Commit(ctx, &CommitRequest{
		Branch: c.o.Branch, Parent: c.tip, Changes: c.changes, Message: text, Author: c.o.Author, When: c.o.When,
	})
	if err != nil {
		return nil, err
	}
	return c.made(&Milestone{Commit{ID: id, Author: c.o.Author, When: c.o.When, Message: text}, c.message}), nil
}

func (c *creation) made(m *Milestone) *Made {
	made := &Made{Milestone: m, Before: c.tip}
	for _, ch := range c.changes {
		switch {
		case ch.Delete:
			made.Removed = append(made.Removed, ch.Path)
		case c.now[ch.Path] == "":
			made.Added = append(made.Added, ch.Path)
		default:
			made.Modified = append(made.Modified, ch.Path)
		}
	}
	return made
}

// look finds out what is on the branch.
func (c *creation) look(ctx context.Context) (err error) {
	if c.tip, err = c.r.Tip(ctx, c.o.Branch); err != nil {
		return err
	}
	if c.last, err = Last(ctx, c.r, c.tip); err != nil {
		return err
	}
	c.manifest = &Manifest{}
	folders := slices.Clone(c.p.Environments)
	if c.last != nil {
		if !c.p.Version.Covers(&c.last.Version) {
			return fmt.Errorf("its last milestone, %.12s, has operations that this document has not: another document writes to the branch, or this copy is behind: %w", c.last.ID, errkind.Conflict)
		}
		if c.manifest, err = manifestOf(ctx, c.r, c.last.ID); err != nil {
			return err
		}
		folders = append(folders, c.manifest.Environments...)
	}
	c.now, c.was, err = filesOf(ctx, c.r, c.tip, c.last, folders)
	return err
}

// filesOf returns the files in some folders and that of the manifest, at a commit and at the last milestone.
func filesOf(ctx context.Context, r Repo, tip string, last *Milestone, folders []string) (now, was map[string]string, err error) {
	folders = append(folders, path.Dir(ManifestPath))
	slices.Sort(folders)
	folders = slices.Compact(folders)
	if tip != "" {
		if now, err = r.Files(ctx, tip, folders); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case last == nil:
	case last.ID == tip:
		was = now
	default:
		was, err = r.Files(ctx, last.ID, folders)
	}
	return now, was, err
}

// edits returns the files of the projection that are neither as the last milestone left them nor as this one has them.
func (c *creation) edits(ctx context.Context) ([]Edit, error) {
	next := map[string][]byte{}
	for _, f := range c.p.Files {
		next[f.Path] = f.Data
	}
	var list []Edit
	var there []string // of those, paths that would be written
	for _, e := range editsOf(c.manifest, c.was, c.now) {
		list = append(list, e)
		if _, ok := next[e.Path]; ok && e.Kind == Changed {
			there = append(there, e.Path)
		}
	}
	for _, f := range c.p.Files {
		if c.now[f.Path] != "" && !slices.Contains(c.manifest.Files, f.Path) {
			list, there = append(list, Edit{f.Path, Added}), append(there, f.Path)
		}
	}
	if c.last == nil && c.now[ManifestPath] != "" {
		list = append(list, Edit{ManifestPath, Added})
	}
	if len(there) == 0 {
		return list, nil
	}
	data, err := c.r.Read(ctx, c.tip, there)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(e Edit) bool {
		i := slices.Index(there, e.Path)
		return i >= 0 && bytes.Equal(data[i], next[e.Path])
	}), nil
}

// mayReplace refuses to take back what somebody edited, unless that was asked for.
func (c *creation) mayReplace(edits []Edit) error {
	for _, e := range edits {
		if env := path.Dir(e.Path); c.o.Overwrite && c.keeps(env) {
			return fmt.Errorf("%s, which is not to be written: make a milestone of %s as well: %w", e, env, errkind.Conflict)
		}
	}
	if len(edits) == 0 || c.o.Overwrite {
		return nil
	}
	if c.o.Imported != "" {
		if c.o.Imported == c.tip {
			return nil
		}
		return fmt.Errorf("it has moved from %.12s, whose edits were imported, to %.12s: import again: %w", c.o.Imported, c.tip, errkind.Conflict)
	}
	texts := make([]string, 0, maxFindingsShown+1)
	for _, e := range edits[:min(len(edits), maxFindingsShown)] {
		texts = append(texts, e.String())
	}
	if more := len(edits) - maxFindingsShown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("files were edited in Git: %s: import these edits, or overwrite them: %w", strings.Join(texts, ", "), errkind.Conflict)
}

// gather finds the milestone's operations: those of the projection that the last milestone did not have.
func (c *creation) gather(ctx context.Context, log Since) error {
	var had crdt.Dots
	if c.last != nil {
		had = c.last.Version.Clone()
	}
	has := had.Clone()
	for op, err := range log(&had) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read the operations since the last milestone: %w", err)
		}
		if c.p.Version.Has(op.ID) && has.Add(op.ID) {
			c.ops.Add(op)
		}
	}
	if !has.Covers(&c.p.Version) {
		return fmt.Errorf("the log lacks operations that the document has: it has %.200s, and the document %.200s", has.String(), c.p.Version.String())
	}
	return nil
}

// note begins the message.
func (c *creation) note(edits []Edit) {
	m := &Message{Subject: c.o.Message, LogHead: c.o.LogHead, Schema: c.p.Schema, Version: c.p.Version.Clone()}
	c.ops.final = c.p.value
	c.ops.Tell(m)
	m.Allowed = len(c.p.Findings) > 0
	for _, f := range c.p.Findings {
		if f.Conflict {
			m.Conflicts = append(m.Conflicts, f.Where)
		} else {
			m.Violations = append(m.Violations, f.String())
		}
	}
	switch {
	case len(edits) > 0 && c.o.Imported != "":
		m.Imported = c.o.Imported
	case len(edits) > 0:
		for _, e := range edits {
			m.Overwrote = append(m.Overwrote, word(e.Path))
		}
	}
	c.message = m
}

// compare works out what to write and to delete, and which environments that concerns.
func (c *creation) compare(ctx context.Context) error {
	var both []string
	for _, f := range c.p.Files {
		if c.now[f.Path] != "" {
			both = append(both, f.Path)
		}
	}
	var data [][]byte
	if len(both) > 0 {
		var err error
		if data, err = c.r.Read(ctx, c.tip, both); err != nil {
			return err
		}
	}
	affected := map[string]bool{}
	write := func(ch Change) {
		c.changes = append(c.changes, ch)
		affected[path.Dir(ch.Path)] = true
	}
	for _, f := range c.p.Files {
		if i := slices.Index(both, f.Path); i < 0 || !bytes.Equal(data[i], f.Data) {
			write(Change{Path: f.Path, Data: f.Data})
		}
	}
	for _, old := range c.manifest.Files {
		if c.now[old] != "" && !slices.ContainsFunc(c.p.Files, func(f File) bool { return f.Path == old }) {
			if c.keeps(path.Dir(old)) {
				c.kept = append(c.kept, old)
				continue
			}
			write(Change{Path: old, Delete: true})
		}
	}
	for _, env := range c.p.Environments {
		if affected[env] {
			c.message.Environments = append(c.message.Environments, env)
			delete(affected, env)
		}
	}
	gone := make([]string, 0, len(affected)) // environments that are no more
	for env := range affected {
		gone = append(gone, env)
	}
	slices.Sort(gone)
	c.message.Environments = append(c.message.Environments, gone...)
	return nil
}

// keeps reports whether an environment that there is, and of which this milestone is not, keeps its files.
func (c *creation) keeps(env string) bool {
	return slices.Contains(c.p.schema, env) && !slices.Contains(c.p.Environments, env)
}

func (c *creation) addManifest() error {
	m := &Manifest{
		FormatVersion: formatVersion, OperationCount: c.ops.Count, Environments: c.p.Environments, CreatedAt: c.o.When.UTC(),
		Format: c.p.Format, Schema: c.p.Schema, Version: c.p.Version, LogHead: c.o.LogHead, Files: []string{},
	}
	if c.ops.Count > 0 {
		m.Range = &Range{c.ops.Start.Time, c.ops.End.Time}
	}
	for _, f := range c.p.Files {
		m.Files = append(m.Files, f.Path)
	}
	for _, f := range c.kept {
		env := path.Dir(f)
		if _, noted := m.Kept[env]; !noted {
			m.Environments = append(slices.Clone(m.Environments), env)
			if m.Kept == nil {
				m.Kept = map[string]crdt.Dots{}
			}
			m.Kept[env] = c.manifest.version(env)
		}
		m.Files = append(m.Files, f)
	}
	slices.SortFunc(m.Environments, func(a, b string) int { return slices.Index(c.p.schema, a) - slices.Index(c.p.schema, b) })
	slices.Sort(m.Files)
	data, err := m.encode()
	c.changes = append(c.changes, Change{Path: ManifestPath, Data: data})
	return err
}
