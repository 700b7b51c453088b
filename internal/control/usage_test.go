package control_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/usage"
)

// noon is when tests of usage take place.
var noon = time.Date(2026, 5, 4, 12, 20, 0, 0, time.UTC)

// clockAt makes a control plane's clock stand at noon until it is moved.
func clockAt(c *control.Control) (move func(time.Duration)) {
	now := noon
	c.SetClock(func() time.Time { return now })
	return func(d time.Duration) { now = now.Add(d) }
}

// ledger adds records as a meter would.
type ledger struct {
	t *testing.T
	c *control.Control
	n int64
}

func (l *ledger) add(records ...usage.Record) {
	l.t.Helper()
	l.n++
	must0(l.t, l.c.AddUsage(l.t.Context(), usage.Batch{Meter: "test", Number: l.n, Records: records}))
}

func record(t id.Tenant, r id.Repo, at time.Time, k usage.Kind, n int64) usage.Record {
	return usage.Record{Key: usage.Key{Tenant: t, Repo: r}, Hour: at.Truncate(time.Hour), Kind: k, Amount: n}
}

// sumLines are a report's rows, for comparison.
func sumLines(sums []control.UsageSum) (out []string) {
	for _, s := range sums {
		start := ""
		if !s.Start.IsZero() {
			start = s.Start.UTC().Format("02T15 ")
		}
		who := s.TenantPath
		if s.RepoName != "" {
			who += "/" + s.RepoName
		} else if s.Key.Repo != "" {
			who += "/(gone)"
		}
		if who != "" {
			who += " "
		}
		out = append(out, fmt.Sprint(start, who, s.Kind, " ", s.Amount))
	}
	return out
}

func TestUsageIsReported(t *testing.T) { onEach(t, testUsageIsReported) }

func testUsageIsReported(t *testing.T, db backend) {
	c := open(t, db)
	clockAt(c)
	acme := tenant(t, c, "acme")
	web := tenant(t, c, "acme/web")
	other := tenant(t, c, "other")
	site, doomed := repo(t, c, acme.ID, "site"), repo(t, c, acme.ID, "doomed")
	app := repo(t, c, web.ID, "app")
	l := &ledger{t: t, c: c}
	l.add(
		record(acme.ID, site.ID, noon, usage.Fetch, 3), record(acme.ID, site.ID, noon, usage.BytesOut, 1000),
		record(acme.ID, site.ID, noon, usage.Storage, 500), record(acme.ID, doomed.ID, noon, usage.Push, 1),
		record(acme.ID, doomed.ID, noon, usage.Storage, 70), record(acme.ID, "", noon, usage.APIRead, 9),
		record(web.ID, app.ID, noon, usage.Fetch, 10), record(web.ID, app.ID, noon, usage.Storage, 8000),
		record(other.ID, "", noon, usage.APIRead, 10_000),
	)
	l.add(record(acme.ID, site.ID, noon.Add(time.Hour), usage.Fetch, 4), record(acme.ID, site.ID, noon.Add(24*time.Hour), usage.Fetch, 100))
	must0(t, c.DeleteRepo(t.Context(), doomed.ID))
	// A measurement that comes after the deletion is of nothing.
	l.add(record(acme.ID, doomed.ID, noon, usage.Storage, 70))

	all := control.UsageFilter{Tenant: acme.ID, From: noon.Add(-48 * time.Hour), To: noon.Add(48 * time.Hour), Step: control.Whole}
	with := func(change func(*control.UsageFilter)) control.UsageFilter {
		f := all
		change(&f)
		return f
	}
	tests := []struct {
		name string
		f    control.UsageFilter
		want []string
	}{
		{"in all", all, []string{"api.read 9", "bytes.out 1000", "fetch 107", "push 1", "storage 500"}},
		{"by day", with(func(f *control.UsageFilter) { f.Step = control.Daily }), []string{
			"04T00 api.read 9", "04T00 bytes.out 1000", "04T00 fetch 7", "04T00 push 1", "05T00 fetch 100", "storage 500",
		}},
		{"by hour, of the day", with(func(f *control.UsageFilter) { f.Step, f.To = control.Hourly, noon.Add(2*time.Hour) }), []string{
			"04T12 api.read 9", "04T12 bytes.out 1000", "04T12 fetch 3", "04T12 push 1", "04T13 fetch 4", "storage 500",
		}},
		{"with children", with(func(f *control.UsageFilter) { f.Children = true }), []string{
			"api.read 9", "bytes.out 1000", "fetch 117", "push 1", "storage 8500",
		}},
		{"of one repository", with(func(f *control.UsageFilter) { f.Repo, f.ByRepo = site.ID, true }), []string{
			"acme/site bytes.out 1000", "acme/site fetch 107", "acme/site storage 500",
		}},
		{"of one that is gone", with(func(f *control.UsageFilter) { f.Repo, f.ByRepo = doomed.ID, true }), []string{"acme/(gone) push 1"}},
		{"of another time", with(func(f *control.UsageFilter) { f.To = f.From }), []string{"storage 500"}},
		{"of nobody", with(func(f *control.UsageFilter) { f.Tenant = "ten_none" }), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sums, err := c.Usage(t.Context(), tt.f)
			if diff := cmp.Diff(tt.want, sumLines(must(t, sums, err))); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
	sums, err := c.Usage(t.Context(), with(func(f *control.UsageFilter) { f.Children, f.ByRepo = true, true }))
	if must0(t, err); len(sums) != 7 { // the order is by identifiers, which are made up
		t.Errorf("by repository there are %d rows: %v", len(sums), sumLines(sums))
	}
}

func TestABatchIsAddedOnce(t *testing.T) { onEach(t, testABatchIsAddedOnce) }

func testABatchIsAddedOnce(t *testing.T, db backend) {
	c := open(t, db)
	clockAt(c)
	acme := tenant(t, c, "acme")
	batch := func(meter string, number int64) usage.Batch {
		return usage.Batch{Meter: meter, Number: number, Records: []usage.Record{record(acme.ID, "", noon, usage.APIRead, 1)}}
	}
	for _, b := range []usage.Batch{batch("a", 1), batch("a", 1), batch("b", 1), batch("a", 2), batch("a", 1), batch("b", 2), batch("b", 2)} {
		must0(t, c.AddUsage(t.Context(), b))
	}
	sums, err := c.Usage(t.Context(), control.UsageFilter{Tenant: acme.ID, To: noon.Add(time.Hour), Step: control.Whole})
	if diff := cmp.Diff([]string{"api.read 4"}, sumLines(must(t, sums, err))); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestEventsComeOnce: a billing system that reads with its cursor gets each record once, however late and in whatever order they
// come into the database.
func TestEventsComeOnce(t *testing.T) { onEach(t, testEventsComeOnce) }

func testEventsComeOnce(t *testing.T, db backend) {
	c := open(t, db)
	move := clockAt(c)
	l := &ledger{t: t, c: c}
	var after usage.Record
	sum := int64(0)
	seen := map[usage.Record]bool{}
	read := func() (n int) {
		t.Helper()
		for {
			events, err := c.UsageEvents(t.Context(), after, 3)
			for _, e := range must(t, events, err) {
				bare := e
				bare.Amount = 0
				if seen[bare] {
					t.Fatalf("%+v comes twice", e)
				}
				seen[bare], after, sum, n = true, e, sum+e.Amount, n+1
			}
			if len(events) == 0 {
				return n
			}
		}
	}
	for i := range 10 {
		l.add(record(id.Tenant(fmt.Sprint("ten_", i%4)), id.Repo(fmt.Sprint("repo_", i)), noon, usage.Fetch, 1))
	}
	l.add(record("ten_1", "", noon, usage.Push, 1))
	if n := read(); n != 0 {
		t.Errorf("an hour that goes on has %d events", n)
	}
	move(time.Hour) // 13:20, past the grace
	if n := read(); n != 11 {
		t.Errorf("a closed hour has %d events, want 11", n)
	}
	// What comes now for the closed hour counts in this one.
	l.add(record("ten_0", "repo_0", noon, usage.Fetch, 1), record("ten_9", "repo_9", noon.Add(-48*time.Hour), usage.Fetch, 1))
	if n := read(); n != 0 {
		t.Errorf("after the hour was closed, %d more events come", n)
	}
	move(time.Hour)
	if n := read(); n != 2 || sum != 13 {
		t.Errorf("in the end come %d events; all sum up to %d, want 2, 13", n, sum)
	}
	if _, err := c.UsageEvents(t.Context(), usage.Record{}, control.MaxPage+1); err != nil {
		t.Error(err)
	}
}

func TestOldUsageGoes(t *testing.T) { onEach(t, testOldUsageGoes) }

func testOldUsageGoes(t *testing.T, db backend) {
	c := open(t, db)
	move := clockAt(c)
	acme := tenant(t, c, "acme")
	l := &ledger{t: t, c: c}
	for i := range 1500 { // more than a step
		l.add(record(acme.ID, id.Repo(fmt.Sprint("repo_", i)), noon, usage.Fetch, 1))
		if db.name == "postgres" && i == 20 {
			break // a transaction each is slow there
		}
	}
	move(399 * 24 * time.Hour)
	l.add(record(acme.ID, "repo_new", noon.Add(399*24*time.Hour), usage.Fetch, 7))
	rows := func() int {
		sums, err := c.Usage(t.Context(), control.UsageFilter{Tenant: acme.ID, To: noon.Add(1000 * 24 * time.Hour), Step: control.Whole, ByRepo: true})
		return len(must(t, sums, err))
	}
	before := rows()
	_, err := c.PruneUsage(t.Context())
	if must0(t, err); rows() != before {
		t.Error("what is 399 days old is gone")
	}
	move(2 * 24 * time.Hour)
	for {
		more, err := c.PruneUsage(t.Context())
		if must0(t, err); !more {
			break
		}
	}
	if n := rows(); n != 1 {
		t.Errorf("%d rows are left, want 1", n)
	}
}

func TestReportsAreBounded(t *testing.T) {
	c := open(t, onSQLite)
	clockAt(c)
	acme := tenant(t, c, "acme")
	l := &ledger{t: t, c: c}
	var list []usage.Record
	for i := range 20_001 {
		list = append(list, record(acme.ID, id.Repo(fmt.Sprint("repo_", i)), noon, usage.Fetch, 1))
	}
	l.add(list...)
	f := control.UsageFilter{Tenant: acme.ID, To: noon.Add(time.Hour), Step: control.Whole, ByRepo: true}
	_, err := c.Usage(t.Context(), f)
	if !errors.Is(err, errkind.TooLarge) {
		t.Errorf("20,001 rows: %v, want %v", err, errkind.TooLarge)
	}
}
