package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/bulk"
	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of an import.
const (
	maxImportFiles = 10_000
	// maxPartBytes is how much is written at once: the log takes 4 MiB, in a form that says more than the request.
	maxPartBytes = 1 << 20
)

const evaluateCommand = "evaluate"

// newConfigEvaluate is the command that evaluates a program for the process that imports it.
func newConfigEvaluate() *cobra.Command {
	return &cobra.Command{
		Use:    evaluateCommand + " LANGUAGE NAME",
		Short:  "Evaluate a source of Jsonnet or CUE, for import",
		Hidden: true,
		Args:   exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return format.Evaluate(args[0], args[1], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func newConfigImport(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE|FOLDER...",
		Short: "Take over entities from files of YAML, JSON, TOML, KDL, HCL, XML, Jsonnet or CUE",
		Long: `Take over entities from files, and from all files of these formats in folders. A file has one entity, which has the file's name, or a list of them,
or entities by their IDs, or these by their types. An entity says its type in _type, its ID in _id and its parent in _parent; without, it is
of the type of --entity-type, or of that which the file or its folder is named after, as services.yaml.

What is so already is not written, and nothing is removed. Up to 1,000 operations are done all or none, more in parts.`,
		Args: oneTo(maxImportFiles),
	}
	how := writeFlagsOf(cmd)
	env := environmentFlag(cmd)
	typ := cmd.Flags().String("entity-type", "", "the type of entities that do not say it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			progress := newBar(cmd.ErrOrStderr())
			entities, err := d.readEntities(ctx, args, *typ, progress)
			if err != nil {
				return err
			}
			plan, err := d.plan(ctx, entities, *env)
			if err != nil {
				return err
			}
			for i := range plan.Operations {
				plan.Operations[i].Via = "import:" + importName(args)
			}
			results, err := how.submitParts(ctx, d, plan.Operations, progress)
			if err != nil {
				return err
			}
			return show(cmd, *how.json, results, func(w io.Writer) {
				for _, text := range plan.Kept {
					fmt.Fprintln(w, printable(text+": its strategy keeps it; --override of set goes over it"))
				}
				fmt.Fprintf(w, "%s new, %d changed, %s so already.\n", english.Plural(plan.New, "entity is", "entities are"), plan.Changed,
					english.Plural(plan.Unchanged, "was", "were"))
				if how.dryRun {
					fmt.Fprintln(w, dryRunNote)
				}
			})
		})
	}
	return cmd
}

// plan works out what has to be done so that the document says what files say.
func (d *document) plan(ctx context.Context, entities []bulk.Entity, env string) (plan *bulk.Plan, err error) {
	if d.folder != nil {
		err = d.folder.service.Document().View(func(s *config.State) (err error) {
			plan, err = bulk.NewPlan(ctx, bulk.Local{State: s}, entities, env)
			return err
		})
		return plan, err
	}
	state, err := d.all(ctx, client.StateQuery{Env: env})
	if err != nil {
		return nil, err
	}
	seen := &seenState{document: d, entities: make(map[string]*wire.Entity, len(state.Entities)), from: map[string]map[string]string{}}
	for i := range state.Entities {
		seen.entities[state.Entities[i].ID] = &state.Entities[i]
	}
	return bulk.NewPlan(ctx, seen, entities, state.Environment)
}

// seenState is a document as somebody saw it, in the one environment that is imported to. It is bulk.State.
type seenState struct {
	document *document
	entities map[string]*wire.Entity
	from     map[string]map[string]string // by entity and field: the environment that the value is from
}

// Schema returns the schema in force.
func (s *seenState) Schema() *schema.Schema { return s.document.schema }

// Environment returns the name, which the server has given.
func (s *seenState) Environment(name string) (string, error) { return name, nil }

// Alive reports whether there is such an entity.
func (s *seenState) Alive(entity string) bool { return s.entities[entity] != nil }

// Place returns what an entity is below.
func (s *seenState) Place(entity string) (parent, position string) {
	return s.entities[entity].Parent, s.entities[entity].Position
}

// Value returns the value of a field.
func (s *seenState) Value(entity, field, _ string) (any, error) {
	if s.document.field(fieldPath{entity: entity, field: field}) == nil {
		return nil, fmt.Errorf("%s.%s: there is no such field: %w", entity, field, errkind.Invalid)
	}
	return s.entities[entity].Fields[field].Any, nil
}

// Own asks who wrote the entity's values, once.
func (s *seenState) Own(ctx context.Context, entity, field, env string) (bool, error) {
	if s.from[entity] == nil {
		list, err := s.document.Blame(ctx, entity, "", env)
		if err != nil {
			return false, err
		}
		s.from[entity] = map[string]string{}
		for i := range list {
			s.from[entity][list[i].Field] = list[i].From
		}
	}
	return s.from[entity][field] == env, nil
}

// importName is what operations say of where they come from.
func importName(args []string) string {
	name := filepath.ToSlash(filepath.Clean(args[0]))
	if len(args) > 1 {
		name += " and others"
	}
	return strings.ToValidUTF8(printable(name), "?")
}

// submitParts has operations done: all or none if they are few, otherwise in parts.
func (f *writeFlags) submitParts(ctx context.Context, d *document, ops []wire.Operation, progress *bar) ([]wire.Result, error) {
	results := []wire.Result{}
	for done := 0; done < len(ops); {
		end, size := done, 0
		for end < len(ops) && end-done < bulk.MaxLines {
			text, err := json.Marshal(&ops[end])
			if err != nil {
				return nil, fmt.Errorf("measure an operation: %w", err)
			}
			if size += len(text); size > maxPartBytes && end > done {
				break
			}
			end++
		}
		part, err := f.submit(ctx, d, ops[done:end])
		if err != nil {
			if done > 0 {
				err = fmt.Errorf("%d operations are done, and what follows is not: %w", done, err)
			}
			return nil, err
		}
		results = append(results, part...)
		done = end
		progress.step("Writing", int64(done), int64(len(ops)), "")
	}
	progress.end()
	return results, nil
}

// readEntities reads all entities of files and folders.
func (d *document) readEntities(ctx context.Context, names []string, typ string, progress *bar) (all []bulk.Entity, err error) {
	formats, release, err := d.formats(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	files, err := importFiles(names, formats)
	if err != nil {
		return nil, err
	}
	for i, name := range files {
		found, err := d.readFile(ctx, name, typ, formats)
		if err != nil {
			return nil, err
		}
		if all = append(all, found...); len(all) > bulk.MaxEntities {
			return nil, fmt.Errorf("%s: there are more than %d entities: import them in parts: %w", name, bulk.MaxEntities, errkind.TooLarge)
		}
		progress.step("Reading", int64(i+1), int64(len(files)), "")
	}
	progress.end()
	return all, nil
}

func (d *document) readFile(ctx context.Context, name, typ string, formats *format.Registry) ([]bulk.Entity, error) {
	f, err := formats.ForFile(name)
	if err != nil {
		return nil, err
	}
	parser, ok := f.(format.Parser)
	if !ok {
		return nil, fmt.Errorf("%s: %s can be written, and not read: %w", name, f.DisplayName(), errkind.Unsupported)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, format.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	v, err := parser.Unmarshal(ctx, name, text)
	if err != nil {
		if first, _, more := strings.Cut(err.Error(), "\n"); more { // a trace of calls
			err = fmt.Errorf("%s: %w", strings.TrimSuffix(first, ":"), errkind.Of(err))
		}
		return nil, err
	}
	s := d.schema
	id := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	for _, called := range []string{id, filepath.Base(filepath.Dir(name))} {
		if typ == "" {
			typ = bulk.TypeOf(called, s)
		}
	}
	found, err := bulk.Entities(v, bulk.Defaults{Type: typ, ID: id}, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return found, nil
}

// importFiles are files, and those below folders that can be read. What begins with a dot is nobody's configuration, .conflux and .git least of all.
func importFiles(names []string, formats *format.Registry) (files []string, err error) {
	for _, name := range names {
		err := filepath.WalkDir(name, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path != name && strings.HasPrefix(e.Name(), "."):
				if e.IsDir() {
					return filepath.SkipDir
				}
				return nil
			case e.IsDir():
				return nil
			}
			if path != name {
				f, err := formats.ForFile(path)
				if _, readable := f.(format.Parser); err != nil || !readable || !e.Type().IsRegular() {
					return nil //nolint:nilerr // other files are none of ours
				}
			}
			if files = append(files, path); len(files) > maxImportFiles {
				return fmt.Errorf("%s: there are more than %d files: import them in parts: %w", name, maxImportFiles, errkind.TooLarge)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: there are no files of a format that can be read: %w", strings.Join(names, ", "), errkind.NotFound)
	}
	return files, nil
}
