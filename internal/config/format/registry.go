package format

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
)

// Registry has formats by ID and by the extension of files. It is safe for concurrent use.
type Registry struct {
	mu          sync.RWMutex
	byID        map[string]Format // guarded by mu
	byExtension map[string]Format // guarded by mu
}

// NewRegistry returns a registry with the formats that need nothing from outside: yaml, json, toml, kdl, xml and hcl.
func NewRegistry() *Registry {
	r := &Registry{byID: map[string]Format{}, byExtension: map[string]Format{}}
	for _, f := range []Format{newYAML(), newJSON(), newTOML(), newKDL(), newXML(), newHCL()} {
		if err := r.Register(f); err != nil {
			panic("bug: " + err.Error())
		}
	}
	return r
}

// Register adds a format. It refuses one whose ID or extension another has, with errkind.Exists: what a file means must not
// depend on the order of registration.
func (r *Registry) Register(f Format) error {
	if _, writes := f.(Serializer); !writes {
		if _, reads := f.(Parser); !reads {
			return fmt.Errorf("register format %q: it can neither write nor read: %w", f.ID(), errkind.Invalid)
		}
	}
	if !plainName(f.ID()) {
		return fmt.Errorf("register format %q: an ID has 1 to 32 of the characters a-z, 0-9, - and _: %w", f.ID(), errkind.Invalid)
	}
	extensions := append([]string{f.Extension()}, f.AlternateExtensions()...)
	for i, e := range extensions {
		if !plainName(e) || slices.Contains(extensions[:i], e) {
			return fmt.Errorf("register format %q: extension %q: write it once, in small letters, without the point: %w", f.ID(), e, errkind.Invalid)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.byID[f.ID()]; taken {
		return fmt.Errorf("register format %q: there is one with this ID: %w", f.ID(), errkind.Exists)
	}
	for _, e := range extensions {
		if other, taken := r.byExtension[e]; taken {
			return fmt.Errorf("register format %q: files .%s are %s's: %w", f.ID(), e, other.ID(), errkind.Exists)
		}
	}
	r.byID[f.ID()] = f
	for _, e := range extensions {
		r.byExtension[e] = f
	}
	return nil
}

// plainName says whether s may be an ID or an extension.
func plainName(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// Formats returns all formats, sorted by ID.
func (r *Registry) Formats() []Format {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]Format, 0, len(r.byID))
	for _, f := range r.byID {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Format) int { return strings.Compare(a.ID(), b.ID()) })
	return all
}

// Format finds a format by its ID.
func (r *Registry) Format(id string) (Format, error) {
	r.mu.RLock()
	f, found := r.byID[id]
	r.mu.RUnlock()
	if !found {
		return nil, fmt.Errorf("there is no format %q; there are %s: %w", id, r.ids(func(Format) bool { return true }), errkind.NotFound)
	}
	return f, nil
}

// ForFile finds the format of a file by the extension of its name.
func (r *Registry) ForFile(name string) (Format, error) {
	extension := strings.TrimPrefix(path.Ext(strings.ToLower(name)), ".")
	r.mu.RLock()
	f, found := r.byExtension[extension]
	r.mu.RUnlock()
	if !found {
		return nil, fmt.Errorf("%s: its extension says no known format; name one of %s: %w", name, r.ids(func(Format) bool { return true }), errkind.NotFound)
	}
	return f, nil
}

// Serializer finds a format that can be written by its ID.
func (r *Registry) Serializer(id string) (Serializer, error) {
	f, err := r.Format(id)
	if err != nil {
		return nil, err
	}
	s, ok := f.(Serializer)
	if !ok {
		return nil, fmt.Errorf("%s cannot be written, only read; what can be written is %s: %w", f.DisplayName(),
			r.ids(func(f Format) bool { _, ok := f.(Serializer); return ok }), errkind.Unsupported)
	}
	return s, nil
}

// Parser finds a format that can be read by its ID.
func (r *Registry) Parser(id string) (Parser, error) {
	f, err := r.Format(id)
	if err != nil {
		return nil, err
	}
	p, ok := f.(Parser)
	if !ok {
		return nil, fmt.Errorf("%s cannot be read, only written; what can be read is %s: %w", f.DisplayName(),
			r.ids(func(f Format) bool { _, ok := f.(Parser); return ok }), errkind.Unsupported)
	}
	return p, nil
}

// ids lists the IDs of some formats, for a message.
func (r *Registry) ids(which func(Format) bool) string {
	var ids []string
	for _, f := range r.Formats() {
		if which(f) {
			ids = append(ids, f.ID())
		}
	}
	return strings.Join(ids, ", ")
}
