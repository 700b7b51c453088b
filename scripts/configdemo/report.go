package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// report tells what happened, and checks it. It fails if a check does.
func (d *demo) report(ctx context.Context, w io.Writer) error {
	e, err := d.gather(ctx)
	if err != nil {
		return err
	}
	e.table(w)
	if err := e.gitLog(ctx, w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	failures := 0
	for _, c := range e.checks() {
		found, err := c.run(ctx)
		if err != nil {
			failures++
			fmt.Fprintf(w, "FAILED  %s: %v\n", c.what, err)
			continue
		}
		fmt.Fprintf(w, "ok      %s: %s\n", c.what, found)
	}
	if failures > 0 {
		return fmt.Errorf("%d checks failed", failures)
	}
	return nil
}

// clients says how each writer writes.
var clients = map[string]string{zara: "command line", pipeline: "REST", operator: "gRPC", autoscaler: "REST"}

func (e *evidence) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nWRITER\tCLIENT\tDECIDED\tACKNOWLEDGED\tNO CHANGE\tSENT AGAIN\tREFUSED\tp50\tp99\tLONGEST WAIT")
	for _, l := range e.ledgers() {
		s := l.summary()
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", s.actor, clients[s.actor], s.decided, s.acknowledged, s.unchanged, s.retried, s.refused,
			s.p50.Round(100*time.Microsecond), s.p99.Round(100*time.Microsecond), s.longest.Round(10*time.Millisecond))
	}
	_ = t.Flush()
	fmt.Fprintln(t, "\nPARTED\tTIMES\tIN ALL\tHOW")
	for _, actor := range []string{pipeline, operator, autoscaler} {
		p := e.partings[actor]
		times, how := 0, []string{}
		for c, n := range p.ways {
			if times += n; n > 0 {
				how = append(how, fmt.Sprintf("%d × %s", n, cut(c)))
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", actor, times, p.total.Round(100*time.Millisecond), strings.Join(how, ", "))
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\nThe daemon was killed once and was away for %s. The queues were empty %s after the last decision.\n",
		e.down.Round(10*time.Millisecond), e.drained.Round(10*time.Millisecond))
}

// maxMessageLines is how much of a commit's message is shown.
const maxMessageLines = 24

// gitLog shows what people see of it all.
func (e *evidence) gitLog(ctx context.Context, w io.Writer) error {
	list, err := e.git(ctx, "log", "--date=format:%H:%M:%S", "--format=  %h  %ad  %an  %s", "-n", "20")
	if err != nil {
		return err
	}
	last, err := e.git(ctx, "log", "-1", "--format=%B", "HEAD~1")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\ngit log:\n  %s\n\nOf these the last but one:\n\n", list)
	lines := strings.Split(last, "\n")
	for i, line := range lines {
		if i < maxMessageLines*2/3 || i >= len(lines)-maxMessageLines/3 || len(lines) <= maxMessageLines {
			fmt.Fprintln(w, "  "+line)
		} else if i == maxMessageLines*2/3 {
			fmt.Fprintf(w, "  … %d lines more …\n", len(lines)-maxMessageLines)
		}
	}
	return nil
}
