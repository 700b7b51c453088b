package milestone

import (
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
)

// Finding is a conflict or a violation that stands in the way of a milestone.
type Finding struct {
	Conflict bool
	Where    string // ENTITY.FIELD@ENV, or ENTITY@ENV of a whole entity
	Message  string // of a violation
}

// Findings returns the open conflicts and the violations of severity error in some environments and those that they inherit from. No
// environments are all.
func Findings(s *config.State, envs []string) []Finding {
	concerned := map[string]bool{}
	for _, e := range s.Schema().Environments {
		concerned[e.Name] = len(envs) == 0
	}
	for _, env := range envs {
		for _, e := range s.Schema().Chain(env) {
			concerned[e] = true
		}
	}
	var list []Finding
	for _, c := range s.Conflicts() {
		if concerned[c.Env] {
			list = append(list, Finding{Conflict: true, Where: where(c.Entity, c.Field, c.Env)})
		}
	}
	for _, v := range s.Violations() {
		if concerned[v.Env] && v.Severity == config.Error {
			list = append(list, Finding{Where: where(v.Entity, v.Field, v.Env), Message: v.Message})
		}
	}
	return list
}

func where(entity, field, env string) string {
	w := entityText(entity)
	if field != "" {
		w += "." + word(field)
	}
	return w + "@" + word(env)
}

func (f Finding) String() string {
	if f.Conflict {
		return f.Where + ": writes wait for somebody to choose"
	}
	return f.Where + ": " + note(f.Message)
}

// Check returns an error that wraps errkind.Conflict while something stands in the way of a milestone of some environments.
func Check(s *config.State, envs []string) error { return blocked(Findings(s, envs)) }

// maxFindingsShown keeps an error readable, and maxFindingsNoted a message.
const (
	maxFindingsShown = 5
	maxFindingsNoted = 50
)

func blocked(list []Finding) error {
	if len(list) == 0 {
		return nil
	}
	var texts []string
	for _, f := range list[:min(len(list), maxFindingsShown)] {
		texts = append(texts, f.String())
	}
	if more := len(list) - maxFindingsShown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("milestone: resolve conflicts and mend violations first: %s: %w", strings.Join(texts, "; "), errkind.Conflict)
}
