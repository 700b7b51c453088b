package bare

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// maxConfigBytes bounds one configuration file: the largest known have some hundred kilobytes of remotes.
	maxConfigBytes = 4 << 20
	// maxConfigTotal bounds all files of one repository's configuration together, as often as each is read.
	maxConfigTotal = 16 << 20
	// maxConfigFiles bounds how many they are: files that include several ones, over a few steps, would be any number.
	maxConfigFiles = 1000
	// maxIncludes is git's own bound on files that include each other.
	maxIncludes = 10
)

// setting is one line of git's configuration, its name as git compares it: section and variable in lower case.
type setting struct {
	name, value string
	bare        bool // "[core] bare": true without a value
}

// Config is git's configuration (git-config(1)) as one repository sees it: later settings count over earlier ones.
type Config struct {
	list []setting
}

// Get returns the value that counts.
func (c *Config) Get(name string) (string, bool) {
	for i := len(c.list) - 1; i >= 0; i-- {
		if s := &c.list[i]; s.name == name {
			if s.bare {
				return "true", true
			}
			return s.value, true
		}
	}
	return "", false
}

// All returns all values of a setting that may be said several times.
func (c *Config) All(name string) []string {
	var list []string
	for i := range c.list {
		if c.list[i].name == name {
			list = append(list, c.list[i].value)
		}
	}
	return list
}

// Prefix calls each for the settings whose names start so, with the rest of the name.
func (c *Config) Prefix(prefix string, each func(rest, value string)) {
	for i := range c.list {
		if rest, ok := strings.CutPrefix(c.list[i].name, prefix); ok {
			each(rest, c.list[i].value)
		}
	}
}

// Bool returns a setting that is on or off. What is neither counts as unset: settings of which that must not be are among bools.
func (c *Config) Bool(name string, unset bool) bool {
	v, ok := c.Get(name)
	if !ok {
		return unset
	}
	if on, ok := parseBool(v); ok {
		return on
	}
	return unset
}

func parseBool(v string) (on, ok bool) {
	switch strings.ToLower(v) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off", "":
		return false, true
	}
	if n, err := parseInt(v); err == nil {
		return n != 0, true
	}
	return false, false
}

// Int returns a number, which may end in k, m or g: one of ints.
func (c *Config) Int(name string, unset int64) int64 {
	v, ok := c.Get(name)
	if !ok {
		return unset
	}
	if n, err := parseInt(v); err == nil {
		return n
	}
	return unset
}

func parseInt(v string) (int64, error) {
	unit := int64(1)
	if n := len(v); n > 1 {
		switch v[n-1] {
		case 'k', 'K':
			unit = 1 << 10
		case 'm', 'M':
			unit = 1 << 20
		case 'g', 'G':
			unit = 1 << 30
		}
		if unit > 1 {
			v = v[:n-1]
		}
	}
	n, err := strconv.ParseInt(v, 0, 64)
	if err == nil && (n > math.MaxInt64/unit || n < math.MinInt64/unit) {
		err = strconv.ErrRange
	}
	return n * unit, err
}

// configFiles loads what git would: the system's, the user's, the repository's, and what the environment and -c say.
type configFiles struct {
	gitDir string
	home   string
	config Config
	files  int // that were read
	bytes  int // of them
}

// loadConfig reads the configuration of the repository whose folder and common folder are given. Of the repository's own nothing is read
// before trust has seen what others say of safe.directory.
func loadConfig(gitDir, commonDir string, trust func(safe []string) error) (*Config, error) {
	f := &configFiles{gitDir: gitDir, home: os.Getenv("HOME")}
	if err := f.environment(); err != nil {
		return nil, err
	}
	said := f.config
	f.config = Config{}
	if on, _ := parseBool(os.Getenv("GIT_CONFIG_NOSYSTEM")); !on {
		system, ok := os.LookupEnv("GIT_CONFIG_SYSTEM")
		if !ok {
			system = "/etc/gitconfig"
		}
		if err := f.file(system, 0); err != nil {
			return nil, err
		}
	}
	for _, name := range f.users() {
		if err := f.file(name, 0); err != nil {
			return nil, err
		}
	}
	if err := trust(append(f.config.All("safe.directory"), said.All("safe.directory")...)); err != nil {
		return nil, err
	}
	if err := f.file(filepath.Join(commonDir, "config"), 0); err != nil {
		return nil, err
	}
	if f.config.Bool("extensions.worktreeconfig", false) {
		if err := f.file(filepath.Join(gitDir, "config.worktree"), 0); err != nil {
			return nil, err
		}
	}
	f.config.list = append(f.config.list, said.list...) // counts over all files
	return &f.config, nil
}

// users are the files of the user.
func (f *configFiles) users() []string {
	if name, ok := os.LookupEnv("GIT_CONFIG_GLOBAL"); ok {
		return []string{name}
	}
	var list []string
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		list = append(list, filepath.Join(dir, "git", "config"))
	} else if f.home != "" {
		list = append(list, filepath.Join(f.home, ".config", "git", "config"))
	}
	if f.home != "" {
		list = append(list, filepath.Join(f.home, ".gitconfig"))
	}
	return list
}

// file adds a file's settings. One that is not there, or not to be read by this user, has none.
func (f *configFiles) file(name string, depth int) error {
	if name == "" || name == os.DevNull { // how one says that there is none
		return nil
	}
	if f.files++; f.files > maxConfigFiles {
		return fmt.Errorf("configuration has more than %d files: %w", maxConfigFiles, errkind.TooLarge)
	}
	b, err := readFile(name, maxConfigBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil
	case err != nil:
		return fmt.Errorf("read configuration: %w", err)
	}
	if f.bytes += len(b); f.bytes > maxConfigTotal {
		return fmt.Errorf("configuration has more than %d bytes in all: %w", maxConfigTotal, errkind.TooLarge)
	}
	if err := parseConfig(string(b), func(s setting) error {
		if err := s.check(); err != nil {
			return err
		}
		f.config.list = append(f.config.list, s)
		return f.include(s, name, depth)
	}); err != nil {
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	return nil
}

// include follows include.path and includeIf.gitdir:….path.
func (f *configFiles) include(s setting, from string, depth int) error {
	if s.name != "include.path" {
		rest, ok := strings.CutPrefix(s.name, "includeif.")
		condition, isPath := strings.CutSuffix(rest, ".path")
		if !ok || !isPath || !f.holds(condition, from) {
			return nil
		}
	}
	if depth >= maxIncludes {
		return fmt.Errorf("more than %d files include each other: %w", maxIncludes, errkind.Invalid)
	}
	return f.file(f.absolute(s.value, from), depth+1)
}

// absolute is a path in a configuration: of the user, or next to the file that names it.
func (f *configFiles) absolute(name, from string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return filepath.Join(f.home, rest)
	}
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(from), name)
}

// holds says whether a condition of includeIf does. What a server's programs cannot know of does not.
func (f *configFiles) holds(condition, from string) bool {
	kind, pattern, _ := strings.Cut(condition, ":")
	dir := f.gitDir
	switch kind {
	case "gitdir":
	case "gitdir/i":
		pattern, dir = strings.ToLower(pattern), strings.ToLower(dir)
	default:
		return false
	}
	switch {
	case strings.HasPrefix(pattern, "~/"), strings.HasPrefix(pattern, "./"):
		pattern = f.absolute(strings.TrimPrefix(pattern, "./"), from) + strings.Repeat("/", len(pattern)-len(strings.TrimRight(pattern, "/")))
	case !filepath.IsAbs(pattern):
		pattern = "**/" + pattern
	}
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	return matchPath(pattern, dir)
}

// matchPath matches a pattern in which ** stands for any folders. It takes steps as many as the pattern's parts times the name's: after a
// part that does not match, only the last ** may take one part more.
func matchPath(pattern, name string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(name, "/")
	i, j, star, from := 0, 0, -1, 0 // star: where the last ** is; from: what is behind it
	for j < len(have) {
		switch {
		case i < len(want) && want[i] == "**":
			if i == len(want)-1 {
				return true // what is inside: there is something
			}
			star, from, i = i, j, i+1
			continue
		case i < len(want):
			if hit, err := path.Match(want[i], have[j]); hit && err == nil {
				i, j = i+1, j+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		i, j = star+1, from
	}
	return i == len(want)
}

// environment adds what git -c and its callers say: GIT_CONFIG_COUNT and what goes with it, and GIT_CONFIG_PARAMETERS.
func (f *configFiles) environment() error {
	if v := os.Getenv("GIT_CONFIG_COUNT"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > maxConfigBytes {
			return fmt.Errorf("GIT_CONFIG_COUNT is %q, which is no count: %w", v, errkind.Invalid)
		}
		for i := range n {
			key := os.Getenv("GIT_CONFIG_KEY_" + strconv.Itoa(i))
			if err := f.say(key, os.Getenv("GIT_CONFIG_VALUE_"+strconv.Itoa(i)), false); err != nil {
				return err
			}
		}
	}
	words, err := unquoteWords(os.Getenv("GIT_CONFIG_PARAMETERS"))
	if err != nil {
		return err
	}
	for _, w := range words {
		if err := f.say(w.name, w.value, w.bare); err != nil {
			return err
		}
	}
	return nil
}

func (f *configFiles) say(key, value string, bare bool) error {
	first, last := strings.IndexByte(key, '.'), strings.LastIndexByte(key, '.')
	if first <= 0 {
		return nil
	}
	s := setting{name: strings.ToLower(key[:first]) + key[first:last] + strings.ToLower(key[last:]), value: value, bare: bare}
	if err := s.check(); err != nil {
		return fmt.Errorf("configuration in the environment: %w", err)
	}
	f.config.list = append(f.config.list, s)
	return nil
}

// unquoteWords reads GIT_CONFIG_PARAMETERS: words in single quotes, either 'key=value' or 'key'='value'.
func unquoteWords(s string) (list []setting, err error) {
	bad := fmt.Errorf("GIT_CONFIG_PARAMETERS is malformed: %w", errkind.Invalid)
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		word, rest, ok := unquote(s)
		if !ok {
			return nil, bad
		}
		if after, found := strings.CutPrefix(rest, "="); found {
			value, rest, ok := "", after, true
			if after != "" && after[0] != ' ' {
				value, rest, ok = unquote(after)
			}
			if !ok {
				return nil, bad
			}
			list, s = append(list, setting{name: word, value: value, bare: after == "" || after[0] == ' '}), rest
			continue
		}
		key, value, found := strings.Cut(word, "=")
		list, s = append(list, setting{name: key, value: value, bare: !found}), rest
	}
	return list, nil
}

// unquote takes one word in single quotes, as shells have them, off s.
func unquote(s string) (word, rest string, ok bool) {
	var b strings.Builder
	if s == "" || s[0] != '\'' {
		return "", "", false
	}
	for {
		part, after, found := strings.Cut(s[1:], "'")
		if !found {
			return "", "", false
		}
		b.WriteString(part)
		if len(after) < 3 || after[0] != '\\' || after[2] != '\'' {
			return b.String(), after, true
		}
		b.WriteByte(after[1])
		s = after[2:]
	}
}
