package publish_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// auto is a document whose milestones are made by themselves, with a clock that stands still until somebody moves it.
type auto struct {
	*publish.Publisher
	t    *testing.T
	doc  *engine.Document
	set  func(field string, value any)
	opts publish.Options
	now  time.Time
	look func(context.Context) error
}

func newAuto(t *testing.T, when publish.Auto) *auto {
	t.Helper()
	doc, set := shop(t)
	a := &auto{t: t, doc: doc, set: set, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), opts: (&target{dir: t.TempDir()}).options()}
	a.opts.Auto, a.opts.Now = when, func() time.Time { return a.now }
	a.restart()
	return a
}

// restart is another process.
func (a *auto) restart() {
	a.Publisher = publish.New(a.doc, a.opts)
	a.look = publish.Worker(a.Publisher)
}

// after moves the clock on and has the process look, as it would have meanwhile.
func (a *auto) after(d time.Duration) error {
	a.now = a.now.Add(d)
	return a.look(a.t.Context())
}

// made fails the test unless there are so many milestones.
func (a *auto) made(want int) {
	a.t.Helper()
	list, err := a.List(a.t.Context(), 100)
	if err != nil {
		a.t.Fatal(err)
	}
	if len(list) != want {
		a.t.Fatalf("at %s there are %d milestones, want %d", a.now.Format(time.TimeOnly), len(list), want)
	}
}

// quietly is after, where nothing goes wrong.
func (a *auto) quietly(d time.Duration) {
	a.t.Helper()
	if err := a.after(d); err != nil {
		a.t.Fatal(err)
	}
}

func TestAfterSoManyOperations(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{After: 3, Message: "by itself"}) // the schema is the first operation
	a.set("replicas", int64(1))
	a.quietly(time.Hour)
	a.made(0)
	a.set("replicas", int64(2))
	a.quietly(time.Second)
	a.made(1)
	m, err := a.Show(t.Context(), "")
	if err != nil || m.Message != "by itself" || m.Author != "skep <skep@skep.invalid>" || m.Operations != 3 {
		t.Errorf("got %+v, %v", m, err)
	}
	a.quietly(time.Hour)
	a.made(1)
	for i := range 3 {
		a.set("replicas", int64(3+i))
		a.quietly(time.Second)
	}
	a.made(2)
}

// By time it is a grid: an hour after the last one, and each hour after that, if something has changed.
func TestEverySoOften(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{Every: time.Hour})
	a.quietly(0)
	a.quietly(59 * time.Minute)
	a.made(0)
	a.quietly(time.Minute) // 13:00
	a.made(1)
	a.quietly(90 * time.Minute) // 14:30
	a.set("replicas", int64(2))
	a.quietly(0)
	a.quietly(29 * time.Minute)
	a.made(1)
	if s, err := a.Automatic(t.Context()); err != nil || s.Next != "2026-03-01T15:00:00Z" || s.Operations != 1 {
		t.Errorf("status %+v, %v, want one operation and 15:00", s, err)
	}
	a.quietly(time.Minute) // 15:00
	a.made(2)
	a.quietly(5 * time.Hour)
	a.made(2)

	// A process that begins late makes up for the time when there was none.
	a.set("replicas", int64(3))
	a.now = a.now.Add(2 * time.Hour)
	a.restart()
	a.quietly(0)
	a.made(3)
}

// While somebody writes there is none, though not for ever.
func TestQuiet(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{After: 1, Quiet: 30 * time.Second})
	a.quietly(0)
	a.quietly(29 * time.Second)
	a.made(0)
	a.quietly(time.Second)
	a.made(1)
	writes := 0
	for len(a.list()) == 1 {
		a.set("replicas", int64(1+writes%9))
		a.quietly(20 * time.Second)
		writes++
	}
	if writes != 16 { // begun by the first one, and 300 s later it is too long
		t.Errorf("there was a milestone after %d writes", writes)
	}
}

func (a *auto) list() []wire.Milestone {
	a.t.Helper()
	list, err := a.List(a.t.Context(), 100)
	if err != nil {
		a.t.Fatal(err)
	}
	return list
}

// A milestone that somebody asks for counts: the next one is due as long after it.
func TestOtherMilestonesCount(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{After: 3, Every: time.Hour})
	a.quietly(0)
	a.set("replicas", int64(2))
	a.quietly(50 * time.Minute)
	by := &service.Caller{Service: service.New(a.doc, service.Options{}), Actor: zara}
	if _, err := a.Create(t.Context(), by, wire.NewMilestone{Message: "by hand"}); err != nil {
		t.Fatal(err)
	}
	a.set("replicas", int64(3))
	a.quietly(50 * time.Minute)
	a.made(1)
	a.quietly(10 * time.Minute)
	a.made(2)
}

// What stands in the way is told, and tried again when the document is another, or after a while; not at each look.
func TestRefused(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{After: 1})
	a.set("needs", "service.none")
	opened := 0
	open := a.opts.Open
	a.opts.Open = func(ctx context.Context, begin bool) (publish.Target, error) {
		opened++
		return open(ctx, begin)
	}
	a.restart()
	if err := a.after(0); !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "service.api.needs@production") {
		t.Fatalf("got %v, want what stands in the way", err)
	}
	s, err := a.Automatic(t.Context())
	if err != nil || !strings.Contains(s.Refused, "service.api.needs@production") || s.RefusedAt != "2026-03-01T12:00:00Z" || s.Next != "" {
		t.Errorf("status %+v, %v", s, err)
	}
	for range 59 {
		a.quietly(time.Second)
	}
	a.set("needs", "service.nobody")
	if err := a.after(time.Second); !errors.Is(err, errkind.Conflict) || opened != 2 {
		t.Fatalf("after a minute and a change: %v, opened %d times", err, opened)
	}
	a.quietly(9 * time.Minute)
	if err := a.after(time.Minute); !errors.Is(err, errkind.Conflict) || opened != 3 {
		t.Fatalf("after ten minutes without a change: %v, opened %d times", err, opened)
	}
	a.set("needs", nil)
	a.quietly(time.Minute)
	a.made(1)
	if s, err := a.Automatic(t.Context()); err != nil || s.Refused != "" || s.Commit == "" {
		t.Errorf("status %+v, %v, want no refusal any more", s, err)
	}
}

// Several processes look at one document, and one of them makes each milestone.
func TestOneOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{After: 1})
	opened := make(chan struct{}, 100)
	open := a.opts.Open
	a.opts.Open = func(ctx context.Context, begin bool) (publish.Target, error) {
		opened <- struct{}{}
		return open(ctx, begin)
	}
	var processes []func(context.Context) error
	for range 5 {
		processes = append(processes, publish.Worker(publish.New(a.doc, a.opts)))
	}
	for round := range 3 {
		a.set("replicas", int64(1+round))
		var all sync.WaitGroup
		for _, look := range processes {
			all.Go(func() {
				if err := look(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(opened); n != round+1 {
			t.Fatalf("after %d changes %d processes went to the repository", round+1, n)
		}
	}
	a.made(3)
}

// A process that ends while it makes one leaves the others its lease, which passes.
func TestProcessEndsInBetween(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{After: 1})
	dying, die := context.WithCancel(t.Context())
	hanging := a.opts
	hanging.Open = func(ctx context.Context, _ bool) (publish.Target, error) {
		die()
		return publish.Target{}, ctx.Err()
	}
	if err := publish.Worker(publish.New(a.doc, hanging))(dying); err != nil {
		t.Fatal(err)
	}
	a.quietly(0)
	a.made(1)
	if s, err := a.Automatic(t.Context()); err != nil || s.Refused != "" {
		t.Errorf("status %+v, %v: to end is no refusal", s, err)
	}
}

func TestAutoSettings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		auto publish.Auto
		want string
	}{
		"none":                {publish.Auto{}, ""},
		"all":                 {publish.Auto{Every: time.Minute, After: 1, Quiet: time.Second, Environments: []string{"production"}, Message: "x"}, ""},
		"too often":           {publish.Auto{Every: time.Second}, "every: 1s is less than 1m"},
		"before now":          {publish.Auto{Every: -time.Hour}, "every: -1h"},
		"too quiet":           {publish.Auto{After: 1, Quiet: 2 * time.Hour}, "quiet: 2h"},
		"nothing says when":   {publish.Auto{Quiet: time.Second}, "neither every nor after"},
		"a message of a line": {publish.Auto{After: 1, Message: "x\ny"}, "one line"},
	} {
		if err := tt.auto.Check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
