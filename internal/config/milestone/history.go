package milestone

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// Milestone is a milestone as a repository has it.
type Milestone struct {
	Commit
	*Message
}

// Limits of a look at the history.
const (
	MaxListed   = 1000
	maxSearched = 10_000 // commits that change the manifest and are no milestones
)

// Last returns the latest milestone that a commit is or comes after, nil if there is none.
func Last(ctx context.Context, r Repo, from string) (*Milestone, error) {
	list, err := milestones(ctx, r, from, 1)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// List returns the milestones of a branch, the latest first.
func List(ctx context.Context, r Repo, branch string, limit int) ([]*Milestone, error) {
	tip, err := r.Tip(ctx, branch)
	if err != nil {
		return nil, fmt.Errorf("list milestones: %w", err)
	}
	return milestones(ctx, r, tip, min(limit, MaxListed))
}

func milestones(ctx context.Context, r Repo, from string, limit int) ([]*Milestone, error) {
	var list []*Milestone
	if from == "" || limit <= 0 {
		return nil, nil
	}
	searched := 0
	for c, err := range r.Log(ctx, from, ManifestPath) {
		if err != nil {
			return nil, fmt.Errorf("look for milestones: %w", err)
		}
		switch m, err := ParseMessage(c.Message); {
		case err == nil:
			if list = append(list, &Milestone{*c, m}); len(list) == limit {
				return list, nil
			}
		case !errors.Is(err, errkind.NotFound):
			return nil, fmt.Errorf("commit %s: %w", c.ID, err)
		}
		if searched++; searched > maxSearched+limit {
			return nil, fmt.Errorf("look for milestones: %d commits change %s and are none: %w", maxSearched, ManifestPath, errkind.TooLarge)
		}
	}
	return list, nil
}

// Show returns the milestone that a revision names.
func Show(ctx context.Context, r Repo, rev string) (*Milestone, error) {
	c, err := r.Get(ctx, rev)
	if err != nil {
		return nil, fmt.Errorf("show milestone: %w", err)
	}
	m, err := ParseMessage(c.Message)
	if err != nil {
		return nil, fmt.Errorf("show milestone %s: %w", c.ID, err)
	}
	return &Milestone{*c, m}, nil
}

// Entity is an entity as a projection's file has it.
type Entity struct {
	Parent   string
	Position string
	Fields   map[string]any
}

// Values are what a projection says: of each environment, each entity by its ID, TYPE.ID.
type Values map[string]map[string]Entity

// Unmarshal reads a file in the format with an ID. The name of the file is for messages.
type Unmarshal func(ctx context.Context, format, name string, data []byte) (any, error)

// Load returns what a milestone says.
func Load(ctx context.Context, r Repo, commit string, read Unmarshal) (Values, error) {
	m, err := manifestOf(ctx, r, commit)
	if err != nil {
		return nil, err
	}
	return load(ctx, r, commit, m, m.Files, read)
}

// manifestOf reads the manifest of a milestone.
func manifestOf(ctx context.Context, r Repo, commit string) (*Manifest, error) {
	data, err := r.Read(ctx, commit, []string{ManifestPath})
	if err != nil {
		return nil, fmt.Errorf("read milestone %s: %w", commit, err)
	}
	return decodeManifest(data[0])
}

// load reads some files of a commit that belong to a projection.
func load(ctx context.Context, r Repo, commit string, m *Manifest, paths []string, read Unmarshal) (Values, error) {
	data, err := r.Read(ctx, commit, paths)
	if err != nil {
		return nil, fmt.Errorf("read milestone %s: %w", commit, err)
	}
	values := Values{}
	for _, env := range m.Environments {
		values[env] = map[string]Entity{}
	}
	for i, name := range paths {
		v, err := read(ctx, m.Format, name, data[i])
		if err == nil {
			env, base := path.Split(name)
			kind := strings.TrimSuffix(base, "s"+path.Ext(base))
			err = entities(values[strings.TrimSuffix(env, "/")], kind, v)
		}
		if err != nil {
			return nil, fmt.Errorf("%s at %.12s: %w", name, commit, err)
		}
	}
	return values, nil
}

// entities takes the entities of a file apart.
func entities(to map[string]Entity, kind string, v any) error {
	all, ok := v.(map[string]any)
	if !ok && v != nil {
		return fmt.Errorf("it has to be a map of entities by ID: %w", errkind.Invalid)
	}
	for id, v := range all {
		fields, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: an entity is a map of its fields: %w", clip(id), errkind.Invalid)
		}
		e := Entity{Fields: map[string]any{}}
		for key, v := range fields {
			text, isText := v.(string)
			switch key {
			case typeKey:
				if text != kind {
					return fmt.Errorf("%s: %s is %s in a file of type %s: leave it, or move the entity to the file of its type: %w", clip(id), typeKey, clip(value.Text(v)), kind, errkind.Invalid)
				}
				continue
			case parentKey:
				e.Parent = text
			case positionKey:
				e.Position = text
			default:
				e.Fields[key] = v
				continue
			}
			if !isText {
				return fmt.Errorf("%s: %s has to be a string: %w", clip(id), key, errkind.Invalid)
			}
		}
		to[kind+"."+id] = e
	}
	return nil
}
