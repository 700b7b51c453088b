// Package archive writes a tree as tar, tar.gz or zip, as git archive does.
//
// A tar, also that inside a tar.gz, is byte for byte what git archive --format=tar writes, as long as no .gitattributes file asks
// for more: export-ignore, export-subst and line ending conversion are not done.
package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// Limits of what is written; behind them is a tree that was made to be endless.
const (
	maxEntries = 10_000_000
	maxDepth   = 2048  // as git's core.maxTreeDepth
	maxPath    = 65535 // bytes: what a zip can hold
	// maxLink bounds a symbolic link's target; it is kept in memory. File systems allow 4095 bytes.
	maxLink = 65535
	// maxWhole is up to what size a file is read at once, rather than streamed.
	maxWhole = 1 << 20
)

// Format is an archive's format.
type Format string

// The formats.
const (
	Tar   Format = "tar"
	TarGz Format = "tar.gz"
	Zip   Format = "zip"
)

// Stored is the level of what is not compressed at all.
const Stored = -1

// Options name the archive's root folder and what it was made from, and say what of it is wanted. The zero Options is all of it.
type Options struct {
	Prefix string    // "demo-v1/"
	Commit git.OID   // written as the archive's comment, as git does; may be zero
	When   time.Time // every entry's time: the commit's

	Level int               // of compression, 1 to 9, or Stored; 0: the format's own default
	Paths []string          // only these files and folders, each of which must be there; none: all
	Each  func(path string) // is told of each entry before it is written; may be nil
}

func (o Options) level() int {
	switch o.Level {
	case 0:
		return gzip.DefaultCompression
	case Stored:
		return gzip.NoCompression
	}
	return o.Level
}

// Write streams the tree. Equal input gives equal bytes. When it fails, what was written is not an archive: the caller
// must not let it end like one.
func Write(ctx context.Context, w io.Writer, s *odb.Store, tree git.OID, f Format, opts Options) error {
	if err := checkPrefix(opts.Prefix); err != nil {
		return err
	}
	if opts.Level < Stored || opts.Level > gzip.BestCompression {
		return fmt.Errorf("archive level %d: %w", opts.Level, errkind.Invalid)
	}
	var out format
	switch f {
	case Tar:
		out = newTar(w, opts)
	case TarGz:
		zipped, err := newTarGz(w, opts)
		if err != nil {
			return err
		}
		out = zipped
	case Zip:
		out = newZip(w, opts)
	default:
		return fmt.Errorf("archive format %q: %w", f, errkind.Unsupported)
	}
	a := walker{ctx: ctx, s: s, out: out, opts: opts}
	if err := a.run(tree, opts); err != nil {
		return fmt.Errorf("archive %s: %w", tree, err)
	}
	return nil
}

// checkPrefix: everything below it comes from checked trees, but the prefix comes from a caller.
func checkPrefix(p string) error {
	clean := strings.TrimSuffix(p, "/")
	if p == "" || fits(p) && !strings.HasPrefix(p, "/") && clean == path.Clean(clean) && clean != ".." && !strings.HasPrefix(clean, "../") {
		return nil
	}
	return fmt.Errorf("archive prefix %q is not a relative path: %w", p[:min(len(p), 100)], errkind.Invalid)
}

func fits(p string) bool { return len(p) < 1024 && !strings.ContainsAny(p, "\x00\n") }

// format writes one kind of archive.
type format interface {
	begin() error
	// entry writes one file or directory. Of a symbolic link content is the target.
	entry(e entry, content io.Reader) error
	end() error
}

// entry is what comes before a file's content.
type entry struct {
	path string // a directory's ends with a slash
	mode git.Mode
	oid  git.OID
	size int64
	link string
}

func (e entry) isDir() bool { return e.mode == git.ModeDir || e.mode == git.ModeGitlink }

// executable: git looks at the owner's bit only.
func (e entry) executable() bool { return e.mode&0o100 != 0 }

// walker is one run of Write.
type walker struct {
	ctx     context.Context //nolint:containedctx // an argument of every step, not kept beyond the walk
	s       *odb.Store
	out     format
	opts    Options
	pending []entry // directories that are written when something in them is
	count   int
}

func (a *walker) run(tree git.OID, opts Options) error {
	for _, path := range opts.Paths {
		if _, err := Find(a.s, tree, path); err != nil {
			return err
		}
	}
	if err := a.out.begin(); err != nil {
		return err
	}
	if strings.HasSuffix(opts.Prefix, "/") {
		if err := a.write(entry{path: opts.Prefix, mode: git.ModeDir, oid: tree}, nil); err != nil {
			return err
		}
	}
	if err := a.tree(tree, opts.Prefix, 0); err != nil {
		return err
	}
	return a.out.end()
}

func (a *walker) tree(oid git.OID, prefix string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("tree is deeper than %d: %w", maxDepth, errkind.TooLarge)
	}
	obj, err := a.s.Read(oid)
	if err != nil {
		return err
	}
	if obj.Kind != git.Tree {
		return fmt.Errorf("%s is a %s, not a tree: %w", oid, obj.Kind, errkind.Invalid)
	}
	for e, err := range git.TreeEntries(obj.Data) {
		if err != nil {
			return fmt.Errorf("read tree %s: %w", oid, err)
		}
		if err := a.treeEntry(e, prefix, depth); err != nil {
			return err
		}
	}
	return nil
}

func (a *walker) treeEntry(e git.Entry, prefix string, depth int) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	if len(prefix)+len(e.Name) >= maxPath {
		return fmt.Errorf("a path has more than %d bytes: %w", maxPath, errkind.TooLarge)
	}
	out := entry{path: prefix + string(e.Name), mode: e.Mode, oid: e.OID}
	if out.isDir() {
		out.path += "/"
	}
	if !a.wanted(out) {
		return nil
	}
	switch e.Mode {
	case git.ModeDir:
		keep := len(a.pending)
		a.pending = append(a.pending, out)
		err := a.tree(e.OID, out.path, depth+1)
		a.pending = a.pending[:min(keep, len(a.pending))]
		return err
	case git.ModeGitlink:
		return a.write(out, nil)
	default:
		return a.blob(out)
	}
}

// wanted reports whether an entry is one of the paths that are asked for, is below one, or leads to one.
func (a *walker) wanted(e entry) bool {
	if len(a.opts.Paths) == 0 {
		return true
	}
	path := strings.TrimSuffix(e.path[len(a.opts.Prefix):], "/")
	for _, p := range a.opts.Paths {
		if path == p || strings.HasPrefix(path, p+"/") || e.isDir() && strings.HasPrefix(p, path+"/") {
			return true
		}
	}
	return false
}

// Find looks up a path in a tree: errkind.NotFound when nothing is there.
func Find(s *odb.Store, tree git.OID, path string) (git.Entry, error) {
	at := git.Entry{Mode: git.ModeDir, OID: tree}
	for name := range strings.SplitSeq(path, "/") {
		found := false
		if at.Mode == git.ModeDir {
			obj, err := s.Read(at.OID)
			if err != nil {
				return at, err
			}
			for e, err := range git.TreeEntries(obj.Data) {
				if err != nil {
					return at, fmt.Errorf("read tree %s: %w", at.OID, err)
				}
				if found = string(e.Name) == name; found {
					at = e
					break
				}
			}
		}
		if !found {
			return at, fmt.Errorf("path %q is not in the tree: %w", path[:min(len(path), 300)], errkind.NotFound)
		}
	}
	return at, nil
}

// blob writes a file or a symbolic link.
func (a *walker) blob(e entry) error {
	kind, size, err := a.s.Stat(e.oid)
	if err != nil {
		return err
	}
	if kind != git.Blob {
		return fmt.Errorf("%s is a %s, not a blob: %w", e.oid, kind, errkind.Invalid)
	}
	e.size = size
	if e.mode == git.ModeSymlink {
		if size > maxLink {
			return fmt.Errorf("a symbolic link has more than %d bytes: %w", maxLink, errkind.TooLarge)
		}
		obj, err := a.s.Read(e.oid)
		if err != nil {
			return err
		}
		e.link = string(obj.Data)
		return a.write(e, strings.NewReader(e.link))
	}
	if size <= maxWhole {
		obj, err := a.s.Read(e.oid)
		if err != nil {
			return err
		}
		return a.write(e, bytes.NewReader(obj.Data))
	}
	_, _, content, err := a.s.Open(a.ctx, e.oid)
	if err != nil {
		return err
	}
	return errors.Join(a.write(e, content), content.Close())
}

// write writes the directories that lead to an entry, then the entry.
func (a *walker) write(e entry, content io.Reader) error {
	for _, dir := range a.pending {
		if err := a.writeOne(dir, nil); err != nil {
			return err
		}
	}
	a.pending = a.pending[:0]
	return a.writeOne(e, content)
}

func (a *walker) writeOne(e entry, content io.Reader) error {
	if a.count++; a.count > maxEntries {
		return fmt.Errorf("more than %d entries: %w", maxEntries, errkind.TooLarge)
	}
	if a.opts.Each != nil {
		a.opts.Each(e.path)
	}
	return a.out.entry(e, content)
}
