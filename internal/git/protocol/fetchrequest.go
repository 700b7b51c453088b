package protocol

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// fetchRequest is what a client asks of a fetch, in any version.
type fetchRequest struct {
	wants []git.OID // each once
	named []git.Ref // wants by name, each once
	done  bool
	seen  map[git.OID]struct{} // the wants

	thin, noProgress, includeTag, ofsDelta, waitForDone bool

	shallow  []git.OID // commits of the store, each once
	shallows int       // shallow lines, those included that name nothing we have
	depth    int
	relative bool
	since    time.Time
	not      []git.OID
	filter   revwalk.Filter
	filtered bool

	// What only v0 and v1 have.
	multiAck   ackMode
	noDone     bool
	filterCap  bool
	sideBand   int // what a packet may carry
	haveLine   bool
	haves      haveSet
	wantTotal  int
	shallowSet map[git.OID]struct{}
}

// ackMode is how v0 and v1 acknowledge what a client has.
type ackMode int

const (
	ackOnce     ackMode = iota // the first common object
	ackMulti                   // each, with "continue"
	ackDetailed                // each, with "common" or "ready"
)

// deepens reports whether the client wants its shallow boundary moved.
func (f *fetchRequest) deepens() bool { return f.depth > 0 || f.byList() }

// byList reports whether the boundary is asked for by date or by reference.
func (f *fetchRequest) byList() bool { return !f.since.IsZero() || len(f.not) > 0 }

// want reads "want <oid>"; in v0 and v1 capabilities follow the first.
func (f *fetchRequest) want(b []byte) error {
	hexOID := b[:min(len(b), 2*git.OIDSize)]
	o, err := git.ParseOID(hexOID)
	if err != nil {
		return refuse(errkind.Invalid, "upload-pack: protocol error, expected to get object ID, not 'want %s'", clip(b, 80))
	}
	return f.wantObject(o)
}

func (f *fetchRequest) wantObject(o git.OID) error {
	if f.wantTotal++; f.wantTotal > maxWants {
		return refuse(errkind.TooLarge, "upload-pack: more than %d wants in one request", maxWants)
	}
	if _, twice := f.seen[o]; twice {
		return nil
	}
	if f.seen == nil {
		f.seen = map[git.OID]struct{}{}
	}
	f.seen[o] = struct{}{}
	f.wants = append(f.wants, o)
	return nil
}

// wantRef reads "want-ref <name>".
func (f *fetchRequest) wantRef(v View, name string) error {
	r, ok := v.Refs.Get(git.RefName(name))
	if name == string(git.HEAD) {
		r, ok = v.head()
	}
	if !ok {
		return refuse(errkind.NotFound, "unknown ref %s", clip(name, 200))
	}
	if slices.ContainsFunc(f.named, func(n git.Ref) bool { return n.Name == r.Name }) {
		return refuse(errkind.Invalid, "duplicate want-ref %s", clip(name, 200))
	}
	f.named = append(f.named, r)
	return f.wantObject(r.OID)
}

// boundary reads the lines that all versions share: shallow, deepen… and filter.
func (f *fetchRequest) boundary(v View, line []byte, noFilter bool) (bool, error) {
	key, arg, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return false, nil
	}
	switch string(key) {
	case "shallow":
		return true, f.shallowLine(v, arg)
	case "deepen":
		n, err := strconv.ParseInt(string(arg), 0, 32)
		if err != nil || n <= 0 {
			return true, refuse(errkind.Invalid, "upload-pack: Invalid deepen: %s", clip(line, 80))
		}
		f.depth = int(n)
	case "deepen-since":
		n, err := strconv.ParseInt(string(arg), 0, 64)
		if err != nil || n < 0 || n > maxTime {
			return true, refuse(errkind.Invalid, "upload-pack: Invalid deepen-since: %s", clip(line, 80))
		}
		f.since = time.Unix(n, 0)
	case "deepen-not":
		o, n := expandRef(v, string(arg))
		switch {
		case n == 0:
			return true, refuse(errkind.Invalid, "upload-pack: deepen-not is not a ref: %s", clip(line, 120))
		case n > 1:
			return true, refuse(errkind.Invalid, "upload-pack: ambiguous deepen-not: %s", clip(line, 120))
		}
		if len(f.not) >= maxDeepenNot {
			return true, refuse(errkind.TooLarge, "upload-pack: more than %d deepen-not lines", maxDeepenNot)
		}
		f.not = append(f.not, o)
	case "filter":
		if noFilter {
			return false, nil
		}
		return true, f.filterLine(v.config(), string(arg))
	default:
		return false, nil
	}
	return true, nil
}

// maxTime keeps times from outside within what time.Time compares correctly: the year 9999.
const maxTime = 253402300799

func (f *fetchRequest) shallowLine(v View, arg []byte) error {
	o, err := git.ParseOID(arg)
	if err != nil {
		return refuse(errkind.Invalid, "upload-pack: invalid shallow line: %s", clip(arg, 80))
	}
	if f.shallows++; f.shallows > maxShallow {
		return refuse(errkind.TooLarge, "upload-pack: more than %d shallow lines", maxShallow)
	}
	at, ok := v.Objects.Find(o)
	if !ok {
		return nil
	}
	if v.Objects.Kind(at) != git.Commit {
		return refuse(errkind.Invalid, "upload-pack: invalid shallow object %s", o)
	}
	if _, twice := f.shallowSet[o]; twice {
		return nil
	}
	if f.shallowSet == nil {
		f.shallowSet = map[git.OID]struct{}{}
	}
	f.shallowSet[o] = struct{}{}
	f.shallow = append(f.shallow, o)
	return nil
}

func (f *fetchRequest) filterLine(c *Config, spec string) error {
	if f.filtered {
		return refuse(errkind.Invalid, "upload-pack: multiple filter-specs cannot be combined")
	}
	filter, uses, err := revwalk.ParseFilterUses(spec)
	if err != nil {
		return refuse(errkind.Invalid, "upload-pack: invalid filter-spec '%s'", clip(spec, 120))
	}
	f.filter, f.filtered = filter, true
	return c.checkFilter(uses)
}

// check judges what single lines cannot.
func (f *fetchRequest) check() error {
	if f.depth > 0 && f.byList() {
		return refuse(errkind.Invalid, "upload-pack: deepen and deepen-since (or deepen-not) cannot be used together")
	}
	return nil
}

// plan is the request for the walk.
func (f *fetchRequest) plan(v View) revwalk.Request {
	r := revwalk.Request{
		Wants: f.wants, Haves: f.haves.list,
		Shallow: f.shallow, Depth: f.depth, DeepenRelative: f.relative && f.depth > 0, Since: f.since, Not: f.not,
		Filter: f.filter,
		Thin:   f.thin && len(f.haves.list) > 0,
	}
	if f.includeTag {
		r.IncludeTag = v.annotated().refs
	}
	return r
}

// shortNames are the references that a short name may mean, in git's order (git-rev-parse(1)).
var shortNames = []string{"%", "refs/%", "refs/tags/%", "refs/heads/%", "refs/remotes/%", "refs/remotes/%/HEAD"}

// expandRef finds the reference that a short name means, by git's rules, and says how many it may mean.
func expandRef(v View, short string) (git.OID, int) {
	if short == string(git.HEAD) {
		if r, ok := v.head(); ok {
			return r.OID, 1
		}
		return git.OID{}, 0
	}
	var found []git.Ref
	for _, rule := range shortNames {
		if r, ok := v.Refs.Get(git.RefName(strings.Replace(rule, "%", short, 1))); ok {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return git.OID{}, 0
	}
	return found[0].OID, len(found)
}

// haveSet is what both sides have, as git keeps it: an object that is a parent of one the client has is known to be
// there, and not listed.
type haveSet struct {
	list  []git.OID
	known map[git.OID]struct{}
	lines int
}

// add takes one "have" and reports whether the store has the object.
func (h *haveSet) add(v View, arg []byte) (o git.OID, common bool, err error) {
	if o, err = git.ParseOID(arg); err != nil {
		return o, false, refuse(errkind.Invalid, "upload-pack: expected SHA1 object, got '%s'", clip(arg, 80))
	}
	if h.lines++; h.lines > maxHaves {
		return o, false, refuse(errkind.TooLarge, "upload-pack: more than %d haves in one request", maxHaves)
	}
	at, ok := v.Objects.Find(o)
	if !ok {
		return o, false, nil
	}
	if h.known == nil {
		h.known = map[git.OID]struct{}{}
	}
	_, twice := h.known[o]
	h.known[o] = struct{}{}
	if !twice {
		h.list = append(h.list, o)
	}
	if v.Objects.Kind(at) != git.Commit {
		return o, true, nil
	}
	g, err := v.Graph()
	if err != nil {
		return o, true, err
	}
	parents, _ := g.Parents(o)
	for _, p := range parents {
		h.known[p] = struct{}{}
	}
	return o, true, nil
}
