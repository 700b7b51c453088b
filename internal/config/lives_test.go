package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

var (
	insertA = &config.Request{Kind: config.InsertEntity, Entity: "route.a"}
	removeA = &config.Request{Kind: config.RemoveEntity, Entity: "route.a"}
)

// A removal takes away what others write meanwhile, and what is created again begins with nothing, also of what comes late.
func TestRemovalBeatsConcurrentWritesAndCreationBeginsClean(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("path", "", "one")
	b, late := a.fork("b"), a.fork("late")
	a.do(removeA)
	b.set("path", "", "two")
	late.set("tags", "", list("x"))
	a.meet(b)
	if a.state.Alive("route.a") {
		t.Fatal("a write brought it back")
	}
	b.do(insertA)
	b.want("path", "", nil)
	b.set("plan", "", "three")
	b.meet(late)
	b.want("path", "", nil)
	b.want("tags", "", nil)
	b.want("plan", "", "three")
}

func TestConcurrentCreationsAreOne(t *testing.T) {
	a := newDoc(t, everyStrategy)
	b := a.fork("b")
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a", Fields: dict{"path": "one", "tags": list("x")}})
	b.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a", Fields: dict{"weight": int64(3), "tags": list("y")}})
	a.meet(b)
	a.want("path", "", "one")
	a.want("weight", "", int64(3))
	a.want("tags", "", list("x", "y"))
	a.refuse(insertA, errkind.Exists)
}

// Restored is what the last life had, in every environment; what the request says besides takes the place of that.
func TestRestoreCopiesTheLastLife(t *testing.T) {
	a := newDoc(t, everyStrategy)
	everything := dict{
		"path": "one", "weight": int64(9), "timeout": "30s", "tags": list("x", "y"), "owners": list("x"), "plan": "one",
		"labels": dict{"k": "1"}, "hosts": list("h", "h"), "share": 0.5, "caps": dict{"k": int64(3)}, "watched": list("w"),
	}
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a", Fields: everything})
	a.set("tags", "staging", list())
	before := values(a, "production") + values(a, "staging")
	a.do(removeA)
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a", Restore: true})
	if after := values(a, "production") + values(a, "staging"); after != before {
		t.Fatalf("it was\n%s and is\n%s", before, after)
	}
	a.do(removeA)
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a", Restore: true, Fields: dict{"weight": int64(2), "tags": list("z"), "labels": dict{"l": "2"}}})
	a.want("weight", "", int64(2))
	a.want("tags", "", list("z"))
	a.want("labels", "", dict{"l": "2"})
	a.want("path", "", "one")
	a.open(0)
}

// Of lives that nobody can ask for any more nothing is kept, and late writes to them do not bring it back.
func TestOldLivesAreForgotten(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("path", "", "one")
	size := 0
	late := a.fork("late")
	for i := range 20 {
		a.set("plan", "", strings.Repeat("long", 100))
		a.do(removeA)
		a.do(insertA)
		a.set("plan", "", strings.Repeat("long", 100))
		if i == 1 {
			size = len(a.snapshot())
		}
	}
	late.set("plan", "", strings.Repeat("late", 100))
	a.meet(late)
	if now := len(a.snapshot()); now > size+200 {
		t.Errorf("after 2 lives it has %d bytes, after 20 it has %d", size, now)
	}
}

func TestRemovalOfAParent(t *testing.T) {
	a := newDoc(t, everyStrategy)
	pool := func(kind config.Kind, id, parent string) *config.Request {
		return &config.Request{Kind: kind, Entity: "pool." + id, Parent: parent}
	}
	a.do(pool(config.InsertEntity, "x", ""))
	a.do(pool(config.InsertEntity, "y", "pool.x"))
	b := a.fork("b")
	b.do(pool(config.InsertEntity, "z", "pool.y"))
	a.refuse(pool(config.RemoveEntity, "x", ""), errkind.Conflict)
	a.do(&config.Request{Kind: config.RemoveEntity, Entity: "pool.x", Cascade: true})
	same(t, a.state.Entities(""), []string{})
	a.meet(b)
	same(t, a.state.Entities(""), []string{"pool.z"})
	violations := a.state.Violations()
	if len(violations) != 1 || violations[0].Rule != "parent" {
		t.Fatalf("%+v", violations)
	}
	a.do(&config.Request{Kind: config.MoveEntity, Entity: "pool.z"})
	if v := a.state.Violations(); len(v) > 0 {
		t.Fatalf("%+v", v)
	}
}

// Two moves that are right by themselves and would put each below the other: the later one is left out, everywhere.
func TestConcurrentMovesMakeNoCycle(t *testing.T) {
	a := newDoc(t, everyStrategy)
	for _, id := range []string{"x", "y"} {
		a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool." + id})
	}
	b := a.fork("b")
	a.do(&config.Request{Kind: config.MoveEntity, Entity: "pool.x", Parent: "pool.y"})
	a.refuse(&config.Request{Kind: config.MoveEntity, Entity: "pool.y", Parent: "pool.x"}, errkind.Conflict)
	b.now++
	b.do(&config.Request{Kind: config.MoveEntity, Entity: "pool.y", Parent: "pool.x"})
	a.meet(b)
	x, _ := a.state.Place("pool.x")
	y, _ := a.state.Place("pool.y")
	same(t, []string{x, y}, []string{"pool.y", ""})
}

// Where two nodes happen to put children at one position, the next one that is put between them comes after both, and not at the end.
func TestNothingIsBetweenEqualPositions(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool.p"})
	for _, at := range []string{"xV", "yV", "zW"} {
		a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool." + at[:1], Parent: "pool.p", Position: at[1:]})
	}
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool.new", Parent: "pool.p", After: "pool.x"})
	if _, position := a.state.Place("pool.new"); position <= "V" || position >= "W" {
		t.Errorf("it is at %q", position)
	}
}

func TestEntityIDs(t *testing.T) {
	for text, want := range map[string]string{
		"route.a": "route.a", "route/a": "route.a", "route/a.b": "route.a.b", "route.a/b": "route.a/b",
		"route": "", "route.": "", ".a": "", "": "", "route.a b": "route.a b", "route.a\n": "", " route.a": "", "route.\xff": "", "route." + strings.Repeat("a", 300): "",
	} {
		if got, err := config.ParseEntity(text); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseEntity(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
}

// A change of types and strategies keeps the values that there are, and no write by the old strategy that had not seen it counts. A field that does not
// change goes on as it was.
func TestSchemaChangeKeepsValuesAndEndsTheOldStrategy(t *testing.T) {
	a := newDoc(t, everyStrategy)
	for field, v := range (dict{"path": "one", "weight": int64(90), "tags": list("x"), "owners": list("x"), "plan": "one", "labels": dict{"k": "1"}, "hosts": list("x", "x")}) {
		a.set(field, "", v)
	}
	a.set("weight", "staging", int64(95))
	b := a.fork("b")
	a.do(&config.Request{Kind: config.ChangeSchema, Text: otherStrategies})
	for field, v := range (dict{"path": "one", "weight": int64(90), "tags": list("x"), "owners": list("x"), "plan": "one", "labels": dict{"k": "1"}, "hosts": list("x")}) {
		a.want(field, "", v)
	}
	a.want("weight", "staging", int64(95))
	b.set("weight", "", int64(99)) // by the strategy that was
	b.set("tags", "", list("x", "late"))
	b.set("plan", "", "two") // the field has not changed
	a.set("weight", "", int64(5))
	a.meet(b)
	a.want("weight", "", int64(5))
	a.want("tags", "", list("x"))
	a.want("plan", "", "two")
	// owners is a set now, and tags only grows.
	a.change("owners", "", nil, list("x"))
	a.refuse(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "tags", Remove: list("x")}, errkind.Conflict)
}

// Two changes of the schema at once: the later one is in force, everywhere.
func TestConcurrentSchemaChanges(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("weight", "", int64(90))
	b := a.fork("b")
	a.do(&config.Request{Kind: config.ChangeSchema, Text: otherStrategies})
	b.now++
	b.do(&config.Request{Kind: config.ChangeSchema, Text: strings.Replace(everyStrategy, "1.0.0", "1.1.0", 1)})
	a.meet(b)
	if v := a.state.Schema().Version; v != "1.1.0" {
		t.Fatalf("version %s is in force", v)
	}
	a.want("weight", "", int64(90))
	a.set("weight", "", int64(80))
	a.want("weight", "", int64(90)) // still a max
}

// A plan never makes an operation that other nodes would refuse to read.
func TestWhatIsPlannedCanBeRead(t *testing.T) {
	a := newDoc(t, everyStrategy)
	last := &config.Op{ID: crdt.Dot{Node: "evil", Seq: 1}, Time: 1, Writes: []config.Write{{Do: config.Life, Entity: "route.a", Inc: 1 << 31}}}
	a.take(last)
	a.refuse(insertA, errkind.Invalid)
	last.Writes[0].Inc++
	text, err := last.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.DecodeOp(text); err == nil || !strings.Contains(err.Error(), "incarnation") {
		t.Error(fmt.Sprint("it is taken: ", err))
	}
}
