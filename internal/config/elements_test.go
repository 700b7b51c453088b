package config_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
)

func TestSetAdditionWinsOverRemovalThatHadNotSeenIt(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("tags", "", list("x", "y"))
	b := a.fork("b")
	a.change("tags", "", nil, list("x"))
	b.change("tags", "", list("z"), list("y"))
	c := b.fork("c")
	c.change("tags", "", nil, list("x"))
	b.change("tags", "", nil, list("x"))
	b.change("tags", "", list("x"), nil) // again, after b's own removal
	a.meet(b)
	a.meet(c)
	a.want("tags", "", list("x", "z"))
}

// An element that was removed by somebody who saw it does not come back by an addition that was made before that and comes late.
func TestSetRemovalOfWhatWasSeenStays(t *testing.T) {
	a := newDoc(t, everyStrategy)
	late := a.fork("late")
	add := a.set("tags", "", list("x", "y"))
	b := a.fork("b")
	gone := b.change("tags", "", nil, list("x"))
	late.take(gone)
	late.take(add)
	late.want("tags", "", list("y"))
}

// Who writes a whole set means the difference: what stays keeps who put it there, and what others add meanwhile stays too.
func TestSetAsAWholeKeepsWhatBothHave(t *testing.T) {
	a := newDoc(t, everyStrategy)
	first := a.set("tags", "", list("x", "y"))
	b := a.fork("b")
	second := a.set("tags", "", list("z", "y"))
	same(t, a.by("tags", ""), []string{first.ID.String(), second.ID.String()})
	if again := a.set("tags", "", list("y", "z")); len(again.Writes) != 0 {
		t.Errorf("the same set again writes %+v", again.Writes)
	}
	b.change("tags", "", list("w"), nil)
	a.meet(b)
	a.want("tags", "", list("w", "y", "z"))
}

// Who wants an element that another one has added meanwhile wants it also if a third one takes that addition away.
func TestSetAdditionOfWhatTheActorHadNotSeenIsItsOwn(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("tags", "", list("y"))
	seen := a.state.Version()
	a.change("tags", "", list("x"), nil)
	b := a.fork("b")
	a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "tags", Add: list("x"), Seen: &seen})
	b.change("tags", "", nil, list("x"))
	a.meet(b)
	a.want("tags", "", list("x", "y"))
}

// An environment's own set stays its own when its last element is taken away: what it would inherit does not come back.
func TestSetStaysOwnWhenItIsEmptied(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("tags", "", list("x", "y"))
	a.set("tags", "staging", list("z"))
	b := a.fork("b")
	a.change("tags", "staging", nil, list("z"))
	a.want("tags", "staging", list())
	a.want("tags", "development", list())
	b.change("tags", "staging", list("w"), nil)
	a.meet(b)
	a.want("tags", "staging", list("w"))
	a.change("tags", "staging", nil, list("w"))
	a.want("tags", "staging", list())
	a.set("tags", "staging", nil)
	a.want("tags", "staging", list("x", "y"))
	a.key("labels", "", "k", "1")
	a.key("labels", "staging", "k", nil)
	a.want("labels", "staging", dict{})
}

// The first own element of an environment takes what was inherited along; the environment goes its own way from then on.
func TestSetsAndMapsAreCopiedWhenTheyAreWritten(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("tags", "", list("x", "y"))
	a.change("tags", "staging", list("z"), list("x"))
	a.want("tags", "staging", list("y", "z"))
	a.change("tags", "", list("w"), nil)
	a.want("tags", "staging", list("y", "z"))
	a.set("labels", "", dict{"k": "1", "l": "1"})
	a.key("labels", "staging", "m", "2")
	a.want("labels", "staging", dict{"k": "1", "l": "1", "m": "2"})
	a.key("labels", "", "k", "3")
	a.want("labels", "staging", dict{"k": "1", "l": "1", "m": "2"})
	a.want("labels", "", dict{"k": "3", "l": "1"})
}

// So does the default of a field.
func TestDefaultsAreCopiedWhenTheyAreWritten(t *testing.T) {
	a := newDoc(t, `
name = "defaults"
[environments]
base = "production"
overlays = [ { name = "staging", inherits = "production" } ]
[entity.route]
fields = [
    { name = "tags",  type = "list<string>", merge = "set",  default = ["x"] },
    { name = "more",  type = "list<string>", merge = "grow", default = ["x"], overlay = "merge" },
    { name = "map",   type = "map<string>",  default = { k = "1" } },
    { name = "union", type = "map<string>",  default = { k = "1" }, overlay = "merge" },
]
`)
	a.change("tags", "", list("y"), nil)
	a.change("more", "staging", list("y"), nil)
	a.want("tags", "", list("x", "y"))
	a.want("more", "staging", list("x", "y"))
	a.want("more", "", list("x"))
	a.key("map", "", "l", "2")
	a.want("map", "", dict{"k": "1", "l": "2"})
	a.set("union", "staging", dict{"k": "1", "l": "2"})
	a.want("union", "staging", dict{"k": "1", "l": "2"})
	a.change("tags", "", nil, list("x", "y"))
	a.want("tags", "", list())
}

func TestMergedSetsShowBothAndTakeNothingInheritedAway(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("more", "", list("x"))
	a.set("more", "staging", list("x", "y"))
	a.change("more", "", list("w"), nil)
	a.want("more", "staging", list("w", "x", "y"))
	a.want("more", "", list("w", "x"))
	a.refuse(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "more", Env: "staging", Value: list("y")}, errkind.Invalid)
	a.set("more", "staging", nil)
	a.want("more", "staging", list("w", "x"))
	a.set("shared", "", list("x"))
	a.refuse(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "shared", Env: "staging", Value: list("y")}, errkind.Invalid)
}

// A merged map has the nearest value of each key. A key that is taken away in an environment is gone there, also as the only one that it has; where the
// map is unset it is inherited again.
func TestMergedMapsHideKeysUntilTheyAreUnset(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("env_vars", "", dict{"k": "1", "l": "1"})
	a.key("env_vars", "staging", "k", nil)
	a.want("env_vars", "staging", dict{"l": "1"})
	a.want("env_vars", "development", dict{"l": "1"})
	a.set("env_vars", "staging", nil)
	a.want("env_vars", "staging", dict{"k": "1", "l": "1"})
	a.key("env_vars", "staging", "m", "2")
	a.want("env_vars", "staging", dict{"k": "1", "l": "1", "m": "2"})
	a.set("env_vars", "staging", dict{"l": "3"})
	a.want("env_vars", "staging", dict{"l": "3"})
	a.set("env_vars", "staging", dict{})
	a.want("env_vars", "staging", dict{})
	a.key("env_vars", "staging", "m", "2")
	a.want("env_vars", "staging", dict{"m": "2"})
	a.do(&config.Request{Kind: config.RemoveEntity, Entity: "route.a"})
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a", Restore: true})
	a.want("env_vars", "staging", dict{"m": "2"})
}

// Keys are registers of their own: concurrent writes of different ones do not meet, and a whole map means its difference to what was there.
func TestKeysOfAMapAreIndependent(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("labels", "", dict{"k": "1", "l": "1", "m": "1"})
	b := a.fork("b")
	a.key("labels", "", "k", "2")
	b.set("labels", "", dict{"k": "1", "l": "3", "new": "3"}) // takes m away
	a.meet(b)
	a.want("labels", "", dict{"k": "2", "l": "3", "new": "3"})
	same(t, a.by("labels", ""), []string{"a#3", "b#1", "b#1"})
}

func TestKeysOfAMapMayMergeByTheirSize(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("caps", "", dict{"k": int64(5)})
	b := a.fork("b")
	a.key("caps", "", "k", int64(9))
	b.key("caps", "", "k", int64(7))
	a.meet(b)
	a.want("caps", "", dict{"k": int64(9)})
	a.refuse(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "caps", Key: "k"}, errkind.Invalid)
	a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "caps", Key: "k", Override: true})
	a.want("caps", "", dict{})
	a.key("caps", "", "k", int64(2))
	a.want("caps", "", dict{"k": int64(2)})
}

func TestGrowOnlyGrowsUntilItIsOverridden(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("owners", "", list("x", "y"))
	for _, q := range []config.Request{{Remove: list("x")}, {Value: list("y")}} {
		q.Kind, q.Entity, q.Field = config.SetField, "route.a", "owners"
		a.refuse(&q, errkind.Conflict)
	}
	b := a.fork("b")
	a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "owners", Value: list("z"), Override: true})
	b.change("owners", "", list("late"), nil) // had not seen the override
	a.meet(b)
	a.want("owners", "", list("z"))
	b.change("owners", "", list("w"), nil)
	a.meet(b)
	a.want("owners", "", list("w", "z"))
}
