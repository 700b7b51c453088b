package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/wire"
)

// How much of a value, and of an operation, one line shows.
const (
	maxValueShown  = 120
	maxFieldsShown = 4
)

// shown is a value in a line for people.
func shown(v *wire.Value) string {
	if v == nil || v.Any == nil {
		return "unset"
	}
	text := []rune(printable(value.Text(v.Any)))
	if len(text) > maxValueShown {
		return string(text[:maxValueShown]) + "…"
	}
	return string(text)
}

// by is an actor in a line for people, as in a milestone's message.
func by(a wire.Actor) string {
	if a.Class == string(config.Human) {
		return "[human:" + a.ID + "]"
	}
	return "[" + a.ID + "]"
}

// because is an intent behind a line.
func because(intent string) string {
	if intent == "" {
		return ""
	}
	return " (" + strings.Join(strings.Fields(intent), " ") + ")"
}

// second is how times appear where operations follow each other.
func second(stamp string) string {
	t, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return stamp
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// pathOf is a field, or an entity, in an environment.
func (d *document) pathOf(entity, field, key, env string) string {
	text := entity
	if field != "" {
		text += "." + field
	}
	if key != "" {
		text += "[" + key + "]"
	}
	if env != "" && env != d.base {
		text += "@" + env
	}
	return text
}

// effects are lines that tell what an operation's writes did: one for each field.
func (d *document) effects(writes []wire.Write) []string {
	var order []string
	lines := map[string]string{}
	told := map[string]bool{} // entities of which there is more to tell than that they began
	for i := range writes {
		if writes[i].Do != "insert" {
			told[writes[i].EntityID] = true
		}
	}
	for i := range writes {
		w := &writes[i]
		path := d.pathOf(w.EntityID, w.Field, w.Key, w.Environment)
		text := ""
		switch w.Do {
		case "insert":
			if told[w.EntityID] {
				continue
			}
			text = ": begun"
		case "delete":
			text = ": removed"
		case "move":
			if text = ": moved to the top"; w.Value != nil && w.Value.Any != "" {
				text = ": moved below " + shown(w.Value)
			}
		case "add":
			text = " +" + shown(w.Value)
		case "remove":
			text = " -" + shown(w.Value)
		default:
			text = ": " + shown(w.Old) + " → " + shown(w.Value)
			if w.Do == "override" {
				text += " by override"
			}
		}
		if _, again := lines[path]; !again {
			order = append(order, path)
			if strings.HasPrefix(text, " ") {
				text = ":" + text
			}
		}
		lines[path] += text
	}
	for i, path := range order {
		order[i] = printable(path + lines[path])
	}
	return order
}

// summary is an operation in one line.
func (d *document) summary(r *wire.Record) string {
	text := ""
	fields := d.effects(r.Writes)
	rest := len(fields) - maxFieldsShown
	switch config.Kind(r.Type) {
	case config.Promote:
		text = fmt.Sprintf("promoted %s → %s: %d values", r.From, r.To, len(r.Writes)+r.More)
	case config.ChangeSchema:
		text = "changed the schema"
	default:
		text = strings.Join(fields[:min(len(fields), maxFieldsShown)], "; ")
		if rest > 0 || r.More > 0 {
			text += fmt.Sprintf("; and %d more", max(rest, 0)+r.More)
		}
	}
	return printable(by(r.Actor) + " " + text + because(r.Intent))
}

// inherited is what is told of a field in an environment: not again of those that inherit it.
type inherited map[[3]string]string

// again reports whether the same was told of the environment that env inherits from. Environments come after those.
func (d *document) again(told inherited, entity, field, env, text string) bool {
	told[[3]string{entity, field, env}] = text
	for _, e := range d.environments {
		if e.Name == env && !e.Base {
			before, ok := told[[3]string{entity, field, e.Inherits}]
			return ok && before == text
		}
	}
	return false
}

// printChanges tells fields that differ, one line each.
func (d *document) printChanges(w io.Writer, changes []wire.Change) {
	told := inherited{}
	for _, c := range changes {
		if d.again(told, c.EntityID, c.Field, c.Environment, shown(c.Old)+"\x00"+shown(c.New)) {
			continue
		}
		path := d.pathOf(c.EntityID, c.Field, "", c.Environment)
		switch {
		case c.Field == "" && c.New != nil:
			fmt.Fprintln(w, printable(path+": begun"))
		case c.Field == "":
			fmt.Fprintln(w, printable(path+": removed"))
		default:
			fmt.Fprintln(w, printable(path+": ")+difference(c.Old, c.New))
		}
	}
}

// difference tells what became of a value; of lists and maps, only what differs.
func difference(old, now *wire.Value) string {
	if old != nil && now != nil {
		a, okA := parts(old.Any)
		b, okB := parts(now.Any)
		if okA && okB {
			var all []string
			for _, p := range a {
				if !slices.Contains(b, p) {
					all = append(all, "-"+p)
				}
			}
			for _, p := range b {
				if !slices.Contains(a, p) {
					all = append(all, "+"+p)
				}
			}
			if text := strings.Join(all, " "); text != "" && len(text) <= maxValueShown {
				return text
			}
		}
	}
	return shown(old) + " → " + shown(now)
}

// parts are the elements of a list or map that is small enough to be compared by them.
func parts(v any) (list []string, ok bool) {
	const most = 1000
	switch v := v.(type) {
	case []any:
		for _, e := range v[:min(len(v), most)] {
			list = append(list, printable(value.Text(e)))
		}
		return list, len(v) <= most
	case map[string]any:
		for key, e := range v {
			list = append(list, printable(key+"="+value.Text(e)))
		}
		slices.Sort(list)
		return list, len(v) <= most
	default:
		return nil, false
	}
}
