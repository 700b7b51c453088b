package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/errkind"
)

func newConfigRBAC(f *configFlags) *cobra.Command {
	return group("rbac", "Look at roles: who may do what, and why",
		newConfigRBACCheck(f), newConfigRBACListRoles(f), newConfigRBACShowRoles(f), newConfigRBACValidate(f))
}

// withRules has fn look at the rules of a file, or of the document.
func (f *configFlags) withRules(cmd *cobra.Command, file string, fn func(r *access.Rules) error) error {
	own := *f
	own.actor, own.class = "", "" // whom the question is about does not ask it
	return own.inFolder(cmd, "", func(_ context.Context, dir *folder) error {
		if file != "" {
			text, err := readInput(cmd, file, maxRulesBytes)
			if err != nil {
				return err
			}
			r, err := access.Load(text, dir.service.Environments()[0].Name)
			if err != nil {
				return err
			}
			return fn(r)
		}
		r, err := dir.work.Rules()
		if err == nil && r == nil {
			err = fmt.Errorf("there is no %s, so that everybody may do everything: %w", dir.work.File(workspace.RulesFile), errkind.NotFound)
		}
		if err != nil {
			return err
		}
		return fn(r)
	})
}

// maxRulesBytes is far more than anybody writes by hand.
const maxRulesBytes = 4 << 20

func rulesFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("rules", "", "a file with rules (- is standard input; default .conflux/rbac.toml)")
}

func newConfigRBACCheck(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check --actor ACTOR --action ACTION --resource RESOURCE",
		Short: "Tell whether somebody may do something, and why; exits with 4 if not",
		Args:  exactly(0),
	}
	action := cmd.Flags().String("action", "", "read, write, create, delete, move, override, resolve, promote, milestone or admin")
	resource := cmd.Flags().String("resource", "", "TYPE/ID.FIELD@ENV, of which all but the type can be left out")
	file := rulesFlag(cmd)
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.actor == "" || *action == "" || *resource == "" {
			return usageError{fmt.Errorf("--actor, --action and --resource are needed; see %q", cmd.CommandPath()+" --help")}
		}
		actor, _, err := f.who(cmd.Context())
		if err != nil {
			return err
		}
		verb, err := access.ParseAction(*action)
		if err != nil {
			return usageError{err}
		}
		about, err := access.ParseResource(*resource)
		if err != nil {
			return usageError{err}
		}
		return f.withRules(cmd, *file, func(r *access.Rules) error {
			e := r.Explain(actor, verb, about)
			if err := show(cmd, *asJSON, e, func(w io.Writer) { io.WriteString(w, e.String()) }); err != nil { //nolint:errcheck // as all output
				return err
			}
			if !e.Allowed {
				return fmt.Errorf("%s may not %s %s: %w", actor.ID, *action, *resource, errkind.Forbidden)
			}
			return nil
		})
	}
	return cmd
}

func newConfigRBACListRoles(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list-roles", Short: "List the roles, and what each may do", Args: exactly(0)}
	file := rulesFlag(cmd)
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.withRules(cmd, *file, func(r *access.Rules) error {
			roles := r.ListRoles()
			return show(cmd, *asJSON, roles, func(w io.Writer) {
				var rows [][]string
				for _, role := range roles {
					rows = append(rows, []string{role.Name, strings.Join(role.Inherits, ", "), "", "", role.Description})
					for _, p := range role.Permissions {
						rows = append(rows, []string{"", "", strings.Join(p.Actions, ", "), p.Resource, ""})
					}
				}
				table(w, []string{"ROLE", "INHERITS", "MAY", "ON", "DESCRIPTION"}, rows)
			})
		})
	}
	return cmd
}

func newConfigRBACShowRoles(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "show-roles --actor ACTOR", Short: "Show which roles somebody has, and from where", Args: exactly(0)}
	file := rulesFlag(cmd)
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		actor, _, err := f.who(cmd.Context())
		if err != nil {
			return err
		}
		return f.withRules(cmd, *file, func(r *access.Rules) error {
			grants := r.Roles(actor)
			return show(cmd, *asJSON, grants, func(w io.Writer) {
				rows := make([][]string, len(grants))
				for i, g := range grants {
					rows[i] = []string{g.Role, g.Via, fmt.Sprintf("line %d: %s", g.Line, g.To)}
				}
				table(w, []string{"ROLE", "INHERITED BY", "GIVEN IN"}, rows)
			})
		})
	}
	return cmd
}

func newConfigRBACValidate(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "validate [FILE]", Short: "Check rules: of a file, standard input (-) or the document", Args: atMostOne}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.withRules(cmd, strings.Join(args, ""), func(r *access.Rules) error {
			for _, warning := range r.Warnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), printable("Warning: "+warning+"."))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The rules are valid: %d roles.\n", len(r.ListRoles()))
			return nil
		})
	}
	return cmd
}
