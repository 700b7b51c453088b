package control_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

func TestRepoLife(t *testing.T) { onEach(t, testRepoLife) }

func testRepoLife(t *testing.T, db backend) {
	c := open(t, db)
	clk := &clock{time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
	c.SetClock(clk.now)
	a := tenant(t, c, "Acme")

	var seen control.Repo
	r, err := c.CreateRepo(t.Context(), a.ID, "Site", true, func(r control.Repo) error {
		seen = r
		return nil
	})
	must0(t, err)
	want := control.Repo{ID: r.ID, Tenant: a.ID, TenantPath: "Acme", Name: "Site", Path: "Acme/Site", Public: true, Created: clk.t, Updated: clk.t}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("given to make (-want +got):\n%s", diff)
	}
	// find checks every way to it, from the database and from memory.
	find := func(name string) {
		t.Helper()
		for range 3 {
			got, err := c.Repo(t.Context(), r.ID)
			if diff := cmp.Diff(want, must(t, got, err)); diff != "" {
				t.Errorf("by ID (-want +got):\n%s", diff)
			}
			for _, n := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
				got, err = c.RepoByName(t.Context(), "aCME", n)
				if diff := cmp.Diff(want, must(t, got, err)); diff != "" {
					t.Errorf("by name %s (-want +got):\n%s", n, diff)
				}
			}
		}
	}
	missing := func(name string) {
		t.Helper()
		for range 2 {
			_, err := c.RepoByName(t.Context(), "acme", name)
			wantKind(t, name, err, errkind.NotFound)
		}
	}
	find("Site")
	missing("sit\u212a") // no Kelvin sign is a k

	clk.t = clk.t.Add(time.Hour)
	got, err := c.RenameRepo(t.Context(), r.ID, "Home")
	want.Name, want.Path, want.Updated = "Home", "Acme/Home", clk.t
	if diff := cmp.Diff(want, must(t, got, err)); diff != "" {
		t.Errorf("renamed (-want +got):\n%s", diff)
	}
	find("Home")
	missing("Site")

	got, err = c.SetPublic(t.Context(), r.ID, false)
	want.Public = false
	if diff := cmp.Diff(want, must(t, got, err)); diff != "" {
		t.Errorf("made private (-want +got):\n%s", diff)
	}
	find("Home")

	// Another repository takes the name that became free; the old one takes it back once it is gone.
	other := repo(t, c, a.ID, "Site")
	by, err := c.RepoByName(t.Context(), "acme", "site")
	if must(t, by, err); by.ID != other.ID {
		t.Errorf("site = %s, want %s", by.ID, other.ID)
	}
	must0(t, c.DeleteRepo(t.Context(), other.ID))
	missing("Site")
	got, err = c.RenameRepo(t.Context(), r.ID, "Site")
	want = must(t, got, err)
	find("Site")

	must0(t, c.DeleteRepo(t.Context(), r.ID))
	missing("Site")
	_, err = c.Repo(t.Context(), r.ID)
	wantKind(t, "by ID", err, errkind.NotFound)
	for what, err := range map[string]error{
		"delete":     c.DeleteRepo(t.Context(), r.ID),
		"rename":     second(c.RenameRepo(t.Context(), r.ID, "x")),
		"set public": second(c.SetPublic(t.Context(), r.ID, true)),
	} {
		wantKind(t, what+" what is gone", err, errkind.NotFound)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCreateRepoWithoutItsCell(t *testing.T) { onEach(t, testCreateRepoWithoutItsCell) }

func testCreateRepoWithoutItsCell(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "acme")

	// Given that the cell cannot be made, nothing is recorded, and the name is free.
	broken := errors.New("disk is full")
	_, err := c.CreateRepo(t.Context(), a.ID, "site", false, func(control.Repo) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("CreateRepo = %v, want %v", err, broken)
	}
	_, err = c.RepoByName(t.Context(), "acme", "site")
	wantKind(t, "site", err, errkind.NotFound)

	// While one makes the cell, another one cannot, and its cell is not made either.
	_, err = c.CreateRepo(t.Context(), a.ID, "site", false, func(control.Repo) error {
		_, err := c.CreateRepo(t.Context(), a.ID, "SITE", false, func(control.Repo) error {
			t.Error("two cells for one name")
			return nil
		})
		wantKind(t, "the same name meanwhile", err, errkind.Exists)
		// What is not recorded cannot be seen.
		_, err = c.RepoByName(t.Context(), "acme", "site")
		wantKind(t, "site, before it has a record", err, errkind.NotFound)
		return nil
	})
	must0(t, err)

	// The tenant goes away, or the name is taken by a child tenant, while the cell is made.
	b := tenant(t, c, "beta")
	_, err = c.CreateRepo(t.Context(), b.ID, "site", false, func(control.Repo) error { return c.DeleteTenant(t.Context(), b.ID, false) })
	wantKind(t, "tenant deleted meanwhile", err, errkind.NotFound)
	_, err = c.CreateRepo(t.Context(), a.ID, "web", false, func(control.Repo) error {
		return second(c.CreateTenant(t.Context(), "acme/web"))
	})
	wantKind(t, "name taken meanwhile", err, errkind.Exists)
	_, err = c.CreateRepo(t.Context(), b.ID, "site", false, func(control.Repo) error {
		t.Error("a cell in a tenant that is not there")
		return nil
	})
	wantKind(t, "no tenant", err, errkind.NotFound)
}

// TestCreateRepoRace: of many that create one name at once, exactly one does.
func TestCreateRepoRace(t *testing.T) { onEach(t, testCreateRepoRace) }

func testCreateRepoRace(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "acme")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			name := []string{"site", "SITE", "Site"}[i%3]
			_, err := c.CreateRepo(t.Context(), a.ID, name, false, nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else {
				wantKind(t, "loser", err, errkind.Exists)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d callers created the same repository", won)
	}
}

func TestReposPages(t *testing.T) { onEach(t, testReposPages) }

func testReposPages(t *testing.T, db backend) {
	c := open(t, db)
	a, b := tenant(t, c, "acme"), tenant(t, c, "beta")
	var all, ofA []id.Repo
	for i := range 25 {
		r := repo(t, c, []control.Tenant{a, b}[i%2].ID, fmt.Sprint("r", i))
		all = append(all, r.ID)
		if i%2 == 0 {
			ofA = append(ofA, r.ID)
		}
	}
	slices.Sort(all) // two that are made in the same millisecond may be in any order
	slices.Sort(ofA)
	every := func(n int, from []id.Repo) (out []id.Repo) {
		for i := 0; i < len(from); i += n {
			out = append(out, from[i])
		}
		return out
	}
	third := every(3, all)
	visible := func(r control.Repo) bool {
		// It may ask the database: it runs outside of the listing's transaction.
		_, err := c.Tenant(t.Context(), r.Tenant)
		return err == nil && slices.Contains(third, r.ID)
	}
	tests := []struct {
		name string
		f    control.RepoFilter
		want []id.Repo
	}{
		{"all", control.RepoFilter{}, all},
		{"of a tenant", control.RepoFilter{Tenant: a.ID}, ofA},
		{"visible", control.RepoFilter{Visible: visible}, third},
		{"none", control.RepoFilter{Visible: func(control.Repo) bool { return false }}, nil},
		{"of nobody", control.RepoFilter{Tenant: "ten_x"}, nil},
	}
	for _, tt := range tests {
		for _, most := range []int{-1, 1, 2, 7, 25, 26, 1 << 40} {
			var got []id.Repo
			var after id.Repo
			for {
				page, err := c.Repos(t.Context(), tt.f, after, most)
				must0(t, err)
				if len(page) == 0 {
					break
				}
				if len(page) > max(most, 1) {
					t.Fatalf("%s: a page of %d, want at most %d", tt.name, len(page), most)
				}
				for _, r := range page {
					got = append(got, r.ID)
				}
				after = page[len(page)-1].ID
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s by %d (-want +got):\n%s", tt.name, most, diff)
			}
		}
	}
}

// TestReposWhileChanging: a cursor skips nothing that was there all the time, and shows nothing twice.
func TestReposWhileChanging(t *testing.T) { onEach(t, testReposWhileChanging) }

func testReposWhileChanging(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "acme")
	var kept, doomed []id.Repo
	for i := range 20 {
		r := repo(t, c, a.ID, fmt.Sprint("r", i))
		if i%3 == 0 {
			doomed = append(doomed, r.ID)
		} else {
			kept = append(kept, r.ID)
		}
	}
	seen := map[id.Repo]int{}
	var after id.Repo
	for n := 0; ; n++ {
		page, err := c.Repos(t.Context(), control.RepoFilter{Tenant: a.ID}, after, 3)
		must0(t, err)
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			seen[r.ID]++
		}
		after = page[len(page)-1].ID
		if n < len(doomed) {
			must0(t, c.DeleteRepo(t.Context(), doomed[n]))
			_, err := c.RenameRepo(t.Context(), kept[n], fmt.Sprint("renamed", n))
			must0(t, err)
		}
	}
	for _, r := range kept {
		if seen[r] != 1 {
			t.Errorf("%s was listed %d times", r, seen[r])
		}
	}
}

// BenchmarkLookups: each Git request makes all three, so each should stay below 10 µs.
func BenchmarkLookups(b *testing.B) { benchEach(b, benchmarkLookups) }

func benchmarkLookups(b *testing.B, db backend) {
	c := open(b, db)
	a := tenant(b, c, "acme")
	web := tenant(b, c, "acme/web")
	repo(b, c, web.ID, "site")
	p := principal(b, c, "alice")
	must0(b, c.SetMember(b.Context(), a.ID, p.ID, "writer"))
	_, h := token(b, c, control.Token{Principal: p.ID})
	for _, cold := range []bool{false, true} {
		lookups := map[string]func() error{
			"repo":      func() error { return second(c.RepoByName(b.Context(), "acme/web", "site")) },
			"principal": func() error { return second(c.Principal(b.Context(), h)) },
			"lineage":   func() error { return second(c.Standing(b.Context(), web.ID)) },
		}
		for name, look := range lookups {
			b.Run(fmt.Sprintf("%s/cold=%v", name, cold), func(b *testing.B) {
				for b.Loop() {
					if cold {
						c.Forget()
					}
					must0(b, look())
				}
			})
		}
	}
}

func BenchmarkCreateRepo(b *testing.B) { benchEach(b, benchmarkCreateRepo) }

func benchmarkCreateRepo(b *testing.B, db backend) {
	c := open(b, db)
	a := tenant(b, c, "acme")
	var i atomic.Int64
	b.Run("one by one", func(b *testing.B) {
		for b.Loop() {
			repo(b, c, a.ID, fmt.Sprint("r", i.Add(1)))
		}
	})
	b.Run("8 at once", func(b *testing.B) {
		b.SetParallelism(max(8/runtime.GOMAXPROCS(0), 1))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				repo(b, c, a.ID, fmt.Sprint("r", i.Add(1)))
			}
		})
	})
}
