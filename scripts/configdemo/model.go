package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// model says what a document comes to by the writes of its log, worked out from what their makers had decided and seen, by the rules that the
// documentation has. It is for the fields and writers of this demonstration only.
type model struct {
	values map[string]any             // of lww fields, keys of maps, and min: by ENTITY.FIELD[KEY]@ENV
	high   map[string]*epoch          // of max fields
	sets   map[string]map[string]bool // elements, in JSON
	plans  map[string][]sibling       // of review fields: the writes that stand

	opened  int                        // conflicts that there were
	states  map[string]map[string]bool // of each field: the writes that stood together in conflict
	flags   map[string]bool            // of each write of a review field: whether there is a conflict with it
	visible map[string]bool            // writes that have changed what is seen
	choices int                        // conflicts that writes have closed
}

// epoch is what has become of a max field since somebody went over it.
type epoch struct {
	since uint64 // the override; who had not seen it does not count
	value int64
}

// sibling is a write of a review field that nobody who had seen it has written over.
type sibling struct {
	id    string
	value any
}

func newModel() *model {
	m := &model{
		values: map[string]any{}, high: map[string]*epoch{}, sets: map[string]map[string]bool{}, plans: map[string][]sibling{},
		states: map[string]map[string]bool{}, flags: map[string]bool{}, visible: map[string]bool{},
	}
	for _, name := range names {
		image := "registry.example/" + name + ":1"
		m.values["service."+name+".image@production"], m.values["service."+name+".image@staging"] = image, image
		m.values["route."+name+".path"], m.values["route."+name+".timeout"] = "/"+name, "30s"
		m.high["service."+name+".replicas"], m.high["route."+name+".weight"] = &epoch{value: 2}, &epoch{value: 50}
		m.plans["service."+name+".plan"] = []sibling{{value: "small"}}
		m.sets["service."+name+".ports"], m.sets["upstream."+name+".targets"] = map[string]bool{}, map[string]bool{}
	}
	return m
}

// apply takes the next write of the log.
func (m *model) apply(w *write) {
	op, path := &w.op, w.op.EntityID+"."+w.op.Field
	changed := false
	switch {
	case op.Type == "promote":
		for _, name := range names {
			changed = m.put("service."+name+".image@production", m.values["service."+name+".image@staging"]) || changed
		}
	case op.Field == "plan":
		changed = m.review(path, w)
	case m.high[path] != nil:
		changed = m.raise(m.high[path], w)
	case m.sets[path] != nil:
		for _, v := range op.Add {
			changed = changed || !m.sets[path][encoded(v)]
			m.sets[path][encoded(v)] = true
		}
		for _, v := range op.Remove {
			changed = changed || m.sets[path][encoded(v)]
			delete(m.sets[path], encoded(v))
		}
	case op.Field == "timeout":
		changed = seconds(op.Value) < seconds(m.values[path]) && m.put(path, op.Value)
	case op.Field == "image":
		changed = m.put(path+"@"+op.Environment, op.Value)
	case op.Key != "":
		changed = m.put(path+"["+op.Key+"]", op.Value)
	default:
		changed = m.put(path, op.Value)
	}
	if changed {
		m.visible[w.result.ID] = true
	}
}

func (m *model) put(path string, v any) (changed bool) {
	changed = m.values[path] != v
	m.values[path] = v
	return changed
}

// raise is a write of a max field: an override begins anew, and of what has seen it the highest wins.
func (m *model) raise(e *epoch, w *write) (changed bool) {
	v := integer(w.op.Value)
	switch {
	case w.op.Override:
		changed = e.value != v
		e.since, e.value = idNumber(w.result.ID), v
	case w.seen() >= e.since && v > e.value:
		changed, e.value = true, v
	}
	return changed
}

// review is a write of a review field: it takes the place of those that its maker had seen, or that are of the same value, and stands beside
// the others. As long as those that stand differ, somebody has to choose.
func (m *model) review(path string, w *write) (changed bool) {
	before := m.plans[path]
	after := slices.DeleteFunc(slices.Clone(before), func(s sibling) bool { return idNumber(s.id) <= w.seen() || s.value == w.op.Value })
	after = append(after, sibling{w.result.ID, w.op.Value})
	m.plans[path] = after
	was, is := differ(before), differ(after)
	m.flags[w.result.ID] = is
	switch {
	case is:
		ids := make([]string, len(after))
		for i, s := range after {
			ids[i] = s.id
		}
		if m.states[path] == nil {
			m.states[path] = map[string]bool{}
		}
		m.states[path][together(ids)] = true
		if !was {
			m.opened++
		}
	case was:
		m.choices++
	}
	return was || is || before[len(before)-1].value != w.op.Value
}

func differ(list []sibling) bool {
	return slices.ContainsFunc(list, func(s sibling) bool { return s.value != list[0].value })
}

// together names writes that stand together, in whatever order they are listed.
func together(ids []string) string { return strings.Join(slices.Sorted(slices.Values(ids)), " ") }

// want is what an entity should look like in an environment.
func (m *model) want(id, env string) map[string]any {
	kind, name, _ := strings.Cut(id, ".")
	switch kind {
	case "route":
		return map[string]any{
			"path": m.values[id+".path"], "timeout": m.values[id+".timeout"], "weight": m.high[id+".weight"].value, "service": "service." + name,
		}
	case "upstream":
		return filled(map[string]any{"targets": elements(m.sets[id+".targets"])})
	}
	image := m.values[id+".image@staging"] // also of what inherits from it
	if env == environs[0] {
		image = m.values[id+".image@production"]
	}
	plan := m.plans[id+".plan"]
	e := map[string]any{
		"image": image, "replicas": m.high[id+".replicas"].value, "ports": elements(m.sets[id+".ports"]), "plan": plan[len(plan)-1].value,
	}
	if v := m.values[id+".env_vars[RELEASE]"]; v != nil {
		e["env_vars"] = map[string]any{"RELEASE": v}
	}
	return filled(e)
}

// filled leaves out sets without elements: who never had one has none.
func filled(fields map[string]any) map[string]any {
	for name, v := range fields {
		if list, ok := v.([]json.RawMessage); ok && len(list) == 0 {
			delete(fields, name)
		}
	}
	return fields
}

// elements are those of a set, in the order of their texts.
func elements(set map[string]bool) []json.RawMessage {
	list := []json.RawMessage{}
	for text := range set {
		list = append(list, json.RawMessage(text))
	}
	slices.SortFunc(list, func(a, b json.RawMessage) int { return strings.Compare(string(a), string(b)) })
	return list
}

// encoded is a value in JSON, by which values from several sources are compared: lists are sorted, as they are sets here.
func encoded(v any) string {
	if list, ok := v.([]any); ok {
		set := map[string]bool{}
		for _, e := range list {
			set[encoded(e)] = true
		}
		v = elements(set)
	}
	if m, ok := v.(map[string]any); ok {
		sorted := map[string]json.RawMessage{}
		for name, e := range m {
			sorted[name] = json.RawMessage(encoded(e))
		}
		v = sorted
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("bug: a value without JSON: %v", v))
	}
	return string(text)
}

func integer(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case int:
		return int64(v)
	default:
		panic(fmt.Sprintf("bug: %v is no number", v))
	}
}

// seconds reads the durations that the person writes.
func seconds(v any) (n int) {
	_, _ = fmt.Sscanf(fmt.Sprint(v), "%ds", &n)
	return n
}
