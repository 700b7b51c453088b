package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

func newConfigGet(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get ENTITY [FIELD] | get ENTITY.FIELD",
		Short: "Print an entity or a field, as an environment sees it",
		Args:  oneTo(2),
	}
	env := environmentFlag(cmd)
	id := cmd.Flags().StringP("format", "f", "", "in this format: yaml, json, toml, kdl, xml, hcl or a plugin's")
	asJSON := asJSON(cmd)
	cmd.MarkFlagsMutuallyExclusive("format", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			e, field, key, err := d.find(ctx, args, *env)
			if err != nil {
				return err
			}
			if *id != "" {
				return d.printFormatted(ctx, cmd.OutOrStdout(), *id, e, field)
			}
			if field == "" {
				return show(cmd, *asJSON, e, func(w io.Writer) { printEntity(w, e) })
			}
			v := e.Fields[field]
			if m, ok := v.Any.(map[string]any); ok && key != "" {
				if v.Any, ok = m[key]; !ok {
					return fmt.Errorf("%s: it has no key %q: %w", d.pathOf(e.ID, field, "", e.Environment), key, errkind.NotFound)
				}
			}
			return show(cmd, *asJSON, v, func(w io.Writer) { printAlone(w, v.Any) })
		})
	}
	return cmd
}

// printFormatted prints an entity's fields, or one, as an export has them.
func (d *document) printFormatted(ctx context.Context, w io.Writer, id string, e *wire.Entity, field string) error {
	formats, release, err := d.formats(ctx)
	if err != nil {
		return err
	}
	defer release()
	s, err := formats.Serializer(id)
	if err != nil {
		return err
	}
	fields := map[string]any{}
	for name, v := range e.Fields {
		if field == "" || field == name {
			fields[name] = v.Any
		}
	}
	text, err := s.Marshal(ctx, fields)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// printAlone prints a value that somebody asked for alone: as it is, so that scripts and files get all of it, except to a terminal.
func printAlone(w io.Writer, v any) {
	text := "unset"
	if v != nil {
		text = value.Text(v)
	}
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		text = printable(text)
	}
	fmt.Fprintln(w, text)
}

// find reads what people name in one word or two: an entity, or a field of one. An entity's ID may have dots, so the entity is tried first.
func (d *document) find(ctx context.Context, args []string, env string) (e *wire.Entity, field, key string, err error) {
	if len(args) == 1 {
		if e, err = d.Entity(ctx, args[0], env); err == nil || errkind.Of(err) != errkind.NotFound {
			return e, "", "", err
		}
	}
	p, perr := parsePath(args[0], strings.Join(args[1:], ""))
	if perr != nil {
		return nil, "", "", cmp.Or(err, perr)
	}
	found, ferr := d.Entity(ctx, p.entity, env)
	if ferr != nil {
		return nil, "", "", cmp.Or(err, ferr)
	}
	if d.field(p) == nil {
		return nil, "", "", fmt.Errorf("field %q: an entity of type %s has none of that name: %w", p.field, found.Type, errkind.NotFound)
	}
	return found, p.field, p.key, nil
}

func printEntity(w io.Writer, e *wire.Entity) {
	fmt.Fprintln(w, printable(fmt.Sprintf("%s in %s, version %s", e.ID, e.Environment, e.Version)))
	if e.Parent != "" {
		fmt.Fprintln(w, printable("below "+e.Parent))
	}
	rows := [][]string{}
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		v := e.Fields[name]
		note := ""
		if slices.Contains(e.Conflicts, name) {
			note = "  (waits for somebody to choose)"
		}
		rows = append(rows, []string{name, shown(&v) + note})
	}
	table(w, []string{"FIELD", "VALUE"}, rows)
}

func newConfigList(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list [TYPE]", Short: "List the entities", Args: atMostOne}
	env := environmentFlag(cmd)
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			state, err := d.all(ctx, client.StateQuery{Env: *env, Type: strings.Join(args, "")})
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, state, func(w io.Writer) {
				rows := make([][]string, len(state.Entities))
				for i, e := range state.Entities {
					var fields []string
					for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
						v := e.Fields[name]
						fields = append(fields, name+"="+shown(&v))
					}
					text := []rune(strings.Join(fields, " "))
					if len(text) > maxValueShown {
						text = append(text[:maxValueShown], '…')
					}
					rows[i] = []string{e.ID, e.Parent, string(text)}
				}
				table(w, []string{"ENTITY", "PARENT", "FIELDS"}, rows)
			})
		})
	}
	return cmd
}

// all reads the state page by page.
func (d *document) all(ctx context.Context, q client.StateQuery) (*wire.State, error) {
	state, err := d.State(ctx, q)
	for err == nil && state.Next != "" {
		q.After = state.Next
		var page *wire.State
		if page, err = d.State(ctx, q); err == nil {
			state.Entities, state.Next = append(state.Entities, page.Entities...), page.Next
		}
	}
	return state, err
}

func newConfigLog(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "log", Short: "List operations, the newest first", Args: exactly(0)}
	asJSON := asJSON(cmd)
	q := client.OperationQuery{}
	flags := cmd.Flags()
	flags.IntVarP(&q.Limit, "limit", "n", 50, "how many at most")
	flags.StringVar(&q.Entity, "entity", "", "only those that write to this one")
	flags.StringVar(&q.Actor, "actor", "", "only this actor's")
	flags.StringVar(&q.Type, "type", "", "only of this type, such as promote")
	flags.Uint64Var(&q.Before, "before", 0, "only those with a smaller number")
	flags.Var(momentValue{&q.Since}, "since", "only from this time on")
	flags.Var(momentValue{&q.Until}, "until", "only from before this time")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if q.Limit < 1 {
			return usageError{errors.New("--limit is at least 1")}
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			list, err := d.operations(ctx, q)
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, list, func(w io.Writer) {
				for i := range list.Operations {
					r := &list.Operations[i]
					fmt.Fprintf(w, "%6d  %s  %s\n", r.Seq, second(r.Time), d.summary(r))
				}
				if list.Next > 0 {
					fmt.Fprintf(w, "There are more: --before %d\n", list.Next)
				}
			})
		})
	}
	return cmd
}

// operations reads the log page by page.
func (d *document) operations(ctx context.Context, q client.OperationQuery) (*wire.Log, error) {
	left := q.Limit
	all := &wire.Log{Operations: []wire.Record{}}
	for {
		q.Limit = min(left, service.MaxLog)
		page, err := d.Log(ctx, q)
		if err != nil {
			return nil, err
		}
		all.Operations, all.Next = append(all.Operations, page.Operations...), page.Next
		if left -= len(page.Operations); left <= 0 || page.Next == 0 {
			return all, nil
		}
		q.Before = page.Next
	}
}

// momentValue is a flag with a time in one of the forms of service.ParseTime.
type momentValue struct{ t *time.Time }

// Set implements pflag.Value, as all methods here.
func (v momentValue) Set(s string) (err error) {
	*v.t, err = service.ParseTime(s)
	return err //nolint:wrapcheck // it quotes s
}

func (v momentValue) String() string { return timeValue(v).String() }

// Type is how help calls a value.
func (v momentValue) Type() string { return "TIME" }

func newConfigBlame(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "blame ENTITY [FIELD] | blame ENTITY.FIELD",
		Short: "Tell of each field who wrote it, when and why",
		Args:  oneTo(2),
	}
	env := environmentFlag(cmd)
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			e, field, _, err := d.find(ctx, args, *env)
			if err != nil {
				return err
			}
			list, err := d.Blame(ctx, e.ID, field, *env)
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, list, func(w io.Writer) {
				var rows [][]string
				for i := range list {
					rows = append(rows, blameRows(&list[i])...)
				}
				table(w, []string{"FIELD", "VALUE", "FROM", "BY", "AT", "WHY"}, rows)
			})
		})
	}
	return cmd
}

// blameRows are a row for each write that a field's value comes from.
func blameRows(b *wire.Blame) (rows [][]string) {
	if len(b.By) == 0 {
		return [][]string{{b.Field, shown(&b.Value), "default", "", "", ""}}
	}
	for i := range b.By {
		src := &b.By[i]
		v, name := &b.Value, b.Field
		if src.Value != nil {
			v = src.Value
		}
		if src.Key != "" {
			name += "[" + src.Key + "]"
		}
		rows = append(rows, []string{name, shown(v), b.From, by(src.Actor), second(src.Time), src.Intent})
	}
	return rows
}

func newConfigStatus(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show the document at a glance: how much is in it, and what is wrong", Args: exactly(0)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			s, err := d.Status(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return show(cmd, true, s, nil)
			}
			return d.printStatus(ctx, cmd.OutOrStdout(), s)
		})
	}
	return cmd
}

func (d *document) printStatus(ctx context.Context, w io.Writer, s *wire.Status) error {
	conflicts, err := d.Conflicts(ctx)
	if err != nil {
		return err
	}
	violations, err := d.Violations(ctx, "")
	if err != nil {
		return err
	}
	entities := 0
	var types, envs []string
	for _, name := range slices.Sorted(maps.Keys(s.Entities)) {
		entities += s.Entities[name]
		types = append(types, strconv.Itoa(s.Entities[name])+" "+name)
	}
	for _, e := range s.Environments {
		envs = append(envs, e.Name)
	}
	total := strconv.Itoa(entities)
	if len(types) > 0 {
		total += " (" + strings.Join(types, ", ") + ")"
	}
	fmt.Fprintf(w, "Document      %s\n", printable(s.Document))
	fmt.Fprintf(w, "Schema        %s\n", printable(s.Schema))
	fmt.Fprintf(w, "Environments  %s\n", printable(strings.Join(envs, ", ")))
	fmt.Fprintf(w, "Entities      %s\n", printable(total))
	fmt.Fprintf(w, "Operations    %d, the latest at %s\n", s.Operations, second(s.Latest))
	fmt.Fprintf(w, "Version       %s\n", s.Version)
	fmt.Fprintf(w, "Log head      %s\n", s.Head)
	fmt.Fprintf(w, "Milestone     %s\n", printable(d.lastMilestone(ctx, s)))
	if s.Automatic != nil {
		fmt.Fprintf(w, "Automatic     %s\n", printable(d.automaticText(s.Automatic)))
	}
	fmt.Fprintf(w, "Conflicts     %d\n", s.Conflicts)
	for _, c := range conflicts {
		fmt.Fprintf(w, "  %s\n", printable(d.pathOf(c.EntityID, c.Field, "", c.Environment))+": "+strconv.Itoa(len(c.Candidates))+" writes wait for somebody to choose")
	}
	fmt.Fprintf(w, "Violations    %d\n", s.Violations)
	for _, v := range violations {
		fmt.Fprintf(w, "  %s\n", printable(d.pathOf(v.EntityID, v.Field, "", v.Environment)+": "+v.Message+causes(v.By)))
	}
	return nil
}

// automaticText tells of the milestones that are made by themselves.
func (d *document) automaticText(a *wire.Automatic) string {
	var when []string
	if a.Every != "" {
		when = append(when, "every "+a.Every)
	}
	if a.After > 0 {
		when = append(when, "after "+english.Plural(int(min(a.After, math.MaxInt)), "operation", "")) //nolint:gosec // it is bounded
	}
	text := "by the daemon, "
	if d.server != nil {
		text = "by the server, "
	}
	text += strings.Join(when, " or ")
	switch {
	case a.Refused != "":
		text += "; refused at " + second(a.RefusedAt) + ": " + a.Refused
	case a.Next != "":
		text += "; the next one by " + second(a.Next)
	}
	return text
}

// lastMilestone tells of the last milestone, where that takes no network.
func (d *document) lastMilestone(ctx context.Context, s *wire.Status) string {
	if d.folder != nil && d.folder.work.Remote() {
		return "in " + d.folder.work.Settings.Git.Repository
	}
	m, err := d.Milestone(ctx, "")
	switch {
	case errkind.Of(err) == errkind.Forbidden:
		return "told to those who may read every field"
	case err != nil:
		return "none yet"
	}
	version, err := crdt.ParseDots(m.Version)
	if err != nil {
		return "none that can be read"
	}
	return fmt.Sprintf("%s at %s (%s), and %d operations since", short(m.ID), second(m.CreatedAt), m.Message, s.Operations-min(s.Operations, version.Len()))
}

// causes names who wrote what broke a rule.
func causes(list []wire.Source) string {
	var all []string
	for i := range list {
		if name := by(list[i].Actor); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return " " + strings.Join(all, " ")
}
