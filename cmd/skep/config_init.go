package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/peers"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/errkind"
)

// exampleSchema is what a document begins with that is made without a schema.
//
//go:embed example_schema.toml
var exampleSchema string

// maxSchemaBytes is more than a schema may have; package schema says how many that is.
const maxSchemaBytes = 2 << 20

func newConfigInit(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [--schema FILE]",
		Short: "Begin a document in a folder, or on a server",
		Long: `Begin a document in a folder, in .conflux. Without a schema it begins with an example, which is there to be changed: edit
.conflux/schema.toml, then "skep config schema set".

With --store the document's log is not in the folder but in a store: sqlite:DIR, postgres://USER@HOST/DATABASE, or
dynamodb://TABLE?region=REGION&endpoint=URL&create=true. Passwords come from the environment (PGPASSWORD, PGPASSFILE, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY). With --join the store has the document already, and this folder shares it.

With --from-log the document is made again from an export of its log: every operation, hash and signature is checked, and the log ends with the
same head. Settings, roles and API keys are not in a log.

With --document TENANT/NAME it begins on the server, with its schema; --repo says where its milestones go, and the flags beside that when they
are made.`,
		Args: exactly(0),
	}
	file := cmd.Flags().String("schema", "", "a file that says which entities and fields there are (- is standard input)")
	name := cmd.Flags().String("name", "", "the document's name (default the folder's)")
	copyOf := cmd.Flags().String("copy-of", "", "the address of a daemon: make another copy of its document, which takes writes of its own and is kept equal")
	keyFile := cmd.Flags().String("key-file", "", "with --copy-of: a file with the API key for that daemon")
	store := workspace.Store{}
	cmd.Flags().StringVar(&store.URL, "store", "", "where the document's log is (default the folder)")
	join := cmd.Flags().Bool("join", false, "with --store: share the document that is there, of the name of the folder or --name")
	fromLog := cmd.Flags().String("from-log", "", "an export of a whole log (skep config audit export): restore the document that it is of")
	registry := cmd.Flags().String("key-registry", "", "with --from-log: the file with the public keys of those who signed, which becomes the document's")
	for _, other := range []string{"schema", "name", "join", "copy-of"} {
		cmd.MarkFlagsMutuallyExclusive("from-log", other)
	}
	cmd.MarkFlagsMutuallyExclusive("copy-of", "store")
	cmd.MarkFlagsMutuallyExclusive("join", "schema")
	to := milestoneFlagsOf(cmd)
	cmd.MarkFlagsMutuallyExclusive("copy-of", "schema")
	cmd.MarkFlagsMutuallyExclusive("copy-of", "name")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		at, err := f.place(cmd)
		if err != nil {
			return err
		}
		if at.document != "" {
			return f.initOnServer(cmd, at.document, *file, *name+*copyOf+store.URL+*fromLog, to)
		}
		if err := f.onlyInFolder(cmd, ""); err != nil {
			return err
		}
		if to.given(cmd) {
			return usageError{errors.New("--repo and what is beside it are of a server's document; a folder says in .conflux/config.toml where milestones go")}
		}
		if *copyOf != "" {
			return copyDocument(cmd, f.dir, *copyOf, *keyFile)
		}
		if *join {
			return joinDocument(cmd, f.dir, *name, store)
		}
		if *fromLog != "" {
			return restoreDocument(cmd, f.dir, *fromLog, *registry, store)
		}
		text := []byte(exampleSchema)
		if *file != "" {
			if text, _, err = readSchema(cmd, *file); err != nil {
				return err
			}
		}
		w, err := workspace.InitStore(cmd.Context(), f.dir, *name, string(text), store)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Begun document %s in %s.\n", w.Settings.Document, filepath.Join(w.Dir, workspace.Folder))
		if *file == "" {
			fmt.Fprintf(cmd.OutOrStdout(), "Its schema is an example: edit %s, then run skep config schema set.\n", w.File(workspace.SchemaFile))
		}
		return w.Close()
	}
	return cmd
}

// joinDocument makes a folder share a document that is in a store.
func joinDocument(cmd *cobra.Command, dir, name string, store workspace.Store) error {
	if store.URL == "" {
		return fmt.Errorf("--join is for a document in a store: say which with --store: %w", errkind.Invalid)
	}
	w, err := workspace.Join(cmd.Context(), dir, name, store)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Joined document %s in %s.\n", w.Settings.Document, filepath.Join(w.Dir, workspace.Folder))
	return w.Close()
}

// initOnServer makes a document on the server.
func (f *configFlags) initOnServer(cmd *cobra.Command, full, file, folders string, to *milestoneFlags) error {
	switch {
	case folders != "":
		return usageError{errors.New("--name, --copy-of, --store and --from-log are of a document in a folder: --document names this one")}
	case file == "":
		return usageError{errors.New("which file has the schema? Say --schema FILE, or - for standard input")}
	}
	text, _, err := readSchema(cmd, file)
	if err != nil {
		return err
	}
	c, tenant, name, err := f.onServer(full)
	if err != nil {
		return err
	}
	ask := client.CreateDocument{Name: name, Schema: string(text)}
	if to.given(cmd) {
		if ask.Milestones, err = to.over(cmd, nil); err != nil {
			return err
		}
	}
	d, err := c.CreateDocument(cmd.Context(), tenant, ask)
	if err != nil {
		return fmt.Errorf("begin %s: %w", full, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Begun document %s, with milestones to %s.\n", printable(d.FullName()), printable(milestonesTo(d.Milestones)))
	return nil
}

// copyDocument makes a copy of a document that a daemon serves.
func copyDocument(cmd *cobra.Command, dir, address, keyFile string) error {
	w, err := peers.Copy(cmd.Context(), dir, address, keyFile)
	if err != nil {
		return err
	}
	n := int(w.Service.Document().Head().Seq) //nolint:gosec // a log has not so many
	fmt.Fprintf(cmd.OutOrStdout(), "Copied document %s to %s: %s. Its daemon keeps the two equal.\n",
		w.Settings.Document, filepath.Join(w.Dir, workspace.Folder), english.Plural(n, "operation", ""))
	return w.Close()
}

// readSchema reads a schema and checks it, so that what is wrong is told with the file's name.
func readSchema(cmd *cobra.Command, file string) ([]byte, *schema.Schema, error) {
	text, err := readInput(cmd, file, maxSchemaBytes)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := schema.Parse(file, text)
	return text, parsed, err
}

func newConfigSchema(f *configFlags) *cobra.Command {
	return group("schema", "Show, check and change what a document may have", newConfigSchemaShow(f), newConfigSchemaSet(f), newConfigSchemaCheck())
}

func newConfigSchemaShow(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "show", Short: "Print the schema in force", Args: exactly(0)}
	canonical := cmd.Flags().Bool("canonical", false, "in the form that Skep writes, without comments")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			in, err := d.Schema(ctx)
			if err != nil {
				return err
			}
			if *canonical {
				in.Text = string(schema.Format(d.schema))
			}
			_, err = io.WriteString(cmd.OutOrStdout(), in.Text)
			return err
		})
	}
	return cmd
}

func newConfigSchemaCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a schema (- is standard input) without putting it in force",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, s, err := readSchema(cmd, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is a valid schema: %d types, %d environments.\n", args[0], len(s.Entities), len(s.Environments))
			return nil
		},
	}
}

func newConfigSchemaSet(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set [FILE]",
		Short: "Put another schema in force",
		Long: `Put another schema in force: from a file, standard input (-), or .conflux/schema.toml. It is an operation like others, and values stay. A field
whose type or strategy changes begins anew with the value that it has, where the new type can have it.`,
		Args: atMostOne,
	}
	how := writeFlagsOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			file := strings.Join(args, "")
			if file == "" {
				if d.folder == nil {
					return usageError{errors.New("which file has the schema? A document that is in no folder has none of its own")}
				}
				file = d.folder.work.File(workspace.SchemaFile)
			}
			text, next, err := readSchema(cmd, file)
			if err != nil {
				return err
			}
			changes := schema.Diff(d.schema, next)
			results, err := how.submit(ctx, d, []wire.Operation{{Type: string(config.ChangeSchema), Schema: string(text)}})
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if !how.dryRun && d.folder != nil {
				if err := d.folder.work.WriteFile(workspace.SchemaFile, text); err != nil {
					return err
				}
			}
			broken, err := d.Violations(ctx, "")
			if err != nil {
				return err
			}
			return show(cmd, *how.json, results, func(w io.Writer) {
				printSchemaChanges(w, changes)
				if len(broken) > 0 {
					fmt.Fprintf(w, "%d rules of the schema are broken: skep config status lists them.\n", len(broken))
				}
			})
		})
	}
	return cmd
}

func printSchemaChanges(w io.Writer, c *schema.Changes) {
	for _, e := range c.Entities {
		fmt.Fprintf(w, "%s %s\n", e.Name, e.Kind)
	}
	for _, f := range c.Fields {
		fmt.Fprintf(w, "%s.%s %s\n", f.Entity, f.Field, f.Kind)
	}
	for _, e := range c.Environments {
		fmt.Fprintf(w, "environment %s %s\n", e.Name, e.Kind)
	}
	if c.None() {
		fmt.Fprintln(w, "The schema means the same as before.")
	}
}

func newConfigEnvironments(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "environments", Short: "List the environments, and what each inherits from", Args: exactly(0)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(_ context.Context, d *document) error {
			list := d.environments
			return show(cmd, *asJSON, list, func(w io.Writer) {
				rows := make([][]string, len(list))
				for i, e := range list {
					rows[i] = []string{e.Name, e.Inherits}
				}
				table(w, []string{"ENVIRONMENT", "INHERITS FROM"}, rows)
			})
		})
	}
	return cmd
}
