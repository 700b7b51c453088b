package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Kind is what a resource is. It is the first word of a resource's name.
type Kind string

// The kinds of resource, with what follows the kind in a name:
//
//	server
//	tenant/PATH                       tenant/acme/web
//	repo/TENANT/NAME[@REF]            repo/acme/api@refs/heads/main
//	config/TYPE/ID[.FIELD][@ENV]      config/service/api.replicas@production
//	env/NAME                          env/production
//	job/TENANT/NAME[/WORKFLOW]        job/acme/api/release
//	secret/TENANT[/REPO]/NAME         secret/acme/api/DEPLOY_KEY
const (
	KindServer Kind = "server"
	KindTenant Kind = "tenant"
	KindRepo   Kind = "repo"
	KindConfig Kind = "config"
	KindEnv    Kind = "env"
	KindJob    Kind = "job"
	KindSecret Kind = "secret"
)

// anyKind stands for every kind in a pattern.
const anyKind Kind = "*"

const (
	// maxPatternBytes bounds a pattern: a reference's name may have 255 bytes, a tenant's path some more.
	maxPatternBytes = 1024
	// maxStars bounds the time that a match can take: each star may be tried against the whole rest.
	maxStars = 8
)

// Pattern names resources. In each part, * stands for any characters, slashes included, as in a refspec. A part that is
// left out matches anything: repo/acme/api is the repository with all its references.
//
// Names of tenants and repositories match without regard to case, as they are found; all else is exact. A part in double
// quotes is taken as it stands: config/service/"api.v1".replicas.
type Pattern struct {
	kind            Kind
	path, field, at glob
	anyField, anyAt bool
	text            string
}

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// ParsePattern reads a pattern. A config pattern's kind may be left out if config says so: "*@staging", "service/api".
func ParsePattern(text string, config bool) (*Pattern, error) {
	bad := func(why string) (*Pattern, error) {
		return nil, fmt.Errorf("resource %q %s: %w", clip(text), why, errkind.Invalid)
	}
	if len(text) > maxPatternBytes {
		return bad(fmt.Sprintf("is longer than %d bytes", maxPatternBytes))
	}
	p := &Pattern{text: text, kind: KindConfig}
	rest := text
	if !config {
		end := strings.IndexAny(text, "/@")
		if end < 0 {
			end = len(text)
		}
		p.kind, rest = Kind(text[:end]), strings.TrimPrefix(text[end:], "/")
		if !p.kind.known() && p.kind != anyKind {
			return bad("starts with no kind of resource: server, tenant, repo, config, env, job, secret or *")
		}
		if p.kind == anyKind {
			if rest != "" && rest[0] != '@' {
				return bad("has a path, whose form depends on the kind: name the kind, or write * or *@…")
			}
			rest = "*" + rest
		}
	}
	parts, err := splitPattern(rest, p.kind)
	if err != nil {
		return bad(err.Error())
	}
	p.path, p.field, p.at = parts[0], parts[1], parts[2]
	p.anyField, p.anyAt = p.field.empty(), p.at.empty()
	switch {
	case p.kind == KindServer && rest != "":
		return bad("has something behind server, which is one thing")
	case p.kind != KindServer && p.path.empty():
		return bad("names nothing: write " + string(p.kind) + "/* for all")
	}
	if p.kind != KindConfig && p.kind != anyKind && p.kind != KindRepo && !p.anyAt {
		return bad("has an @, which only repo and config have")
	}
	return p, nil
}

func (k Kind) known() bool {
	return slices.Contains([]Kind{KindServer, KindTenant, KindRepo, KindConfig, KindEnv, KindJob, KindSecret}, k)
}

// foldsPath reports whether paths of a kind are names, which differ by more than case.
func (k Kind) foldsPath() bool {
	return k == KindTenant || k == KindRepo || k == KindJob || k == KindSecret
}

// matches reports whether the pattern names a resource of kind k, whose path is folded if its kind says so.
func (p *Pattern) matches(r *Resource, k Kind) bool {
	return p.matchesPath(r, k) && (k == KindServer || (p.anyField || p.field.match(r.Field)) && (p.anyAt || p.at.match(r.At)))
}

// matchesPath is matches without regard to what follows the path.
func (p *Pattern) matchesPath(r *Resource, k Kind) bool {
	switch {
	case p.kind != k && p.kind != anyKind:
		return false
	case k == KindServer:
		return p.kind == KindServer || p.path.match("")
	}
	return p.path.match(r.Path)
}

// reaches reports whether the pattern may match something of a tenant or below it.
func (p *Pattern) reaches(tenant string) bool {
	if !p.kind.foldsPath() {
		return p.kind != KindServer
	}
	start, inside := p.path[0], tenant+"/"
	switch {
	case strings.HasPrefix(start, inside), p.kind == KindTenant && len(p.path) == 1 && start == tenant:
		return true
	}
	return len(p.path) > 1 && strings.HasPrefix(inside, start)
}

// glob is a text with stars: what stands between them.
type glob []string

func (g glob) empty() bool { return len(g) == 0 }

// match reports whether s is the glob's pieces in order, the first at its start and the last at its end.
func (g glob) match(s string) bool {
	if len(g) == 1 {
		return s == g[0]
	}
	if len(g) == 0 || !strings.HasPrefix(s, g[0]) {
		return false
	}
	s = s[len(g[0]):]
	for _, piece := range g[1 : len(g)-1] {
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return strings.HasSuffix(s, g[len(g)-1])
}

// Fold is a name in lower case: two names are one if it is the same. Names have ASCII letters only; for what a caller asks
// for, strings.ToLower would make a k of the Kelvin sign. It allocates only when there is something to do.
func Fold(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return foldFrom(s, i)
		}
	}
	return s
}

func foldFrom(s string, first int) string {
	b := []byte(s)
	for i, c := range b[first:] {
		if 'A' <= c && c <= 'Z' {
			b[first+i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// splitPattern splits what follows a kind into path, field and qualifier.
func splitPattern(s string, kind Kind) (parts [3]glob, err error) {
	hasField := kind == KindConfig
	fold := kind.foldsPath()
	now, stars := 0, 0
	piece := strings.Builder{}
	seen := [3]bool{s != "" && s[0] != '@' && s[0] != '.'}
	end := func() {
		if seen[now] {
			text := piece.String()
			if now == 0 && fold {
				text = Fold(text)
			}
			parts[now] = append(parts[now], text)
		}
		piece.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && kind == KindConfig:
			n := strings.IndexByte(s[i+1:], '"')
			if n < 0 {
				return parts, fmt.Errorf("has a quote that is not closed")
			}
			piece.WriteString(s[i+1 : i+1+n])
			i += n + 1
		case c == '*':
			if stars++; stars > maxStars {
				return parts, fmt.Errorf("has more than %d stars", maxStars)
			}
			seen[now] = true
			end()
		case c == '.' && hasField && now == 0:
			end()
			now, seen[1] = 1, true
		case c == '@' && now < 2:
			end()
			now, seen[2] = 2, true
		case c < ' ' || c == 0x7f:
			return parts, fmt.Errorf("has a control character")
		default:
			piece.WriteByte(c)
		}
	}
	end()
	for i, name := range [...]string{"", "field", "qualifier"} {
		if i > 0 && seen[i] && len(parts[i]) == 1 && parts[i][0] == "" {
			return parts, fmt.Errorf("has an empty %s", name)
		}
	}
	return parts, nil
}
