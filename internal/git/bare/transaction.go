package bare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// change is one reference of a transaction, its name with the namespace.
type change struct {
	name     git.RefName
	old, new git.OID
	message  string // for the reflog
	any      bool   // whatever it names now
}

// held is a change whose reference is locked.
type held struct {
	change
	target git.RefName // what name leads to: itself, unless it is symbolic
	lock   *lockFile
	now    git.OID
	logs   []git.RefName
}

// errRef is what git says of a reference that could not be locked.
func errRef(name git.RefName, format string, args ...any) error {
	return fmt.Errorf("cannot lock ref '%s': %s: %w", name, fmt.Sprintf(format, args...), errkind.Conflict)
}

// transaction moves references: all, or none. Each is locked and compared before the first is moved; the hook reference-transaction may
// then still refuse.
func (r *Repo) transaction(ctx context.Context, h *hooks, changes []change) (err error) {
	state, err := r.readRefs()
	if err != nil {
		return err
	}
	var list []*held
	defer func() {
		if err != nil {
			for _, c := range list {
				c.lock.drop()
			}
		}
	}()
	for _, c := range changes {
		one, err := r.hold(state, c)
		if err != nil {
			return err
		}
		list = append(list, one)
	}
	// git may have packed a reference since the state was read, which is then no file any more. With its lock held that cannot be.
	if err := state.readPacked(r.common); err != nil {
		return err
	}
	for _, c := range list {
		if err := r.compare(state, c); err != nil {
			return err
		}
	}
	if err := r.conflicts(state, list); err != nil {
		return err
	}
	if err := r.tellTransaction(ctx, h, "prepared", changes); err != nil {
		_ = r.tellTransaction(ctx, h, "aborted", changes) // whatever it says then, it is
		return fmt.Errorf("in 'prepared' phase, update aborted by the reference-transaction hook: %w", errkind.Forbidden)
	}
	for _, c := range list {
		if c.any {
			c.old = c.now
		}
	}
	unlock, err := r.dropPacked(list)
	if err != nil {
		return err
	}
	defer unlock()
	id := r.identity()
	for i, c := range list {
		if err := r.move(c, id); err != nil {
			for _, rest := range list[i+1:] {
				rest.lock.drop()
			}
			list = nil
			return err
		}
	}
	unlock()
	_ = r.tellTransaction(ctx, h, "committed", changes) // its exit status changes nothing
	return nil
}

func (r *Repo) tellTransaction(ctx context.Context, h *hooks, phase string, changes []change) error {
	path := h.find("reference-transaction")
	if path == "" {
		return nil
	}
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s %s\n", c.old, c.new, c.name)
	}
	cmd := h.command(ctx, path, os.Stderr, phase)
	cmd.Stdin = strings.NewReader(b.String())
	return cmd.Run()
}

// hold locks one reference.
func (r *Repo) hold(s *refState, c change) (*held, error) {
	h := &held{change: c, target: c.name}
	if _, symbolic := s.symbolic[c.name]; symbolic && !c.new.IsZero() {
		_, h.target, _ = s.resolve(c.name)
	}
	path := filepath.Join(r.common, string(h.target))
	var err error
	if h.lock, err = lock(path, r.config.Int("core.filesreflocktimeout", refLockWait)); err != nil {
		if isDirectoryInTheWay(err) {
			return nil, errRef(c.name, "there is a reference in the way")
		}
		return nil, errRef(c.name, "%v", err)
	}
	return h, nil
}

// compare sees that a reference which is locked has its old value.
func (r *Repo) compare(s *refState, h *held) error {
	now, target, err := readLoose(h.lock.path)
	switch {
	case err == nil && target != "":
		now, _, _ = s.resolve(h.name)
	case err != nil:
		now = s.packed[h.target]
	}
	if now != h.old && !h.any {
		switch {
		case now.IsZero():
			return errRef(h.name, "unable to resolve reference '%s'", h.name)
		case h.old.IsZero():
			return errRef(h.name, "reference already exists")
		}
		return errRef(h.name, "is at %s but expected %s", now, h.old)
	}
	h.now, h.logs = now, r.logsFor(s, h)
	return nil
}

// conflicts refuses references that would be a folder of others.
func (r *Repo) conflicts(s *refState, list []*held) error {
	after := make([]git.Ref, 0, len(s.direct)+len(list))
	gone := map[git.RefName]bool{}
	for _, c := range list {
		gone[c.target] = true
		if !c.new.IsZero() {
			after = append(after, git.Ref{Name: c.target, OID: c.new})
		}
	}
	for name, o := range s.direct {
		if !gone[name] {
			after = append(after, git.Ref{Name: name, OID: o})
		}
	}
	for name := range s.symbolic {
		if !gone[name] {
			after = append(after, git.Ref{Name: name})
		}
	}
	slices.SortFunc(after, func(a, b git.Ref) int { return strings.Compare(string(a.Name), string(b.Name)) })
	refs := git.NewRefs("", after)
	for _, c := range list {
		if c.new.IsZero() {
			continue
		}
		if other, ok := refs.Blocker(c.target); ok {
			return errRef(c.name, "'%s' exists; cannot create '%s'", other, c.target)
		}
	}
	return nil
}

// dropPacked removes references that are deleted from packed-refs, before they go as files: else an old value would come up again. Until
// unlock is called nobody else writes packed-refs, in which git would put them again while they are files. It may be called twice.
func (r *Repo) dropPacked(list []*held) (unlock func(), err error) {
	if !slices.ContainsFunc(list, func(c *held) bool { return c.new.IsZero() }) {
		return func() {}, nil
	}
	path := filepath.Join(r.common, "packed-refs")
	l, err := lock(path, r.config.Int("core.packedrefstimeout", packedLockWait))
	if err != nil {
		return nil, fmt.Errorf("lock packed-refs: %w", err)
	}
	unlock = sync.OnceFunc(l.drop)
	var now refState
	if err := now.readPacked(r.common); err != nil {
		unlock()
		return nil, err
	}
	gone := map[string]bool{}
	for _, c := range list {
		if _, packed := now.packed[c.target]; packed && c.new.IsZero() {
			gone[string(c.target)] = true
		}
	}
	if len(gone) > 0 {
		err = rewritePacked(path, gone)
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("rewrite packed-refs: %w", err)
	}
	return unlock, nil
}

// rewritePacked replaces packed-refs by way of the file that git uses for it, while the lock is held.
func rewritePacked(path string, gone map[string]bool) error {
	_ = os.Remove(path + ".new")                                                 // of who had the lock and ended
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // as git: the umask decides
	if err != nil {
		return err
	}
	err = copyPacked(f, path, gone)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new") // what is left nobody reads
	}
	return err
}

// copyPacked copies packed-refs without some references.
func copyPacked(to *os.File, path string, gone map[string]bool) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w, lines, skip := bufio.NewWriter(to), bufio.NewScanner(f), false
	for lines.Scan() {
		line := lines.Text()
		if line != "" && line[0] != '^' {
			_, name, _ := strings.Cut(line, " ")
			skip = line[0] != '#' && gone[name]
		}
		if !skip {
			_, _ = w.WriteString(line + "\n") // Flush has the error
		}
	}
	return errors.Join(lines.Err(), w.Flush())
}

// move does one change.
func (r *Repo) move(c *held, id identity) error {
	if c.new.IsZero() {
		err := os.Remove(c.lock.path)
		c.lock.drop()
		if err != nil && !notThere(err) && !isDirectoryInTheWay(err) {
			return err
		}
		for _, log := range c.logs {
			if log == c.target {
				_ = os.Remove(r.logPath(log)) // a log without its reference is removed at the next chance
				removeEmptyParents(filepath.Join(r.common, "logs"), r.logPath(log))
			} else if err := r.appendLog(log, c, id); err != nil {
				return err
			}
		}
		removeEmptyParents(r.common, c.lock.path)
		return nil
	}
	if _, err := c.lock.f.WriteString(c.new.String() + "\n"); err != nil {
		c.lock.drop()
		return err
	}
	for _, log := range c.logs {
		if err := r.appendLog(log, c, id); err != nil {
			c.lock.drop()
			return err
		}
	}
	if err := c.lock.commit(); err != nil {
		_ = os.Remove(c.lock.path + ".lock")
		return errRef(c.name, "%v", err)
	}
	return nil
}
