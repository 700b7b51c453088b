package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

func newConfigExport(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write what the document says in a format that other tools read",
		Long: `Write what the document says in YAML, JSON, TOML, KDL, XML, HCL or a plugin's format: of an environment to standard output, by type and ID, or
of all to a folder, in the files that milestones have: ENV/TYPEs.EXT. Values that an environment inherits are written too.`,
		Args: exactly(0),
	}
	flags := cmd.Flags()
	env := environmentFlag(cmd)
	id := flags.StringP("format", "f", "yaml", "yaml, json, toml, kdl, xml, hcl or a plugin's")
	out := flags.StringP("out", "o", stdinName, "the folder (- is standard output)")
	typ := flags.String("type", "", "only entities of this type")
	keep := flags.Bool("keep", false, "keep the comments and the order of files that are there, where the format can")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			formats, release, err := d.formats(ctx)
			if err != nil {
				return err
			}
			defer release()
			s, err := formats.Serializer(*id)
			if err != nil {
				return err
			}
			if *out != stdinName {
				return d.exportFolder(ctx, cmd, *out, *env, *typ, s, *keep)
			}
			if *keep {
				return usageError{errors.New("--keep is about files: it needs --out FOLDER")}
			}
			state, err := d.all(ctx, client.StateQuery{Env: *env, Type: *typ})
			if err != nil {
				return err
			}
			all := map[string]any{}
			for _, name := range typesOf(state) {
				all[name] = entitiesOf(state, name, false)
			}
			text, err := s.Marshal(ctx, all)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		})
	}
	return cmd
}

// typesOf are the types of a state's entities, in their order.
func typesOf(state *wire.State) (names []string) {
	for _, e := range state.Entities {
		if len(names) == 0 || names[len(names)-1] != e.Type {
			names = append(names, e.Type)
		}
	}
	return names
}

// entitiesOf are the entities of a type by ID, as files have them.
func entitiesOf(state *wire.State, typ string, withType bool) map[string]any {
	all := map[string]any{}
	for _, e := range state.Entities {
		if e.Type != typ {
			continue
		}
		m := make(map[string]any, len(e.Fields)+2)
		for name, v := range e.Fields {
			m[name] = v.Any
		}
		if withType {
			m["_type"] = e.Type
		}
		if e.Parent != "" {
			m["_parent"] = e.Parent
		}
		all[strings.TrimPrefix(e.ID, e.Type+".")] = m
	}
	return all
}

func (d *document) exportFolder(ctx context.Context, cmd *cobra.Command, dir, env, typ string, s format.Serializer, keep bool) error {
	envs := []string{env}
	if env == "" {
		envs = nil
		for _, e := range d.environments {
			envs = append(envs, e.Name)
		}
	}
	progress := newBar(cmd.ErrOrStderr())
	files := 0
	for i, name := range envs {
		state, err := d.all(ctx, client.StateQuery{Env: name, Type: typ})
		if err != nil {
			return err
		}
		for _, t := range typesOf(state) {
			// Neither name can lead out of the folder: package schema lets neither have dots or slashes.
			file := filepath.Join(dir, state.Environment, t+"s."+s.Extension())
			if err := writeExport(ctx, file, entitiesOf(state, t, true), s, keep); err != nil {
				return err
			}
			files++
		}
		progress.step("Writing", int64(i+1), int64(len(envs)), "")
	}
	progress.end()
	fmt.Fprintf(cmd.OutOrStdout(), "%d files in %s.\n", files, printable(dir))
	return nil
}

func writeExport(ctx context.Context, file string, v any, s format.Serializer, keep bool) error {
	text, err := s.Marshal(ctx, v)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if keep {
		r, ok := s.(format.Rewriter)
		if !ok {
			return fmt.Errorf("%s: a file of %s cannot be kept: leave out --keep: %w", file, s.DisplayName(), errkind.Unsupported)
		}
		old, err := os.ReadFile(file)
		if err == nil {
			text, err = r.Rewrite(ctx, old, v)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil { //nolint:gosec // as git makes folders: the umask says who may
		return err
	}
	return os.WriteFile(file, text, 0o666) //nolint:gosec // as above
}
