package bare

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/git"
)

// identity is who moves references, as reflogs name him.
type identity struct{ name, email string }

// identity is the committer, as git finds him.
func (r *Repo) identity() identity {
	first := func(env string, keys ...string) string {
		if v := os.Getenv(env); v != "" {
			return v
		}
		for _, k := range keys {
			if v, ok := r.config.Get(k); ok && v != "" {
				return v
			}
		}
		return ""
	}
	id := identity{
		name:  first("GIT_COMMITTER_NAME", "committer.name", "user.name"),
		email: first("GIT_COMMITTER_EMAIL", "committer.email", "user.email"),
	}
	if id.email == "" {
		id.email = os.Getenv("EMAIL")
	}
	if id.name != "" && id.email != "" {
		return id
	}
	login, name := "unknown", ""
	if u, err := user.Current(); err == nil {
		login, name = u.Username, u.Name
	}
	if id.name == "" {
		if id.name = name; name == "" {
			id.name = login
		}
	}
	if id.email == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		id.email = login + "@" + host
	}
	return id
}

// logPath is where a reference's log lies. Each work tree has a HEAD of its own.
func (r *Repo) logPath(name git.RefName) string {
	if name == git.HEAD {
		return filepath.Join(r.dir, "logs", "HEAD")
	}
	return filepath.Join(r.common, "logs", string(name))
}

// logsFor says which logs a change is written to: its reference's, and HEAD's when HEAD leads there.
func (r *Repo) logsFor(s *refState, c *held) []git.RefName {
	names := []git.RefName{c.target}
	if c.name != c.target {
		names = append(names, c.name)
	}
	if branch, _ := s.headTarget(); branch != "" {
		if _, last, _ := s.resolve(branch); last == c.target {
			names = append(names, git.HEAD)
		}
	}
	out := names[:0]
	for _, n := range names {
		if _, err := os.Stat(r.logPath(n)); err == nil || r.logsAll(n) {
			out = append(out, n)
		}
	}
	return out
}

// logsAll says whether a log is begun for a reference that has none (core.logAllRefUpdates).
func (r *Repo) logsAll(name git.RefName) bool {
	v, ok := r.config.Get("core.logallrefupdates")
	on := !r.isBare()
	if ok {
		if strings.EqualFold(v, "always") {
			return true
		}
		on, _ = parseBool(v)
	}
	s := string(name)
	return on && (name == git.HEAD || strings.HasPrefix(s, "refs/heads/") || strings.HasPrefix(s, "refs/remotes/") || strings.HasPrefix(s, "refs/notes/"))
}

// appendLog writes a line to a reference's log.
func (r *Repo) appendLog(name git.RefName, c *held, id identity) error {
	path := r.logPath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil { //nolint:gosec // as git: the umask decides
		return err
	}
	if isDir(path) {
		_ = removeEmpty(path) // else opening it fails
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666) //nolint:gosec // as above
	if err != nil {
		return fmt.Errorf("unable to append to '%s': %w", path, err)
	}
	clean := strings.NewReplacer("\n", " ", "<", "", ">", "")
	line := fmt.Sprintf("%s %s %s <%s> %s\t%s\n", c.old, c.new, clean.Replace(id.name), clean.Replace(id.email), when(), strings.ReplaceAll(c.message, "\n", " "))
	if _, err := f.WriteString(line); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	return f.Close()
}

// when is the time of a log's line; GIT_COMMITTER_DATE says another one in the form that git stores.
func when() string {
	if v, ok := strings.CutPrefix(os.Getenv("GIT_COMMITTER_DATE"), "@"); ok {
		return v
	}
	if v := os.Getenv("GIT_COMMITTER_DATE"); v != "" {
		var sec int64
		var zone string
		if n, err := fmt.Sscanf(v, "%d %s", &sec, &zone); err == nil && n == 2 {
			return v
		}
	}
	now := time.Now()
	return fmt.Sprintf("%d %s", now.Unix(), now.Format("-0700"))
}
