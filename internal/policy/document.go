package policy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// The limits of a document. A decision looks at each statement that may concern its principal.
const (
	MaxDocumentBytes = 256 << 10
	maxRoles         = 200
	maxPermissions   = 1000 // of all roles together
	maxAssignments   = 5000
	maxDenials       = 200
)

// Document is the rules of one tenant and the tenants below it: roles, who has them, and what is denied. It is immutable.
type Document struct {
	roles   map[string]*customRole
	denials []denial
	denies  actionSet // all that some denial is about

	// Who has which roles, by how they are named. Names are in lower case.
	byActor   map[string]*assigned
	byGroup   map[string]*assigned
	byClass   map[Class]*assigned
	byPattern []patternRoles
	anonymous assigned
	everybody assigned // who is signed in

	// For a decision on an action: the permissions of all roles that are looked at for it, by its number, and whether it is one
	// that a built-in role of an assignment gives.
	about [len(actions)][]*permission
	gives actionSet

	sum [sha256.Size]byte
}

// Sum is the SHA-256 of the document's text: where it is the same, decisions are.
func (d *Document) Sum() [sha256.Size]byte { return d.sum }

type patternRoles struct {
	pattern glob
	text    string
	assigned
}

// customRole is a role of a document.
type customRole struct {
	name        string
	builtin     Role // the greatest of the built-in roles that it is or inherits
	permissions []permission
	inherits    []*customRole // all roles of the document that it inherits, each once, itself first
	number      int           // of the document's roles; 0 for those that are built in
}

type permission struct {
	actions actionSet
	pattern *Pattern
	line    int
	role    int // the number of the role that has it; 0 for a denial
}

type denial struct {
	permission
	reason string
	except except
}

// except are those that a denial does not concern.
type except struct {
	Actors  []string `toml:"actors"`
	Groups  []string `toml:"groups"`
	Classes []Class  `toml:"classes"`
	Roles   []string `toml:"roles"`
}

// source is a document as it is written. A file that starts with [rbac] instead of [policy] is one of configuration alone:
// its resources need no kind.
type source struct {
	Policy      *header               `toml:"policy"`
	RBAC        *header               `toml:"rbac"`
	Role        map[string]roleSource `toml:"role"`
	Assignments []assignment          `toml:"assignment"`
	Denials     []denySource          `toml:"deny"`
}

type header struct {
	Version       int      `toml:"version"`
	Authenticated []string `toml:"default_authenticated"`
	Anonymous     []string `toml:"default_anonymous"`
}

type roleSource struct {
	Description string             `toml:"description"`
	Inherits    []string           `toml:"inherits"`
	Permissions []permissionSource `toml:"permissions"`
}

type permissionSource struct {
	Actions  []string `toml:"actions"`
	Resource string   `toml:"resource"`
}

type assignment struct {
	Actor   string   `toml:"actor"`
	Pattern string   `toml:"actor_pattern"`
	Class   Class    `toml:"actor_class"`
	Group   string   `toml:"group"`
	Roles   []string `toml:"roles"`
}

type denySource struct {
	Actions  []string `toml:"actions"`
	Resource string   `toml:"resource"`
	Reason   string   `toml:"reason"`
	Except   except   `toml:"except"`
}

// Parse reads a document and checks all of it: what it accepts means something. Its error names the line and what to write.
func Parse(text []byte) (*Document, error) {
	if len(text) > MaxDocumentBytes {
		return nil, fmt.Errorf("policy has %d bytes, the limit is %d: %w", len(text), MaxDocumentBytes, errkind.TooLarge)
	}
	var src source
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := dec.Decode(&src); err != nil {
		return nil, fmt.Errorf("policy: %s: %w", tomlError(err), errkind.Invalid)
	}
	b := builder{text: text, src: &src, config: src.RBAC != nil, doc: &Document{
		roles: map[string]*customRole{}, byActor: map[string]*assigned{}, byGroup: map[string]*assigned{}, byClass: map[Class]*assigned{}, sum: sha256.Sum256(text),
	}}
	if err := b.build(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return b.doc, nil
}

// tomlError says where a file is no TOML, or has a key that means nothing.
func tomlError(err error) string {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		e := strict.Errors[0]
		line, column := e.Position()
		return fmt.Sprintf("line %d, column %d: %s is not a setting here", line, column, strings.Join(e.Key(), "."))
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := bad.Position()
		return fmt.Sprintf("line %d, column %d: %s", line, column, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	return err.Error()
}

type builder struct {
	text   []byte
	src    *source
	config bool // resources are of kind config
	doc    *Document
	total  int
}

func (b *builder) build() error {
	head := b.src.Policy
	switch {
	case head != nil && b.config:
		return fmt.Errorf("it has both [policy] and [rbac]: keep one: %w", errkind.Invalid)
	case b.config:
		head = b.src.RBAC
	case head == nil:
		head = &header{}
	}
	if head.Version < 0 || head.Version > 1 {
		return fmt.Errorf("it is of version %d, and this server knows version 1: %w", head.Version, errkind.Unsupported)
	}
	if n := len(b.src.Role); n > maxRoles {
		return fmt.Errorf("it has %d roles, the limit is %d: %w", n, maxRoles, errkind.TooLarge)
	}
	for _, name := range slices.Sorted(maps.Keys(b.src.Role)) {
		if Role(name).Known() {
			return b.at("[role."+name+"]", 0, fmt.Errorf("role %s is built in: inherit it under another name: %w", name, errkind.Invalid))
		}
		if _, err := b.role(name, nil); err != nil {
			return err
		}
	}
	everybody, err := b.named(head.Authenticated)
	if err != nil {
		return b.at("[policy]", 0, err)
	}
	anonymous, err := b.named(head.Anonymous)
	if err != nil {
		return b.at("[policy]", 0, err)
	}
	b.doc.assign(&b.doc.everybody, everybody)
	b.doc.assign(&b.doc.anonymous, anonymous)
	return errors.Join(b.assignments(), b.denials())
}

// role builds a role after those that it inherits. path is how it was come to: a circle shows in it.
func (b *builder) role(name string, path []string) (*customRole, error) {
	if r, ok := b.doc.roles[name]; ok {
		return r, nil
	}
	if r := Role(name); r.Known() {
		return &customRole{name: name, builtin: r}, nil
	}
	src, ok := b.src.Role[name]
	if !ok {
		return nil, fmt.Errorf("there is no role %q: define [role.%s], or use guest, reader, writer or owner: %w", clip(name), clip(name), errkind.Invalid)
	}
	if slices.Contains(path, name) {
		return nil, fmt.Errorf("role %s inherits itself: %s: %w", name, strings.Join(append(path, name), " → "), errkind.Invalid)
	}
	header := "[role." + name + "]"
	if err := checkWord("role", name); err != nil {
		return nil, b.at(header, 0, err)
	}
	r := &customRole{name: name}
	r.inherits = append(r.inherits, r)
	line := b.line(header, 0)
	for i, p := range src.Permissions {
		actions, pattern, err := b.statement(p.Actions, p.Resource)
		if err != nil {
			return nil, b.at(header, 0, fmt.Errorf("permission %d: %w", i+1, err))
		}
		r.permissions = append(r.permissions, permission{actions: actions, pattern: pattern, line: line})
	}
	for _, from := range src.Inherits {
		parent, err := b.role(from, append(slices.Clip(path), name))
		if err != nil {
			return nil, b.at(header, 0, err)
		}
		if parent.builtin.Above(r.builtin) {
			r.builtin = parent.builtin
		}
		for _, p := range parent.inherits {
			if !slices.Contains(r.inherits, p) {
				r.inherits = append(r.inherits, p)
			}
		}
	}
	if b.total += len(r.permissions); b.total > maxPermissions {
		return nil, fmt.Errorf("its roles have more than %d permissions together: %w", maxPermissions, errkind.TooLarge)
	}
	b.doc.roles[name] = r
	r.number = len(b.doc.roles)
	for i := range r.permissions {
		r.permissions[i].role = r.number
		b.doc.look(&r.permissions[i])
	}
	return r, nil
}

// statement reads what a permission or a denial is about.
func (b *builder) statement(actions []string, resource string) (actionSet, *Pattern, error) {
	pattern, err := ParsePattern(resource, b.config)
	if err != nil {
		return 0, nil, err
	}
	if len(actions) == 0 {
		return 0, nil, fmt.Errorf("it names no actions: %w", errkind.Invalid)
	}
	var set actionSet
	for _, name := range actions {
		s := actionsNamed(name, pattern.kind)
		if s == 0 {
			return 0, nil, fmt.Errorf("%q is no action on %s: use %s or *: %w", clip(name), kindWords(pattern.kind), actionWords(pattern.kind), errkind.Invalid)
		}
		if pattern.kind == KindRepo && !pattern.anyAt {
			if s &= ofReferences; s == 0 {
				return 0, nil, fmt.Errorf("%q is not asked for a single reference: leave %q without its @…: %w", clip(name), clip(resource), errkind.Invalid)
			}
		}
		set |= s
	}
	return set, pattern, nil
}

func (b *builder) named(names []string) (list []*customRole, err error) {
	for _, name := range names {
		r, err := b.role(name, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

func (b *builder) assignments() error {
	if n := len(b.src.Assignments); n > maxAssignments {
		return fmt.Errorf("it has %d assignments, the limit is %d: %w", n, maxAssignments, errkind.TooLarge)
	}
	for i, a := range b.src.Assignments {
		if err := b.assign(a); err != nil {
			return b.at("[[assignment]]", i, err)
		}
	}
	return nil
}

func (b *builder) assign(a assignment) error {
	given := 0
	for _, s := range []string{a.Actor, a.Pattern, string(a.Class), a.Group} {
		if s != "" {
			given++
		}
	}
	if given != 1 || len(a.Roles) == 0 {
		return fmt.Errorf("an assignment needs roles and one of actor, actor_pattern, actor_class or group: %w", errkind.Invalid)
	}
	roles, err := b.named(a.Roles)
	if err != nil {
		return err
	}
	d := b.doc
	switch {
	case a.Actor != "":
		assignTo(d, d.byActor, Fold(a.Actor), roles)
	case a.Group != "":
		assignTo(d, d.byGroup, Fold(a.Group), roles)
	case a.Class != "":
		if !a.Class.Known() {
			return fmt.Errorf("%q is no class: use human, pipeline, operator or system: %w", clip(string(a.Class)), errkind.Invalid)
		}
		assignTo(d, d.byClass, a.Class, roles)
	default:
		g := glob(strings.Split(Fold(a.Pattern), "*"))
		if len(g)-1 > maxStars {
			return fmt.Errorf("actor_pattern has more than %d stars: %w", maxStars, errkind.Invalid)
		}
		same := slices.IndexFunc(d.byPattern, func(p patternRoles) bool { return p.text == a.Pattern })
		if same < 0 {
			same = len(d.byPattern)
			d.byPattern = append(d.byPattern, patternRoles{pattern: g, text: a.Pattern})
		}
		d.assign(&d.byPattern[same].assigned, roles)
	}
	return nil
}

func (b *builder) denials() error {
	if n := len(b.src.Denials); n > maxDenials {
		return fmt.Errorf("it has %d denials, the limit is %d: %w", n, maxDenials, errkind.TooLarge)
	}
	for i, src := range b.src.Denials {
		actions, pattern, err := b.statement(src.Actions, src.Resource)
		if err == nil && actions&undeniable != 0 {
			// Else a tenant could lock out all who could mend its policy.
			if actions &^= undeniable; actions == 0 || !slices.Contains(src.Actions, "*") {
				err = fmt.Errorf("the actions of tenants cannot be denied: take the role away instead: %w", errkind.Invalid)
			}
		}
		if err == nil {
			err = b.checkExcept(src.Except)
		}
		if err != nil {
			return b.at("[[deny]]", i, err)
		}
		for k, name := range src.Except.Actors {
			src.Except.Actors[k] = Fold(name)
		}
		for k, name := range src.Except.Groups {
			src.Except.Groups[k] = Fold(name)
		}
		b.doc.denies |= actions
		b.doc.denials = append(b.doc.denials, denial{
			permission: permission{actions: actions, pattern: pattern, line: b.line("[[deny]]", i)}, reason: src.Reason, except: src.Except,
		})
	}
	return nil
}

func (b *builder) checkExcept(e except) error {
	for _, c := range e.Classes {
		if !c.Known() {
			return fmt.Errorf("%q is no class: use human, pipeline, operator or system: %w", clip(string(c)), errkind.Invalid)
		}
	}
	_, err := b.named(e.Roles)
	return err
}

// at adds to an error where its statement starts: the n-th line that has a header.
func (b *builder) at(header string, n int, err error) error {
	if line := b.line(header, n); line > 0 && !strings.HasPrefix(err.Error(), "line ") {
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

func (b *builder) line(header string, n int) int {
	number := 0
	for line := range bytes.Lines(b.text) {
		number++
		if head, _, _ := bytes.Cut(line, []byte("#")); string(bytes.TrimSpace(head)) == header {
			if n == 0 {
				return number
			}
			n--
		}
	}
	return 0
}

// checkWord keeps names such that they can be written in a header and shown in a list.
func checkWord(what, s string) error {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%s %q has something other than letters, digits, - and _: %w", what, clip(s), errkind.Invalid)
		}
	}
	if s == "" || len(s) > 100 {
		return fmt.Errorf("%s has a name of %d bytes, not 1 to 100: %w", what, len(s), errkind.Invalid)
	}
	return nil
}

// clip keeps what was sent short enough for an error message.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// Inside checks that each pattern of the document may match something of a tenant, whose path is given, or of those below it:
// a document says nothing of anything else, and one that seems to is a mistake.
func (d *Document) Inside(tenant string) error {
	check := func(s *permission) error {
		if s.pattern.reaches(Fold(tenant)) {
			return nil
		}
		return fmt.Errorf("policy: line %d: resource %s is not in tenant %s: %w", s.line, s.pattern, tenant, errkind.Invalid)
	}
	for _, name := range slices.Sorted(maps.Keys(d.roles)) {
		for i := range d.roles[name].permissions {
			if err := check(&d.roles[name].permissions[i]); err != nil {
				return err
			}
		}
	}
	for i := range d.denials {
		if err := check(&d.denials[i].permission); err != nil {
			return err
		}
	}
	return nil
}

// given says to whom a document gives a role: "the group ", "release". Most decisions never tell, so it is not put together.
type given struct{ what, name string }

func (g given) String() string { return g.what + g.name }

// rolesOf yields the roles that a principal has by a document, and to whom it gives them. name is the principal's, in lower case; above
// are the document's tenant and those above it.
//
// A name may be anybody's. Patterns, classes and the defaults are for the members of the tenants, guests among them: else
// whoever gets an account somewhere else on the server, under a name that fits, would be let in. A group counts for the
// documents of its tenant and below.
func (d *Document) rolesOf(p *Principal, name string, above []id.Tenant, yield func(list *assigned, to given) bool) {
	each := func(list *assigned, what, name string) bool {
		return list == nil || len(list.roles) == 0 || yield(list, given{what, name})
	}
	if p.Anonymous() {
		each(&d.anonymous, "everybody", "")
		return
	}
	if name != "" && !each(d.byActor[name], "its name", "") {
		return
	}
	belongs := false
	for _, t := range above {
		for _, g := range p.Groups[t] {
			if !each(d.byGroup[Fold(g)], "the group ", g) {
				return
			}
		}
		belongs = belongs || p.Roles[t].Known()
	}
	if !belongs || !each(&d.everybody, "every member", "") || !each(d.byClass[p.Class], "the class ", string(p.Class)) {
		return
	}
	for i := range d.byPattern {
		if g := &d.byPattern[i]; g.pattern.match(name) && !each(&g.assigned, "the pattern ", g.text) {
			return
		}
	}
}
