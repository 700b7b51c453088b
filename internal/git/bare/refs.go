package bare

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// maxSymref is how many symbolic references git follows.
const maxSymref = 5

// refState is the references as they lie on disk.
type refState struct {
	head     string                      // HEAD's text without its end: "ref: …" or an ID
	direct   map[git.RefName]git.OID     // loose over packed
	symbolic map[git.RefName]git.RefName // what names another
	peeled   map[git.RefName]git.OID     // as packed-refs has it
	packed   map[git.RefName]git.OID     // as packed-refs has it
	known    map[git.RefName]bool        // peeled is known: zero means that it is no tag
}

// readRefs reads all references. Loose ones are read first: what git packs meanwhile is then in packed-refs.
func (r *Repo) readRefs() (*refState, error) {
	s := &refState{direct: map[git.RefName]git.OID{}, symbolic: map[git.RefName]git.RefName{}}
	if b, err := readFile(filepath.Join(r.dir, "HEAD"), maxSmallFile); err == nil {
		s.head = strings.TrimRight(string(b), " \t\r\n")
	} else if link, err := os.Readlink(filepath.Join(r.dir, "HEAD")); err == nil {
		s.head = "ref: " + link
	}
	if err := s.walk(r.common, "refs"); err != nil {
		return nil, err
	}
	if err := s.readPacked(r.common); err != nil {
		return nil, err
	}
	for name, o := range s.packed {
		if _, loose := s.direct[name]; loose {
			continue
		}
		if _, loose := s.symbolic[name]; !loose {
			s.direct[name] = o
		}
	}
	return s, nil
}

// walk reads the loose references of a folder.
func (s *refState) walk(common, dir string) error {
	entries, err := os.ReadDir(filepath.Join(common, dir))
	if notThere(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read references: %w", err)
	}
	for _, e := range entries {
		name := dir + "/" + e.Name()
		if e.IsDir() {
			if err := s.walk(common, name); err != nil {
				return err
			}
			continue
		}
		if strings.HasSuffix(name, ".lock") || e.Name()[0] == '.' {
			continue
		}
		s.addLoose(common, git.RefName(name))
	}
	return nil
}

func (s *refState) addLoose(common string, name git.RefName) {
	if _, err := git.ParseRefName(string(name)); err != nil {
		return
	}
	o, target, err := readLoose(filepath.Join(common, string(name)))
	switch {
	case notThere(err): // gone meanwhile
	case err != nil: // clients are shown that it is broken, as git does it
		s.direct[name] = git.OID{}
	case target != "":
		s.symbolic[name] = target
	default:
		s.direct[name] = o
	}
}

// readLoose reads one file of a reference. What a symbolic one names becomes a path as well, so that it must be a name.
func readLoose(path string) (o git.OID, target git.RefName, err error) {
	if link, err := os.Readlink(path); err == nil && strings.HasPrefix(link, "refs/") {
		target, err = git.ParseRefName(link)
		return o, target, err
	}
	b, err := readFile(path, maxSmallFile)
	if err != nil {
		return o, "", err
	}
	text := strings.TrimRight(string(b), " \t\r\n")
	if name, ok := strings.CutPrefix(text, "ref:"); ok {
		target, err = git.ParseRefName(strings.TrimLeft(name, " \t"))
		return o, target, err
	}
	if len(text) > 2*git.OIDSize && (text[2*git.OIDSize] == ' ' || text[2*git.OIDSize] == '\n') {
		text = text[:2*git.OIDSize]
	}
	o, err = git.ParseOID(strings.ToLower(text))
	return o, "", err
}

// readPacked reads packed-refs (git-pack-refs(1)).
func (s *refState) readPacked(common string) error {
	s.packed, s.peeled, s.known = map[git.RefName]git.OID{}, map[git.RefName]git.OID{}, map[git.RefName]bool{}
	f, err := openRegular(filepath.Join(common, "packed-refs"))
	if notThere(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read references: %w", err)
	}
	defer func() { _ = f.Close() }()
	fully, last := false, git.RefName("")
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "# pack-refs with:"):
			fully = strings.Contains(line, " fully-peeled ") || strings.HasSuffix(line, " fully-peeled")
		case line == "" || line[0] == '#':
		case line[0] == '^':
			if o, err := git.ParseOID(line[1:]); err == nil && last != "" {
				s.peeled[last], s.known[last] = o, true
			}
		default:
			id, name, ok := strings.Cut(line, " ")
			o, err := git.ParseOID(id)
			if !ok || err != nil {
				return fmt.Errorf("packed-refs has the line %q: %w", line, errkind.Invalid)
			}
			if last, err = git.ParseRefName(name); err != nil {
				last = "" // as for a loose one, there is none
				continue
			}
			s.packed[last], s.known[last] = o, fully
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read packed-refs: %w", err)
	}
	return nil
}

// resolve follows symbolic references to a value.
func (s *refState) resolve(name git.RefName) (o git.OID, last git.RefName, ok bool) {
	for range maxSymref {
		if o, ok := s.direct[name]; ok {
			return o, name, true
		}
		next, ok := s.symbolic[name]
		if !ok {
			return o, name, false
		}
		name = next
	}
	return o, name, false
}

// headTarget is what HEAD names: a reference, or an object when it is detached.
func (s *refState) headTarget() (git.RefName, git.OID) {
	if name, ok := strings.CutPrefix(s.head, "ref:"); ok {
		target, err := git.ParseRefName(strings.TrimLeft(name, " \t"))
		if err != nil {
			return "", git.OID{}
		}
		return target, git.OID{}
	}
	o, err := git.ParseOID(s.head)
	if err != nil {
		return "", git.OID{}
	}
	return "", o
}

// objectTest looks up what a reference names: whether it is there, its kind and, of a tag, what that leads to.
type objectTest func(git.OID) (kind git.Kind, peeled git.OID, ok bool)

// refs makes the engine's references: those of the namespace. What names no object is among them, as in git: who clones a damaged
// repository shall notice.
func (s *refState) refs(space string, test objectTest) *git.Refs {
	list := make([]git.Ref, 0, len(s.direct)+len(s.symbolic))
	symbolic := map[git.RefName]git.RefName{}
	add := func(name git.RefName, o git.OID, last git.RefName) {
		short, ok := strings.CutPrefix(string(name), space)
		if !ok || space != "" && !strings.HasPrefix(short, "refs/") {
			return
		}
		ref := git.Ref{Name: git.RefName(short), OID: o}
		if s.known[last] && s.packed[last] == o {
			ref.Peeled = s.peeled[last]
		} else if kind, peeled, ok := test(o); ok && kind == git.Tag {
			ref.Peeled = peeled
		}
		list = append(list, ref)
	}
	for name, o := range s.direct {
		add(name, o, name)
	}
	for name, next := range s.symbolic {
		if o, last, ok := s.resolve(name); ok {
			add(name, o, last)
			if short, ok := strings.CutPrefix(string(name), space); ok {
				symbolic[git.RefName(short)] = git.RefName(strings.TrimPrefix(string(next), space))
			}
		}
	}
	slices.SortFunc(list, func(a, b git.Ref) int { return strings.Compare(string(a.Name), string(b.Name)) })
	branch, o := s.headTarget()
	if space != "" {
		branch, o = s.symbolic[git.RefName(space+"HEAD")], s.direct[git.RefName(space+"HEAD")]
	}
	refs := git.NewRefs(git.RefName(strings.TrimPrefix(string(branch), space)), list).WithSymbolic(symbolic)
	if next, ok := s.symbolic[branch]; ok { // HEAD names what names another: clients hear of the last one
		_, last, _ := s.resolve(next)
		refs = refs.WithHead(git.RefName(strings.TrimPrefix(string(last), space)))
	}
	if _, _, ok := test(o); branch == "" && ok {
		refs = refs.WithDetachedHead(o)
	}
	return refs
}

// isDirectoryInTheWay reports whether a file cannot be made because a folder has its name, or a file that of its folder.
func isDirectoryInTheWay(err error) bool {
	return errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY)
}
