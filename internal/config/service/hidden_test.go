package service_test

import (
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/policy"
)

// visible lets everybody read what has this in its name.
type visible string

func (v visible) Allow(_ config.Actor, _ policy.Action, entity, _, _ string) bool {
	return strings.Contains(entity, string(v))
}

// An entity that may be read says nothing of one above it that may not.
func TestHiddenParent(t *testing.T) {
	t.Parallel()
	s, _ := open(t, service.Options{})
	nested := strings.ReplaceAll(schema, "[entity.service]", "[entity.service]\nchildren = [\"service\"]")
	for _, op := range []wire.Operation{
		{Type: "change_schema", Schema: nested},
		{Type: "insert_entity", EntityID: "service.secret"},
		{Type: "insert_entity", EntityID: "service.open1"},
		{Type: "insert_entity", EntityID: "service.open2", Parent: "service.secret"},
		{Type: "insert_entity", EntityID: "service.open3", Parent: "service.open1"},
	} {
		if _, err := s.Submit(t.Context(), bob, []wire.Operation{op}, service.Submission{}); err != nil {
			t.Fatal(err)
		}
	}
	parents := func() (list []string) {
		for _, id := range []string{"service.open2", "service.open3"} {
			e, err := s.Entity(t.Context(), bob, id, "")
			if err != nil {
				t.Fatal(err)
			}
			if (e.Parent == "") != (e.Position == "") {
				t.Errorf("%s: parent %q, position %q", id, e.Parent, e.Position)
			}
			list = append(list, e.Parent)
		}
		log, err := s.Log(t.Context(), bob, service.LogQuery{Type: "insert_entity"})
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range log.Operations {
			for _, w := range rec.Writes {
				if w.Do == "move" && w.Value != nil {
					list = append(list, w.Value.Any.(string))
				}
			}
		}
		return list
	}
	if got, want := strings.Join(parents(), " "), "service.secret service.open1 service.open1 service.secret"; got != want {
		t.Errorf("who may read all sees %s, want %s", got, want)
	}
	s.Configure(service.Options{Access: visible("open")})
	if got, want := strings.Join(parents(), " "), " service.open1 service.open1"; got != want {
		t.Errorf("who may not read it sees %q, want %q", got, want)
	}
}
