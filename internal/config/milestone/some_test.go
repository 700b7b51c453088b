package milestone_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/milestone/milestonetest"
	"github.com/skep-dev/skep/internal/errkind"
)

// A milestone of some environments leaves the files of the others as an earlier one wrote them, and remembers which one that was.
func TestMilestoneOfSomeEnvironments(t *testing.T) {
	r := newRepo(t)
	d := newDoc(t, everySchema)
	d.set("ann", "route.a", "path", "/1")
	all := d.mustCreate(t, r, milestone.Options{})
	before := r.git.Git("show", "main:staging/routes.json")

	d.set("ann", "route.a", "path", "/2")
	p, err := milestone.Project(t.Context(), d.state, []string{"production"}, jsonFormat{})
	if err != nil {
		t.Fatal(err)
	}
	some := milestone.Options{Branch: "main", Message: "some", Author: ann}
	m, err := milestone.Create(t.Context(), r, p, d.since, some)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"production"}, m.Environments); diff != "" {
		t.Errorf("environments affected:\n%s", diff)
	}
	if after := r.git.Git("show", "main:staging/routes.json"); after != before {
		t.Errorf("staging has\n%s\nwant\n%s", after, before)
	}
	var manifest milestone.Manifest
	if err := json.Unmarshal([]byte(r.git.Git("show", "main:"+milestone.ManifestPath)), &manifest); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"production", "staging", "development"}, manifest.Environments); diff != "" {
		t.Errorf("environments of the manifest:\n%s", diff)
	}
	if kept := manifest.Kept["staging"]; kept.String() != all.Version.String() || len(manifest.Kept) != 2 {
		t.Errorf("kept %v, want staging and development as of %s", manifest.Kept, all.Version.String())
	}

	// An edit there is in the way, cannot be overwritten by a milestone without it, and had seen the earlier milestone only.
	r.edit("by hand", map[string]string{"staging/routes.json": strings.Replace(before, "/1", "/3", 1)})
	some.AllowEmpty, some.Overwrite = true, true
	if _, err := milestone.Create(t.Context(), r, p, d.since, some); !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "make a milestone of staging as well") {
		t.Errorf("overwriting what is not written: %v", err)
	}
	in, err := milestone.ReadEdits(t.Context(), r, milestonetest.View(d.state), "main", readJSON)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Requests) != 1 || in.Requests[0].Kind != config.SetField || in.Requests[0].Seen.String() != all.Version.String() {
		t.Errorf("the edit asks for %+v", in.Requests)
	}

	d.mustCreate(t, r, milestone.Options{Overwrite: true})
	if after := r.git.Git("show", "main:staging/routes.json"); after != strings.Replace(before, "/1", "/2", 1) {
		t.Errorf("after a milestone of all, staging has\n%s", after)
	}
	if text := r.git.Git("show", "main:"+milestone.ManifestPath); strings.Contains(text, "kept") {
		t.Errorf("and the manifest still\n%s", text)
	}
}
