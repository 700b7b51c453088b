package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// check is something that has to be so. It tells what was found.
type check struct {
	what string
	run  func(ctx context.Context) (string, error)
}

// evidence is what is held against each other.
type evidence struct {
	*demo
	log    []record // the oldest first
	writes []*write // those that are in the log, in its order
	model  *model
}

// gather reads the log, and works out what it comes to.
func (d *demo) gather(ctx context.Context) (*evidence, error) {
	e := &evidence{demo: d, model: newModel()}
	var page struct {
		Operations []record `json:"operations"`
	}
	if err := d.stage.read(ctx, "", &page, "log", "-n", "100000000"); err != nil {
		return nil, err
	}
	e.log = page.Operations
	slices.Reverse(e.log)
	for _, l := range d.ledgers() {
		for _, w := range l.writes {
			if w.refused == nil && w.result.Seq > 0 {
				e.writes = append(e.writes, w)
			}
		}
	}
	slices.SortFunc(e.writes, bySeq)
	for _, w := range e.writes {
		e.model.apply(w)
	}
	return e, nil
}

func (d *demo) ledgers() []*ledger {
	return []*ledger{d.person.ledger, d.pipeline.ledger, d.operator.ledger, d.autoscaler.ledger}
}

func (e *evidence) checks() []check {
	return []check{
		{"no write is lost, and none is done twice", e.once},
		{"what was refused is not in the log, and had to be refused", e.refusals},
		{"every field is what its writes come to", e.values},
		{"every conflict was listed, and no other one", e.conflicts},
		{"the operator's watch has everything once", e.watch},
		{"the log is as it was before the crash, and goes on", e.audit},
		{"history has the milestones, and nobody had to merge", e.history},
		{"files are what the document says", e.files},
		{"the reconciler has applied the last milestone", e.applied},
	}
}

// once holds the log against what the writers know.
func (e *evidence) once(context.Context) (string, error) {
	known := map[uint64]*write{}
	for _, w := range e.writes {
		if other := known[w.result.Seq]; other != nil {
			return "", fmt.Errorf("number %d of the log was said of %s and %s", w.result.Seq, w.tag(), other.tag())
		}
		known[w.result.Seq] = w
	}
	for _, l := range e.ledgers() {
		if s := l.summary(); s.unknown > 0 {
			return "", fmt.Errorf("nobody knows what became of %d writes of %s", s.unknown, s.actor)
		}
	}
	for i, r := range e.log {
		if r.Seq != uint64(i)+1 {
			return "", fmt.Errorf("the log has number %d in place %d", r.Seq, i+1)
		}
		if r.Seq <= e.begun {
			continue
		}
		w := known[r.Seq]
		switch {
		case w == nil:
			return "", fmt.Errorf("the log has %s of %s (%s %s), which nobody was told of", r.ID, r.Actor.ID, r.Via, r.Intent)
		case w.result.ID != r.ID || w.op.Intent != r.Intent || r.Actor.ID != zara && w.tag() != r.Via:
			return "", fmt.Errorf("number %d is %s %s in the log, and %s %s for its writer", r.Seq, r.ID, r.Via, w.result.ID, w.tag())
		}
		delete(known, r.Seq)
	}
	for _, w := range known {
		return "", fmt.Errorf("the log has lost %s, number %d: %s", w.tag(), w.result.Seq, w.op.Intent)
	}
	return fmt.Sprintf("%d operations", len(e.log)), nil
}

// refusals: each network writer tried something that it may not do, and nothing is promoted while somebody has to choose.
func (e *evidence) refusals(context.Context) (string, error) {
	forbidden, waiting := 0, 0
	for _, l := range e.ledgers() {
		for _, w := range l.writes {
			if w.refused == nil {
				continue
			}
			no, ok := errors.AsType[*refusal](w.refused)
			switch {
			case ok && no.status == http.StatusForbidden && w.op.Intent == notPermitted:
				forbidden++
			case ok && no.status == http.StatusConflict && w.op.Type == "promote":
				waiting++
			default:
				return "", fmt.Errorf("%s was refused: %w", w.tag(), w.refused)
			}
			if slices.ContainsFunc(e.log, func(r record) bool { return r.Via == w.tag() }) {
				return "", fmt.Errorf("%s was refused, and is in the log", w.tag())
			}
		}
	}
	if forbidden != 3 {
		return "", fmt.Errorf("%d of 3 writes that are not permitted were refused", forbidden)
	}
	return fmt.Sprintf("%d not permitted, %d promotions while somebody had to choose", forbidden, waiting), nil
}

// values compares the state of each environment with the model.
func (e *evidence) values(ctx context.Context) (string, error) {
	n := 0
	for _, env := range environs {
		s, err := e.state(ctx, env)
		if err != nil {
			return "", err
		}
		for _, got := range s.Entities {
			want := e.model.want(got.ID, env)
			for _, name := range slices.Sorted(maps.Keys(want)) {
				n++
				if v := encoded(got.Fields[name]); v != encoded(want[name]) {
					return "", fmt.Errorf("%s.%s in %s is %s, and its writes come to %s", got.ID, name, env, v, encoded(want[name]))
				}
			}
			if len(got.Fields) != len(want) {
				return "", fmt.Errorf("%s in %s has %d fields, want %d", got.ID, env, len(got.Fields), len(want))
			}
		}
		if len(s.Entities) != 3*len(names) {
			return "", fmt.Errorf("%s has %d entities, want %d", env, len(s.Entities), 3*len(names))
		}
	}
	return fmt.Sprintf("%d values in %d environments", n, len(environs)), nil
}

func (e *evidence) state(ctx context.Context, env string) (*state, error) {
	c := &restClient{http: &http.Client{}, address: e.stage.restAddress, key: e.stage.keys[auditor]}
	s := &state{}
	return s, c.do(ctx, http.MethodGet, "/v1/envs/"+env+"/state", "", nil, s)
}

// conflicts: those of the model are those that the watch told and that the person was shown. At the end there is none.
func (e *evidence) conflicts(ctx context.Context) (string, error) {
	told := map[string]bool{}
	for _, ev := range e.operator.seen {
		if ev.service != "" {
			told[ev.id] = ev.conflict
		}
	}
	for id, want := range e.model.flags {
		if told[id] != want {
			return "", fmt.Errorf("after %s, conflict = %t was told, want %t", id, told[id], want)
		}
	}
	for path, list := range e.person.shown {
		for ids := range list {
			if !e.model.states[path][ids] {
				return "", fmt.Errorf("%s was listed with %s, which had seen each other", path, ids)
			}
		}
	}
	shown := 0
	for path, list := range e.model.states {
		if e.person.shown[path] == nil {
			return "", fmt.Errorf("the conflict of %s was never listed", path)
		}
		shown += len(list)
	}
	var left []conflict
	if err := e.stage.read(ctx, zara, &left, "conflicts"); err != nil {
		return "", err
	}
	switch {
	case len(left) > 0:
		return "", fmt.Errorf("%d are left", len(left))
	case e.model.opened == 0:
		return "", errors.New("there was none: the run shows too little")
	case e.model.choices != e.model.opened:
		return "", fmt.Errorf("%d were opened, and %d were closed", e.model.opened, e.model.choices)
	}
	return fmt.Sprintf("%d contests while parted, %d conflicts, %d choices, none is left", e.contests, e.model.opened, e.person.resolved), nil
}

// watch: cursors only grow, and every operation that has changed something was told.
func (e *evidence) watch(context.Context) (string, error) {
	told, last := map[string]bool{}, e.begun
	for _, ev := range e.operator.seen {
		if ev.cursor <= last {
			return "", fmt.Errorf("after %d came %d", last, ev.cursor)
		}
		last = ev.cursor
		told[ev.id] = true
		if r := e.log[ev.cursor-1]; r.ID != ev.id {
			return "", fmt.Errorf("event %d is %s, and %s in the log", ev.cursor, ev.id, r.ID)
		}
	}
	for id := range e.model.visible {
		if !told[id] {
			return "", fmt.Errorf("%s has changed something, and was not told", id)
		}
	}
	return fmt.Sprintf("%d events over %d connections", len(told), e.operator.opened), nil
}

func (e *evidence) audit(ctx context.Context) (string, error) {
	out, err := e.stage.skep(ctx, "", "audit", "verify", "--head", e.head)
	return strings.TrimSpace(string(out)), err
}

// git runs git on the repository of the milestones.
func (e *evidence) git(ctx context.Context, args ...string) (string, error) {
	out, err := e.stage.command(ctx, nil, "git", args...)
	return strings.TrimSpace(string(out)), err
}

// history: one line of milestones, in which each operation is once.
func (e *evidence) history(ctx context.Context) (string, error) {
	if _, err := e.git(ctx, "fsck", "--strict"); err != nil {
		return "", err
	}
	merges, err := e.git(ctx, "rev-list", "--count", "--merges", "HEAD")
	if err != nil || merges != "0" {
		return "", fmt.Errorf("%s commits are merges: %w", merges, err)
	}
	text, err := e.git(ctx, "log", "--format=%s%x00%b%x01")
	if err != nil {
		return "", err
	}
	operations, commits := 0, strings.Split(strings.TrimSuffix(text, "\x01"), "\x01")
	for _, c := range commits {
		subject, body, _ := strings.Cut(strings.TrimSpace(c), "\x00")
		n, ok := countOf(body)
		if !ok || !strings.HasPrefix(subject, "milestone: ") {
			return "", fmt.Errorf("commit %q is no milestone", subject)
		}
		operations += n
	}
	if len(commits) != len(e.person.milestones) || operations != len(e.log) {
		return "", fmt.Errorf("%d commits have %d operations, want %d with %d", len(commits), operations, len(e.person.milestones), len(e.log))
	}
	return fmt.Sprintf("%d milestones with %d operations; %d waited for a choice", len(commits), operations, e.person.waited), nil
}

// countOf reads how many operations a milestone's message tells.
func countOf(body string) (n int, ok bool) {
	for line := range strings.Lines(body) {
		if text, found := strings.CutPrefix(line, "Operations: "); found {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			return n, err == nil
		}
	}
	return 0, false
}

// files: what git has checked out, read as YAML, is the state.
func (e *evidence) files(ctx context.Context) (string, error) {
	if dirty, err := e.git(ctx, append([]string{"status", "--porcelain", "--"}, environs...)...); err != nil || dirty != "" {
		return "", fmt.Errorf("the worktree is not as the commit: %s: %w", dirty, err)
	}
	n := 0
	for _, env := range environs {
		s, err := e.state(ctx, env)
		if err != nil {
			return "", err
		}
		for _, want := range s.Entities {
			kind, name, _ := strings.Cut(want.ID, ".")
			text, err := os.ReadFile(filepath.Join(e.stage.dir, env, kind+"s.yaml"))
			if err != nil {
				return "", err
			}
			entities := map[string]map[string]any{}
			if err := yaml.Unmarshal(text, &entities); err != nil {
				return "", err
			}
			got := entities[name]
			maps.DeleteFunc(got, func(field string, _ any) bool { return strings.HasPrefix(field, "_") })
			if encoded(got) != encoded(want.Fields) {
				return "", fmt.Errorf("%s in %s is %s in its file, and %s in the document", want.ID, env, encoded(got), encoded(want.Fields))
			}
			n++
		}
	}
	return fmt.Sprintf("%d entities in YAML", n), nil
}

// applied compares the reconciler's files with those of the last milestone, both ways.
func (e *evidence) applied(ctx context.Context) (string, error) {
	list, err := e.git(ctx, "ls-tree", "-r", "--name-only", "-z", "HEAD")
	if err != nil {
		return "", err
	}
	want := strings.Split(strings.Trim(list, "\x00"), "\x00")
	for _, name := range want {
		a, err := os.ReadFile(filepath.Join(e.stage.dir, name))
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile(filepath.Join(e.reconciler.target, name))
		if err != nil || !bytes.Equal(a, b) {
			return "", fmt.Errorf("%s is another one at the target: %w", name, err)
		}
	}
	got := 0
	err = fs.WalkDir(os.DirFS(e.reconciler.target), ".", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got++
		}
		return err
	})
	if err != nil || got != len(want) {
		return "", fmt.Errorf("the target has %d files, want %d: %w", got, len(want), err)
	}
	return fmt.Sprintf("%d files, after %d commits", got, len(e.reconciler.commits)), nil
}
