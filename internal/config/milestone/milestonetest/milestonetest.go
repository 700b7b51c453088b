// Package milestonetest says what every repository of milestones does.
package milestonetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/errkind"
)

// Ann is whom the suite's commits are by.
var Ann = milestone.Person{Name: "Ann", Email: "ann@example.org"}

var when = time.Unix(1_700_000_000, 0).UTC()

// View shows a state that nobody changes, as a document shows its own.
func View(s *config.State) func(func(s *config.State) error) error {
	return func(fn func(s *config.State) error) error { return fn(s) }
}

// Run holds a kind of repository against the contract. Each call of open returns a new one, empty, without a branch main.
func Run(t *testing.T, open func(t *testing.T) milestone.Repo) {
	t.Helper()
	tests := []struct {
		name string
		run  func(t *testing.T, r milestone.Repo)
	}{
		{"an empty repository has no tip", emptyRepository},
		{"a commit changes its files and no others", commit},
		{"a commit whose parent is not the tip changes nothing", conflict},
		{"of many commits at once on one parent one is made", race},
		{"the history of a path", history},
		{"what is not there", notThere},
		{"a file is not lost for a folder of its name", inTheWay},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

func request(parent, message string, changes ...milestone.Change) *milestone.CommitRequest {
	return &milestone.CommitRequest{Branch: "main", Parent: parent, Message: message, Author: Ann, When: when, Changes: changes}
}

func put(path, data string) milestone.Change { return milestone.Change{Path: path, Data: []byte(data)} }

func must(t *testing.T, r milestone.Repo, q *milestone.CommitRequest) string {
	t.Helper()
	id, err := r.Commit(t.Context(), q)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if tip, err := r.Tip(t.Context(), q.Branch); err != nil || tip != id {
		t.Fatalf("Tip = %s, %v, want the commit %s", tip, err, id)
	}
	return id
}

func read(t *testing.T, r milestone.Repo, commit string, paths ...string) []string {
	t.Helper()
	data, err := r.Read(t.Context(), commit, paths)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	var texts []string
	for _, d := range data {
		texts = append(texts, string(d))
	}
	return texts
}

func emptyRepository(t *testing.T, r milestone.Repo) {
	t.Helper()
	if tip, err := r.Tip(t.Context(), "main"); err != nil || tip != "" {
		t.Errorf("Tip = %q, %v", tip, err)
	}
	if _, err := r.Tip(t.Context(), "a..b"); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Tip of a branch that cannot be: %v", err)
	}
}

func commit(t *testing.T, r milestone.Repo) {
	t.Helper()
	first := must(t, r, request("", "one\n", put("other", "o"), put("env/a.yaml", "1"), put("env/b.yaml", "2"), put("top/deep/c", "")))
	second := must(t, r, request(first, "two\n\nKey: value\n", put("env/a.yaml", "3\n"), milestone.Change{Path: "env/b.yaml", Delete: true}, put("new/d", "\x00\xff")))
	if diff := cmp.Diff([]string{"3\n", "o", "", "\x00\xff"}, read(t, r, second, "env/a.yaml", "other", "top/deep/c", "new/d")); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1", "2"}, read(t, r, first, "env/a.yaml", "env/b.yaml")); diff != "" {
		t.Errorf("contents before (-want +got):\n%s", diff)
	}
	files, err := r.Files(t.Context(), second, []string{"env", "top", "nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := r.Files(t.Context(), first, []string{"env", "top"})
	if err != nil {
		t.Fatal(err)
	}
	if files["env/a.yaml"] == before["env/a.yaml"] || files["top/deep/c"] != before["top/deep/c"] || len(files) != 2 || len(before) != 3 {
		t.Errorf("Files = %v, and before %v", files, before)
	}
	c, err := r.Get(t.Context(), second[:12])
	if err != nil {
		t.Fatal(err)
	}
	want := &milestone.Commit{ID: second, Author: Ann, When: when, Message: "two\n\nKey: value\n"}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
}

func conflict(t *testing.T, r milestone.Repo) {
	t.Helper()
	first := must(t, r, request("", "one\n", put("a", "1")))
	second := must(t, r, request(first, "two\n", put("a", "2")))
	for _, parent := range []string{"", first} {
		if _, err := r.Commit(t.Context(), request(parent, "three\n", put("a", "3"))); !errors.Is(err, errkind.Conflict) {
			t.Errorf("Commit on %q: %v", parent, err)
		}
	}
	if tip, err := r.Tip(t.Context(), "main"); err != nil || tip != second {
		t.Errorf("Tip = %s, %v, want %s", tip, err, second)
	}
}

func race(t *testing.T, r milestone.Repo) {
	t.Helper()
	first := must(t, r, request("", "one\n", put("a", "1")))
	const writers = 4
	errs := make([]error, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			_, errs[i] = r.Commit(context.WithoutCancel(t.Context()), request(first, fmt.Sprintf("writer %d\n", i), put("a", fmt.Sprint("by ", i))))
		})
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, errkind.Conflict):
			t.Errorf("Commit: %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d of %d commits on one parent were made: %v", made, writers, errs)
	}
}

func history(t *testing.T, r milestone.Repo) {
	t.Helper()
	parent := ""
	for i := range 5 {
		path := "x/even"
		if i%2 == 1 {
			path = "x/odd"
		}
		q := request(parent, fmt.Sprintf("commit %d\n", i), put(path, fmt.Sprint(i)))
		q.When = when.Add(time.Duration(i) * time.Second)
		parent = must(t, r, q)
	}
	log := func(path string, most int) (messages []string) {
		for c, err := range r.Log(t.Context(), parent, path) {
			if err != nil {
				t.Fatalf("Log: %v", err)
			}
			if messages = append(messages, strings.TrimSpace(c.Message)); len(messages) == most {
				break
			}
		}
		return messages
	}
	if got, want := log("x/even", 10), []string{"commit 4", "commit 2", "commit 0"}; !slices.Equal(got, want) {
		t.Errorf("Log = %q, want %q", got, want)
	}
	if got, want := log("x/odd", 1), []string{"commit 3"}; !slices.Equal(got, want) {
		t.Errorf("the first of Log = %q, want %q", got, want)
	}
	if got := log("nowhere", 1); len(got) != 0 {
		t.Errorf("Log of a path that is not there = %q", got)
	}
}

func notThere(t *testing.T, r milestone.Repo) {
	t.Helper()
	first := must(t, r, request("", "one\n", put("dir/a", "1")))
	for _, path := range []string{"b", "dir", "dir/a/b"} {
		if _, err := r.Read(t.Context(), first, []string{"dir/a", path}); !errors.Is(err, errkind.NotFound) {
			t.Errorf("Read(%s): %v", path, err)
		}
	}
	for _, rev := range []string{"nosuch", strings.Repeat("0", 40), "--all"} {
		if _, err := r.Get(t.Context(), rev); !errors.Is(err, errkind.NotFound) {
			t.Errorf("Get(%s): %v", rev, err)
		}
	}
	large := request(first, "large\n", put("large", strings.Repeat("x", milestone.MaxFileSize+1)))
	if _, err := r.Read(t.Context(), must(t, r, large), []string{"large"}); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("Read of a large file: %v", err)
	}
}

func inTheWay(t *testing.T, r milestone.Repo) {
	t.Helper()
	first := must(t, r, request("", "one\n", put("production", "mine"), put("staging/a.yaml/b", "mine")))
	for _, path := range []string{"production/a.yaml", "staging/a.yaml"} {
		if _, err := r.Commit(t.Context(), request(first, "two\n", put(path, "x"))); !errors.Is(err, errkind.Conflict) {
			t.Errorf("Commit of %s over a file or folder of another kind: %v", path, err)
		}
	}
	if tip, err := r.Tip(t.Context(), "main"); err != nil || tip != first {
		t.Errorf("Tip = %s, %v, want %s", tip, err, first)
	}
}
