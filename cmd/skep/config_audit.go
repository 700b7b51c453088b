package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/auditlog"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/errkind"
)

func newConfigAudit(f *configFlags) *cobra.Command {
	return group("audit", "Export the log of operations, and check that nothing in it was changed", newConfigAuditExport(f), newConfigAuditVerify(f))
}

func newConfigAuditExport(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write operations as lines of JSON, to a new file or standard output",
		Long: `Write operations as lines of JSON, the oldest first, to a new file or standard output, each just as the log has it and with the hashes by
which "skep config audit verify" finds what was changed or taken out. With --until, --actor or --entity it is a choice, in which gaps say nothing.`,
		Args: exactly(0),
	}
	q := client.ExportQuery{}
	flags := cmd.Flags()
	flags.Var(momentValue{&q.Since}, "since", "only from this time on")
	flags.Var(momentValue{&q.Until}, "until", "only from before this time")
	flags.StringVar(&q.Actor, "actor", "", "only this actor's")
	flags.StringVar(&q.Entity, "entity", "", "only those that write to this one")
	output := flags.StringP("output", "o", stdinName, "the file; it must not be there yet (- is standard output)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) (err error) {
			to := cmd.OutOrStdout()
			if *output != stdinName {
				file, err := os.OpenFile(*output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				to = file
			}
			progress := newBar(cmd.ErrOrStderr())
			if d.folder != nil {
				d.folder.progress = counted(progress, "Exporting")
			}
			lines := &exportedLog{w: to}
			if err := d.ExportLog(ctx, lines, q); err != nil {
				return err
			}
			head, err := lines.head(ctx, d)
			if err == nil {
				progress.say("%d operations. The log's head is %s.", lines.n, head)
			}
			return err
		})
	}
	return cmd
}

// exportedLog counts the lines of an export, and keeps the last one, which tells the log's head.
type exportedLog struct {
	w    io.Writer
	n    int
	last []byte
}

func (e *exportedLog) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if bytes.HasSuffix(e.last, []byte("\n")) {
			e.last = e.last[:0]
		}
		if e.last = append(e.last, line...); bytes.HasSuffix(line, []byte("\n")) {
			e.n++
		}
	}
	return e.w.Write(p)
}

// head is the log's, when it was exported.
func (e *exportedLog) head(ctx context.Context, d *document) (string, error) {
	if e.n == 0 {
		s, err := d.Status(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d:%s", s.Operations, s.Head), nil
	}
	var line auditlog.Line
	if err := json.Unmarshal(e.last, &line); err != nil {
		return "", fmt.Errorf("read the last line: %w", err)
	}
	return line.Metadata.Head.String(), nil
}

// counted makes a bar of a count of records.
func counted(b *bar, stage string) func(done, total uint64) {
	return func(done, total uint64) {
		b.step(stage, int64(done), int64(total), "") //nolint:gosec // counts of records
	}
}

func newConfigAuditVerify(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check that nothing in the log, or in an export of it, was changed, taken out or cut off",
		Long: `Check the document's own log, or an export in a file (- is standard input): each operation against its hash, each hash against the one
before, the end, and the signatures of those operations that are signed.

Who may write to the log's file can make the whole log anew. Against that keep a head elsewhere and give it with --head: the log must have just
that operation. An export says the head at its end, and "skep config status" does.`,
		Args: atMostOne,
	}
	registry := cmd.Flags().String("key-registry", "", "the file with public keys (default .conflux/keys.json)")
	known := configHead{}
	cmd.Flags().Var(&known, "head", "an operation that the log must have, from an earlier time")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var report *auditlog.Report
		var err error
		anchored := ""
		found := known.Seq == 0
		seen := func(h auditlog.Head) { found = found || h == known.Head }
		if len(args) == 1 {
			report, err = verifyExport(cmd, args[0], f, *registry, seen)
		} else {
			err = f.inFolder(cmd, `"skep config audit export" and then "skep config audit verify FILE" check its log`, func(ctx context.Context, dir *folder) (err error) {
				keys, err := dir.keys(*registry)
				if err != nil {
					return err
				}
				anchors, err := dir.anchors(ctx)
				if err != nil {
					return err
				}
				n := len(anchors)
				report, err = auditlog.VerifyLog(ctx, dir.service.Document(), keys, func(h auditlog.Head) {
					seen(h)
					delete(anchors, h.Hash.String())
				}, counted(newBar(cmd.ErrOrStderr()), "Checking"))
				for hash, commit := range anchors {
					return errors.Join(err, fmt.Errorf("milestone %s says that the log had %s, and it has not: it was cut, or made anew: %w", short(commit), hash, errkind.Invalid))
				}
				if n > 0 {
					anchored = fmt.Sprintf(", and %d milestones' heads are among them", n)
				}
				return err
			})
		}
		if err == nil && !found {
			err = fmt.Errorf("there is no operation %s: the log was made anew, or is another one: %w", known.String(), errkind.Invalid)
		}
		if err != nil {
			return err
		}
		what := ""
		if report.Partial {
			what = ", chosen ones,"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d operations%s are in order, %d of them signed%s. The last one is %s.\n", report.Operations, what, report.Signed, anchored, report.Last)
		return nil
	}
	return cmd
}

// anchors are the heads that milestones say the log had, with their commits, where that takes no network.
func (w *folder) anchors(ctx context.Context) (map[string]string, error) {
	heads := map[string]string{}
	if w.work.Remote() {
		return heads, nil
	}
	list, err := w.Milestones(ctx, milestone.MaxListed)
	if errkind.Of(err) == errkind.NotFound {
		return heads, nil
	}
	for i := range list {
		if list[i].LogHead != "" {
			heads[list[i].LogHead] = list[i].ID
		}
	}
	return heads, err
}

// keys are the public keys of a file, or of the document.
func (w *folder) keys(file string) (*sign.Registry, error) {
	if file == "" {
		return sign.LoadRegistry(w.work.File(workspace.KeysFile))
	}
	return loadKeys(file)
}

// loadKeys reads a file with keys that has to be there.
func loadKeys(file string) (*sign.Registry, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	return sign.LoadRegistry(file)
}

// verifyExport checks a file. It needs no document, if it is told where the keys are.
func verifyExport(cmd *cobra.Command, name string, f *configFlags, registry string, seen func(auditlog.Head)) (*auditlog.Report, error) {
	keys := new(sign.Registry)
	if registry != "" {
		var err error
		if keys, err = loadKeys(registry); err != nil {
			return nil, err
		}
	} else if dir, err := workspace.Find(f.dir); err == nil {
		if keys, err = sign.LoadRegistry((&workspace.Workspace{Dir: dir}).File(workspace.KeysFile)); err != nil {
			return nil, err
		}
	}
	in := io.NopCloser(cmd.InOrStdin())
	if name != stdinName {
		var err error
		if in, err = os.Open(name); err != nil {
			return nil, err
		}
	}
	defer in.Close()
	report, err := auditlog.Verify(in, keys, seen)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return report, nil
}

// configHead is a flag like 17:sha256:4bf5….
type configHead struct{ auditlog.Head }

// Set implements pflag.Value, as all methods here.
func (v *configHead) Set(s string) error {
	number, hash, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	if err == nil {
		err = v.Hash.UnmarshalText([]byte(hash))
	}
	if err != nil || n == 0 {
		return fmt.Errorf("a head is NUMBER:sha256:HASH, as audit export says it at its end: %w", errkind.Invalid)
	}
	v.Seq = n
	return nil
}

func (v *configHead) String() string {
	if v.Seq == 0 {
		return ""
	}
	return v.Head.String()
}

// Type is how help calls a value.
func (v *configHead) Type() string { return "NUMBER:HASH" }
