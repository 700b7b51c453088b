package milestone

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Serializer writes values in a file format, several at the same time. Those of package format do.
type Serializer interface {
	ID() string
	Extension() string // without a point
	Marshal(ctx context.Context, v any) ([]byte, error)
}

// File is a file of a projection.
type File struct {
	Path string // from the repository's root, with slashes
	Data []byte
}

// Projection is all that a milestone takes from a state. It refers to none of the state afterwards.
type Projection struct {
	Environments []string
	Format       string    // the serializer's ID
	Files        []File    // sorted by path
	Version      crdt.Dots // the operations that are in it
	Latest       crdt.HLC  // the greatest time of them
	Schema       string    // the version of the schema
	Findings     []Finding // what stands in the way of a milestone

	content []content
	schema  []string // all environments that there are
	base    string   // of them
}

// value returns what a field has in the projection.
func (p *Projection) value(a address) (any, bool) {
	env := cmp.Or(a.Env, p.base)
	kind := config.Type(a.Entity)
	for i := range p.content {
		if c := &p.content[i]; c.env == env && c.kind == kind {
			e, _ := c.entities[a.Entity[len(kind)+1:]].(map[string]any)
			v, ok := e[a.Field]
			return v, ok
		}
	}
	return nil, false
}

// content is what a file is going to have: the entities of one type in one environment.
type content struct {
	env, kind string
	entities  map[string]any
}

// The keys of an entity that are no fields.
const (
	typeKey     = "_type"
	parentKey   = "_parent"
	positionKey = "_position"
)

// MaxFileSize is how large a file of a projection may be: what the formats read back.
const MaxFileSize = 16 << 20

// Project makes the files of a state: ENV/TYPEs.EXT, with all entities of the type by ID. A type without entities has no file.
// No environments are all of the schema. It is Take and Write.
func Project(ctx context.Context, s *config.State, envs []string, f Serializer) (*Projection, error) {
	p, err := Take(s, envs)
	if err == nil {
		err = p.Write(ctx, f)
	}
	return p, err
}

// Take takes from a state what a milestone of it needs. This is the short part, during which the state must not change.
func Take(s *config.State, envs []string) (*Projection, error) {
	envs, err := environments(s, envs)
	if err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	p := &Projection{Environments: envs, Version: s.Version(), Latest: s.Latest(), Schema: s.Schema().Version, Findings: Findings(s, envs), base: s.Schema().Base()}
	for _, e := range s.Schema().Environments {
		p.schema = append(p.schema, e.Name)
	}
	folded := map[string]string{}
	for i := range s.Schema().Entities {
		t := &s.Schema().Entities[i]
		for _, reserved := range []string{typeKey, parentKey, positionKey} {
			if t.Field(reserved) != nil {
				return nil, fmt.Errorf("project: the field %s of %s has the name of something else in a milestone: rename it: %w", reserved, t.Name, errkind.Invalid)
			}
		}
		names := s.Entities(t.Name)
		if len(names) == 0 {
			continue
		}
		if other, taken := folded[strings.ToLower(t.Name)]; taken {
			return nil, fmt.Errorf("project: the types %s and %s have the same file where capital letters do not count: rename one: %w", other, t.Name, errkind.Invalid)
		}
		folded[strings.ToLower(t.Name)] = t.Name
		for _, env := range envs {
			all, err := take(s, names, env)
			if err != nil {
				return nil, fmt.Errorf("project: %w", err)
			}
			p.content = append(p.content, content{env, t.Name, all})
		}
	}
	return p, nil
}

// take returns entities of one type in one environment as a file has them.
func take(s *config.State, names []string, env string) (map[string]any, error) {
	all := make(map[string]any, len(names))
	for _, name := range names {
		fields, err := s.Entity(name, env)
		if err != nil {
			return nil, err
		}
		e := config.Values(fields)
		e[typeKey] = config.Type(name)
		parent, position := s.Place(name)
		if parent != "" {
			e[parentKey] = parent
		}
		if position != "" {
			e[positionKey] = position
		}
		all[name[len(config.Type(name))+1:]] = e
	}
	return all, nil
}

// Write makes the files of what was taken, as many at a time as there are processors.
func (p *Projection) Write(ctx context.Context, f Serializer) error {
	p.Format, p.Files = f.ID(), make([]File, len(p.content))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, c := range p.content {
		g.Go(func() error {
			name := path.Join(c.env, fileOf(c.kind, f.Extension()))
			err := ctx.Err()
			var data []byte
			if err == nil {
				data, err = f.Marshal(ctx, c.entities)
			}
			if err == nil && len(data) > MaxFileSize {
				err = fmt.Errorf("it has %d bytes, and %d are allowed: split the type: %w", len(data), MaxFileSize, errkind.TooLarge)
			}
			if err != nil {
				return fmt.Errorf("project %s: %w", name, err)
			}
			p.Files[i] = File{Path: name, Data: data}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.SortFunc(p.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// fileOf returns the name of a type's file.
func fileOf(kind, extension string) string { return kind + "s." + extension }

// environments checks names of environments, and sorts them as the schema does. A name that is there twice counts once.
func environments(s *config.State, names []string) ([]string, error) {
	wanted := map[string]bool{}
	for _, n := range names {
		env, err := s.Environment(n)
		if err != nil {
			return nil, err
		}
		wanted[env] = true
	}
	var list []string
	for _, e := range s.Schema().Environments {
		if wanted[e.Name] || len(names) == 0 {
			list = append(list, e.Name)
		}
	}
	return list, nil
}

// pathsOf returns the paths that a projection may write.
func pathsOf(s *config.State, envs []string, extension string) []string {
	var paths []string
	for _, env := range envs {
		for i := range s.Schema().Entities {
			paths = append(paths, path.Join(env, fileOf(s.Schema().Entities[i].Name, extension)))
		}
	}
	return paths
}
