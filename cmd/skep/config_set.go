package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/wire"
)

// intentVariable is the environment variable that says why something is done.
const intentVariable = "SKEP_INTENT"

// writeFlags are those of all commands that write.
type writeFlags struct {
	intent, reason, base, expect string
	signKey, keyID               string
	dryRun                       bool
	json                         *bool
}

func writeFlagsOf(cmd *cobra.Command) *writeFlags {
	f := &writeFlags{json: asJSON(cmd)}
	flags := cmd.Flags()
	flags.StringVar(&f.intent, "intent", "", "why (default SKEP_INTENT)")
	flags.StringVar(&f.reason, "reason", "", "the same as --intent")
	flags.StringVar(&f.base, "base", "", "the version that you saw: what others wrote after it, you did not know")
	flags.StringVar(&f.expect, "expect", "", "the version that you saw: refuse if what is written to has changed since")
	flags.StringVar(&f.signKey, "sign-key", "", "sign with the private key in this file")
	flags.StringVar(&f.keyID, "key-id", "", "the name under which its public key is registered")
	flags.BoolVar(&f.dryRun, "dry-run", false, "tell what would happen, and write nothing")
	return f
}

// submit has operations done, all or none.
func (f *writeFlags) submit(ctx context.Context, d *document, ops []wire.Operation) ([]wire.Result, error) {
	base, expect := f.base, false
	if f.expect != "" {
		if f.base != "" && f.base != f.expect {
			return nil, usageError{fmt.Errorf("--base and --expect name the same thing, what you saw: say one")}
		}
		base, expect = f.expect, true
	}
	if f.intent == "" {
		f.intent = f.reason
	}
	if f.intent == "" {
		f.intent = os.Getenv(intentVariable)
	}
	for i := range ops {
		if ops[i].Intent == "" {
			ops[i].Intent = f.intent
		}
		if ops[i].Base == "" {
			ops[i].Base, ops[i].Expect = base, ops[i].Expect || expect
		}
	}
	if f.signKey != "" || f.keyID != "" {
		if err := f.sign(ctx, d, ops); err != nil {
			return nil, err
		}
	}
	done, err := d.SubmitBatch(ctx, ops, client.WriteOptions{DryRun: f.dryRun})
	return done.Results, err
}

// signedFor is how long a signed request may be under way. Whoever gets hold of one that had no effect could use it until then.
const signedFor = 10 * time.Minute

// sign signs operations, each on its own.
func (f *writeFlags) sign(ctx context.Context, d *document, ops []wire.Operation) error {
	if f.signKey == "" || f.keyID == "" {
		return usageError{errors.New("--sign-key and --key-id go together")}
	}
	key, err := sign.ReadPrivate(f.signKey)
	if err != nil {
		return err
	}
	status, err := d.Status(ctx)
	if err != nil {
		return err
	}
	actor, err := d.signer(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range ops {
		request, err := service.Request(&ops[i])
		if err != nil {
			return err
		}
		body := sign.Body{
			Doc: status.Document, ID: rand.Text(), Actor: actor, KeyID: f.keyID, Request: *request, ClientTime: now, Expires: now.Add(signedFor),
		}
		signed, err := sign.Sign(key, body)
		if err != nil {
			return err
		}
		s := signed.ForOp(&body)
		ops[i].Signed = &wire.Signature{Key: s.Key, Body: s.Body, Sig: s.Sig}
	}
	return nil
}

const dryRunNote = "Nothing was written: it was a dry run."

// done tells what became of operations.
func (f *writeFlags) done(cmd *cobra.Command, d *document, results []wire.Result) error {
	return show(cmd, *f.json, results, func(w io.Writer) {
		for i := range results {
			d.printEffects(w, results[i].Writes, f.intent)
		}
		if f.dryRun {
			fmt.Fprintln(w, dryRunNote)
		}
	})
}

func (d *document) printEffects(w io.Writer, writes []wire.Write, intent string) {
	for _, line := range d.effects(writes) {
		fmt.Fprintln(w, line+printable(because(intent)))
	}
	if len(writes) == 0 {
		fmt.Fprintln(w, "There was nothing to do.")
	}
}

func newConfigSet(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set ENTITY FIELD VALUE | set ENTITY.FIELD VALUE",
		Short: "Write a field of an entity, which begins if it is not there",
		Long: `Write a field of an entity, which begins if it is not there:

    skep config set route.api weight 80 --intent "shifting traffic for canary"
    skep config set service.api.replicas 5 --env staging
    skep config set service.api.env_vars[LOG_LEVEL] debug
    skep config set service.api ports --add 8080 --remove 80
    skep config set service.api.image --unset --env staging

Lists and maps are written in JSON, lists also as a,b,c. What becomes of the value is up to the field's strategy: of max, a lower value changes
nothing without --override. A value that begins with - is written behind --: set route.api offset -- -5`,
		Args: oneTo(3),
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; a value that begins with - comes behind --; see %q", err, cmd.CommandPath()+" --help")}
	})
	how := writeFlagsOf(cmd)
	env := environmentFlag(cmd)
	flags := cmd.Flags()
	override := flags.Bool("override", false, "go over what the strategy of max, min and grow says")
	unset := flags.Bool("unset", false, "take the value away: the environment inherits again, or the default counts")
	add := flags.StringArray("add", nil, "add an element to a set; can be repeated")
	remove := flags.StringArray("remove", nil, "remove an element from a set; can be repeated")
	exists := flags.Bool("must-exist", false, "refuse if the entity is not there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, text, err := setArguments(cmd, args, *unset || len(*add)+len(*remove) > 0)
		if err != nil {
			return err
		}
		if *unset && len(*add)+len(*remove) > 0 {
			return usageError{fmt.Errorf("--unset takes all away: it makes no sense beside --add and --remove")}
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			op := wire.Operation{
				Type: string(config.SetField), EntityID: path.entity, Field: path.field, Key: path.key, Environment: *env, Override: *override, MustExist: *exists,
			}
			switch {
			case *unset:
				op.Value = &wire.Value{}
			case len(*add)+len(*remove) > 0:
				if op.Add, err = d.elements(path, *add); err == nil {
					op.Remove, err = d.elements(path, *remove)
				}
			default:
				op.Value, err = d.parse(path, text)
			}
			if err != nil {
				return err
			}
			results, err := how.submit(ctx, d, []wire.Operation{op})
			if err != nil {
				return err
			}
			return show(cmd, *how.json, results[0], func(w io.Writer) {
				if still := d.still(&op, &results[0]); still != "" && !how.dryRun {
					fmt.Fprintln(w, printable(still))
					return
				}
				d.printEffects(w, results[0].Writes, how.intent)
				if how.dryRun {
					fmt.Fprintln(w, dryRunNote)
				}
			})
		})
	}
	return cmd
}

// fieldPath is a field, or a key of one, as people write it.
type fieldPath struct{ entity, field, key string }

func parsePath(entity, field string) (p fieldPath, err error) {
	p.entity, p.field, p.key, err = wire.ParsePath(entity, field)
	return p, err
}

// setArguments reads what is set, in either form. valueless says that flags say to what.
func setArguments(cmd *cobra.Command, args []string, valueless bool) (path fieldPath, text string, err error) {
	if !valueless {
		if len(args) < 2 {
			return path, "", usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
		}
		text, args = args[len(args)-1], args[:len(args)-1]
	}
	if len(args) > 2 {
		return path, "", usageError{fmt.Errorf("with --unset, --add or --remove there is no VALUE: %s", cmd.UseLine())}
	}
	path, err = parsePath(args[0], strings.Join(args[1:], ""))
	return path, text, err
}

// field returns what the schema says of a field; nil if it says nothing, which the engine then tells.
func (d *document) field(p fieldPath) *schema.Field {
	id, err := config.ParseEntity(p.entity)
	if err != nil {
		return nil
	}
	if t := d.schema.Entity(config.Type(id)); t != nil {
		return t.Field(p.field)
	}
	return nil
}

// parse reads a value that somebody typed, as the field's type has it.
func (d *document) parse(p fieldPath, text string) (*wire.Value, error) {
	f := d.field(p)
	if f == nil {
		return &wire.Value{Any: text}, nil
	}
	t := f.Type
	if p.key != "" {
		t = t.Element()
	}
	v, err := schema.ParseText(t, text)
	if err != nil {
		return nil, fmt.Errorf("%s.%s: %w", p.entity, p.field, err)
	}
	return &wire.Value{Any: v}, nil
}

func (d *document) elements(p fieldPath, texts []string) (list []wire.Value, err error) {
	t := schema.Type{}
	if f := d.field(p); f != nil {
		t = f.Type.Element()
	}
	for _, text := range texts {
		v, err := schema.ParseText(t, text)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", p.entity, p.field, err)
		}
		list = append(list, wire.Value{Any: v})
	}
	return list, nil
}

// still tells that a write did not become the field's value; "" if it did.
func (d *document) still(op *wire.Operation, r *wire.Result) string {
	f := d.field(fieldPath{entity: op.EntityID, field: op.Field})
	if f == nil || op.Value == nil || op.Value.Any == nil || op.Key != "" || r.Now == nil || value.Equal(r.Now.Any, op.Value.Any) {
		return ""
	}
	why := ""
	switch f.Merge {
	case schema.Max:
		why = ": the highest wins; --override goes over it"
	case schema.Min:
		why = ": the lowest wins; --override goes over it"
	case schema.Review:
		why = ": writes wait for somebody to choose; see skep config conflicts"
	case schema.Set, schema.Grow:
		return "" // sets are told by their elements
	case schema.LWW, schema.PerKey:
	}
	return fmt.Sprintf("%s is still %s%s.", d.pathOf(op.EntityID, op.Field, "", op.Environment), shown(r.Now), why)
}

func newConfigInsert(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "insert ENTITY [FIELD=VALUE]...",
		Short: "Begin an entity, with values",
		Args:  oneTo(1000),
	}
	how := writeFlagsOf(cmd)
	env := environmentFlag(cmd)
	flags := cmd.Flags()
	parent := flags.String("parent", "", "the entity that it is below")
	before := flags.String("before", "", "the parent's child that it comes before")
	after := flags.String("after", "", "the parent's child that it comes after (default the last one)")
	restore := flags.Bool("restore", false, "with the values that it had when it was removed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			op := wire.Operation{
				Type: string(config.InsertEntity), EntityID: args[0], Environment: *env, Parent: *parent, Before: *before, After: *after,
				Restore: *restore, Fields: map[string]wire.Value{},
			}
			for _, arg := range args[1:] {
				name, text, ok := strings.Cut(arg, "=")
				if _, twice := op.Fields[name]; !ok || twice {
					return usageError{fmt.Errorf("%q is not FIELD=VALUE, or the field is there twice", arg)}
				}
				v, err := d.parse(fieldPath{entity: args[0], field: name}, text)
				if err != nil {
					return err
				}
				op.Fields[name] = *v
			}
			results, err := how.submit(ctx, d, []wire.Operation{op})
			if err != nil {
				return err
			}
			return how.done(cmd, d, results)
		})
	}
	return cmd
}

func newConfigRemove(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "remove ENTITY...", Short: "Remove entities, in all environments", Args: oneTo(1000)}
	how := writeFlagsOf(cmd)
	cascade := cmd.Flags().Bool("cascade", false, "with all that is below them")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			var ops []wire.Operation
			for _, id := range args {
				ops = append(ops, wire.Operation{Type: string(config.RemoveEntity), EntityID: id, Cascade: *cascade})
			}
			results, err := how.submit(ctx, d, ops)
			if err != nil {
				return err
			}
			return how.done(cmd, d, results)
		})
	}
	return cmd
}

func newConfigMove(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "move ENTITY", Short: "Put an entity below another one, or elsewhere in the order", Args: exactly(1)}
	how := writeFlagsOf(cmd)
	flags := cmd.Flags()
	parent := flags.String("parent", "", "the entity that it comes below (default none: to the top)")
	before := flags.String("before", "", "the parent's child that it comes before")
	after := flags.String("after", "", "the parent's child that it comes after (default the last one)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			op := wire.Operation{Type: string(config.MoveEntity), EntityID: args[0], Parent: *parent, Before: *before, After: *after}
			results, err := how.submit(ctx, d, []wire.Operation{op})
			if err != nil {
				return err
			}
			return how.done(cmd, d, results)
		})
	}
	return cmd
}
