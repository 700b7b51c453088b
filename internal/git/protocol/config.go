package protocol

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// Config is what git lets a repository's owner choose about its protocol, under the names of git's own configuration
// (git-config(1)). nil and the zero Config are the defaults, which differ from git's where its own are there for old times'
// sake: filters, wants of whatever a reference leads to, object-info and push options are on.
//
// It does not change once a View has it.
type Config struct {
	noUnborn, hideUnborn bool // ls-refs says nothing of an unborn HEAD; or does, and does not advertise it

	noFilter     bool
	filters      map[string]bool // by name, those that are allowed or not; others are as noFilters says
	noFilters    bool
	treeDepth    int // with hasTreeDepth: the most that tree:N may ask for
	hasTreeDepth bool

	noTipWant, noReachableWant, anyWant bool
	refInWant, sidebandAll              bool
	noObjectInfo, sessionID             bool

	uploadKeepAlive, receiveKeepAlive time.Duration // 0: keepAliveAfter; negative: never

	uploadHides, receiveHides []hideRule

	noAtomic, noPushOptions bool
	nonceSlop               time.Duration // 0: the constant; negative: none
}

const (
	// maxConfigLines and maxConfigLine bound a repository's list: every reference is compared with each rule that hides some.
	maxConfigLines = 200
	maxConfigLine  = 1024
	// maxSeconds bounds times, so that they can be added up.
	maxSeconds = 1 << 30
)

// ParseConfig reads a list of lines KEY=VALUE. Later lines count more.
func ParseConfig(lines []string) (*Config, error) {
	if len(lines) > maxConfigLines {
		return nil, fmt.Errorf("git configuration: more than %d lines: %w", maxConfigLines, errkind.TooLarge)
	}
	c := &Config{}
	for _, line := range lines {
		key, value, ok := strings.Cut(line, "=")
		switch {
		case len(line) > maxConfigLine:
			return nil, fmt.Errorf("git configuration %s: a line has more than %d bytes: %w", clip(key, 80), maxConfigLine, errkind.TooLarge)
		case !ok:
			return nil, fmt.Errorf("git configuration %q is not KEY=VALUE: %w", clip(line, 80), errkind.Invalid)
		case strings.ContainsAny(line, "\n\x00"):
			return nil, fmt.Errorf("git configuration %s: a value is one line: %w", clip(key, 80), errkind.Invalid)
		}
		if err := c.Set(key, value); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// variables are the keys, in lower case. The comment of each is in docs/reference/git-protocol.md.
var variables = map[string]func(c *Config, value string) error{
	"lsrefs.unborn":                       (*Config).setUnborn,
	"uploadpack.allowfilter":              not(func(c *Config) *bool { return &c.noFilter }),
	"uploadpackfilter.allow":              not(func(c *Config) *bool { return &c.noFilters }),
	"uploadpackfilter.tree.maxdepth":      (*Config).setTreeDepth,
	"uploadpack.allowtipsha1inwant":       not(func(c *Config) *bool { return &c.noTipWant }),
	"uploadpack.allowreachablesha1inwant": not(func(c *Config) *bool { return &c.noReachableWant }),
	"uploadpack.allowanysha1inwant":       (*Config).setAnyWant,
	"uploadpack.allowrefinwant":           is(func(c *Config) *bool { return &c.refInWant }),
	"uploadpack.allowsidebandall":         is(func(c *Config) *bool { return &c.sidebandAll }),
	"uploadpack.keepalive":                keepAlive(func(c *Config) *time.Duration { return &c.uploadKeepAlive }),
	"uploadpack.hiderefs":                 hides(func(c *Config) []*[]hideRule { return []*[]hideRule{&c.uploadHides} }),
	"receive.hiderefs":                    hides(func(c *Config) []*[]hideRule { return []*[]hideRule{&c.receiveHides} }),
	"transfer.hiderefs":                   hides(func(c *Config) []*[]hideRule { return []*[]hideRule{&c.uploadHides, &c.receiveHides} }),
	"transfer.advertisesid":               is(func(c *Config) *bool { return &c.sessionID }),
	"transfer.advertiseobjectinfo":        not(func(c *Config) *bool { return &c.noObjectInfo }),
	"receive.keepalive":                   keepAlive(func(c *Config) *time.Duration { return &c.receiveKeepAlive }),
	"receive.advertiseatomic":             not(func(c *Config) *bool { return &c.noAtomic }),
	"receive.advertisepushoptions":        not(func(c *Config) *bool { return &c.noPushOptions }),
	"receive.certnonceslop":               (*Config).setNonceSlop,
}

// filterNames are the filters that can be allowed and refused one by one.
var filterNames = []string{"blob:none", "blob:limit", "tree", "sparse:oid", "object:type", "combine"}

// Keys returns the names that Set takes, in order.
func Keys() []string {
	keys := slices.Collect(maps.Keys(variables))
	for _, f := range filterNames {
		keys = append(keys, "uploadpackfilter."+f+".allow")
	}
	return slices.Sorted(slices.Values(keys))
}

// Set sets one variable, in any case. A key that Config does not know wraps errkind.Unsupported.
func (c *Config) Set(key, value string) error {
	lower := strings.ToLower(key)
	set, ok := variables[lower]
	if name, isFilter := strings.CutPrefix(lower, "uploadpackfilter."); !ok && isFilter {
		if name, isFilter = strings.CutSuffix(name, ".allow"); isFilter && slices.Contains(filterNames, name) {
			ok, set = true, func(c *Config, value string) error { return c.allowFilter(name, value) }
		}
	}
	if !ok {
		return fmt.Errorf("git configuration: %q is not one of the variables that are known here (%s): %w", clip(key, 80),
			strings.Join(Keys(), ", "), errkind.Unsupported)
	}
	if err := set(c, value); err != nil {
		return fmt.Errorf("git configuration %s: %w", key, err)
	}
	return nil
}

// is and not read a switch that is off, or on, by default.
func is(at func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, value string) error {
		on, err := parseBool(value)
		*at(c) = on
		return err
	}
}

func not(at func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, value string) error {
		on, err := parseBool(value)
		*at(c) = !on
		return err
	}
}

// parseBool reads a boolean as git does.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "yes", "on":
		return true, nil
	case "false", "no", "off", "":
		return false, nil
	}
	if n, err := strconv.Atoi(s); err == nil {
		return n != 0, nil
	}
	return false, fmt.Errorf("%q is neither true nor false: %w", clip(s, 80), errkind.Invalid)
}

func parseSeconds(s string) (time.Duration, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxSeconds {
		return 0, fmt.Errorf("%q is no number of seconds: %w", clip(s, 80), errkind.Invalid)
	}
	return time.Duration(n) * time.Second, nil
}

// keepAlive reads seconds; 0 is never.
func keepAlive(at func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		d, err := parseSeconds(value)
		if d == 0 {
			d = -1
		}
		*at(c) = d
		return err
	}
}

func hides(at func(*Config) []*[]hideRule) func(*Config, string) error {
	return func(c *Config, value string) error {
		rule := parseHideRule(value)
		for _, list := range at(c) {
			*list = append(*list, rule)
		}
		return nil
	}
}

// setAnyWant allows all, or nothing but what is shown: in git it is the sum of the other two and one more.
func (c *Config) setAnyWant(value string) error {
	on, err := parseBool(value)
	c.anyWant, c.noTipWant, c.noReachableWant = on, !on, !on
	return err
}

func (c *Config) setUnborn(value string) error {
	switch value {
	case "advertise", "allow", "ignore":
	default:
		return fmt.Errorf("%q is none of advertise, allow and ignore: %w", clip(value, 80), errkind.Invalid)
	}
	c.noUnborn, c.hideUnborn = value == "ignore", value != "advertise"
	return nil
}

func (c *Config) setTreeDepth(value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no depth: %w", clip(value, 80), errkind.Invalid)
	}
	c.treeDepth, c.hasTreeDepth = n, true
	return c.allowFilter("tree", "true")
}

func (c *Config) setNonceSlop(value string) (err error) {
	if c.nonceSlop, err = parseSeconds(value); c.nonceSlop == 0 {
		c.nonceSlop = -1
	}
	return err
}

func (c *Config) allowFilter(name, value string) error {
	on, err := parseBool(value)
	if c.filters == nil {
		c.filters = map[string]bool{}
	}
	c.filters[name] = on
	return err
}

// checkFilter refuses filters that the repository does not allow, in git's words.
func (c *Config) checkFilter(uses []revwalk.FilterUse) error {
	for _, use := range uses {
		on, ok := c.filters[use.Name]
		switch {
		case !ok && c.noFilters || ok && !on:
			return refuse(errkind.Unsupported, "upload-pack: filter '%s' not supported", use.Name)
		case use.Name == "tree" && c.hasTreeDepth && use.Depth > c.treeDepth:
			return refuse(errkind.Unsupported, "upload-pack: tree filter allows max depth %d, but got %d", c.treeDepth, use.Depth)
		}
	}
	return nil
}

// hideRule is one value of hideRefs: a prefix, in whole parts, of the references that are hidden, or (!) are not.
type hideRule struct {
	prefix string
	shows  bool
	full   bool // compared with names as they are before a namespace is taken off
}

// parseHideRule reads refs/a, !refs/a, ^refs/a or !^refs/a.
func parseHideRule(s string) (r hideRule) {
	s, r.shows = strings.CutPrefix(strings.TrimRight(s, "/"), "!")
	r.prefix, r.full = strings.CutPrefix(s, "^")
	return r
}

// hidden reports whether rules hide a reference of a namespace: the last one that is about it decides.
func hidden(rules []hideRule, namespace string, name git.RefName) bool {
	for _, r := range slices.Backward(rules) {
		with := string(name)
		if r.full {
			with = namespace + with
		}
		if rest, ok := strings.CutPrefix(with, r.prefix); ok && (rest == "" || rest[0] == '/') {
			return !r.shows
		}
	}
	return false
}

// shown returns the references that rules do not hide.
func shown(refs *git.Refs, namespace string, rules []hideRule) *git.Refs {
	list := make([]git.Ref, 0, refs.Len())
	for _, r := range refs.List() {
		if !hidden(rules, namespace, r.Name) {
			list = append(list, r)
		}
	}
	return git.NewRefs(refs.Head, list)
}

// defaults are those of a view without a configuration.
var defaults Config

// config returns the view's configuration, or the defaults.
func (v View) config() *Config {
	if v.Config == nil {
		return &defaults
	}
	return v.Config
}

// forUpload is the view as clients that fetch see it: without hidden references.
func (v View) forUpload() View {
	rules := v.config().uploadHides
	if len(rules) == 0 || v.all != nil {
		return v
	}
	w := v
	w.all = v.Refs
	if v.Memo == nil {
		w.Refs = shown(v.Refs, v.Namespace, rules)
		return w
	}
	v.Memo.shownOnce.Do(func() { v.Memo.shown, v.Memo.ofShown = shown(v.Refs, v.Namespace, rules), new(Memo) })
	w.Refs, w.Memo = v.Memo.shown, v.Memo.ofShown
	return w
}

// Shown returns the references that whoever reads may see: without those that uploadpack.hideRefs and transfer.hideRefs hide.
func (v View) Shown() *git.Refs { return v.forUpload().Refs }

// HidesFromPush reports whether receive.hideRefs or transfer.hideRefs hides a reference: then no push moves it.
func (v View) HidesFromPush(name git.RefName) bool {
	return hidden(v.config().receiveHides, v.Namespace, name)
}

// head returns HEAD. It is hidden by its own name, and not by that of its branch.
func (v View) head() (git.Ref, bool) {
	refs := v.Refs
	if v.all != nil {
		refs = v.all
	}
	r, born := refs.HeadRef()
	r.Name = git.HEAD
	return r, born && !hidden(v.config().uploadHides, v.Namespace, git.HEAD)
}

// givers returns the references whose objects may be asked for. As in git these are hidden ones too, unless only what is shown
// may be.
func (v View) givers() *git.Refs {
	if c := v.config(); v.all != nil && (!c.noTipWant || !c.noReachableWant) {
		return v.all
	}
	return v.Refs
}
