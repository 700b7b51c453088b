package cell_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/cell"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
)

var someone = git.Signature{Name: []byte("A"), Email: []byte("a@example.com"), When: time.Unix(1700000000, 0).UTC()}

func request(branch git.RefName, path, content string) cell.CommitRequest {
	return cell.CommitRequest{
		Branch: branch, Author: someone, Committer: someone, Message: "edit " + path + "\n", Writer: protocol.Writer{Actor: "usr_y"},
		Changes: []odb.Change{{Path: path, Data: []byte(content)}},
	}
}

func TestCommit(t *testing.T) {
	h := newHome(t)
	c := h.open(t)
	first, err := c.Commit(t.Context(), request(topic, "dir/file", "one"))
	if err != nil {
		t.Fatal(err)
	}
	if head := c.View().Refs.Head; head != main {
		t.Errorf("HEAD names %s now", head)
	}
	second := request(topic, "other", "two")
	second.Parent = &first
	tip, err := c.Commit(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(t.Context(), second); !errors.Is(err, errkind.Conflict) {
		t.Errorf("Commit on a parent that was: %v, want Conflict", err)
	}
	absent := request(topic, "x", "y")
	absent.Parent = &git.OID{}
	if _, err := c.Commit(t.Context(), absent); !errors.Is(err, errkind.Conflict) {
		t.Errorf("Commit on a branch that must not exist: %v, want Conflict", err)
	}
	absent.Branch, absent.From = main, first
	if _, err := c.Commit(t.Context(), absent); err != nil {
		t.Errorf("Commit on a new branch: %v", err)
	}
	bad := request(topic, "../x", "y")
	if _, err := c.Commit(t.Context(), bad); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Commit of a path that climbs: %v, want Invalid", err)
	}
	if _, err := c.Commit(t.Context(), request("refs/tags/x", "a", "b")); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Commit on a tag: %v, want Invalid", err)
	}
	verify(t, c)
	out := export(t, h.reopen(t, c))
	if got := out.git("log", "--format=%H", "topic"); got != tip.String()+"\n"+first.String() {
		t.Errorf("topic:\n%s", got)
	}
	if got := out.git("ls-tree", "-r", "--name-only", "topic"); got != "dir/file\nother" {
		t.Errorf("files of topic:\n%s", got)
	}
	if got := out.git("log", "--format=%s", "main"); got != "edit x\nedit dir/file" {
		t.Errorf("main:\n%s", got)
	}
}

func TestConcurrentCommitsAllArrive(t *testing.T) {
	c := newHome(t).open(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 5 {
				if _, err := c.Commit(t.Context(), request(main, fmt.Sprintf("f%d-%d", i, n), "x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	verify(t, c)
	out := export(t, c)
	if got := out.git("rev-list", "--count", "main"); got != "20" {
		t.Errorf("%s commits, want 20", got)
	}
	if got := strings.Count(out.git("ls-tree", "main"), "\n") + 1; got != 20 {
		t.Errorf("%d files, want 20", got)
	}
}
