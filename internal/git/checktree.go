package git

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// CheckName judges one component of a path: whether a tree may hold an entry of this name. It refuses what a checkout on
// any system would take for ".git", as git fsck does.
func CheckName[T string | []byte](name T) error {
	n := []byte(name)
	switch {
	case bytes.IndexByte(n, 0) >= 0:
		return fsck("badTree", fmt.Sprintf("the name %q contains NUL", clip(n)))
	default:
		return checkEntryName(n)
	}
}

// CheckEntry is CheckName for a name that comes with a mode: it also refuses modes that git never writes, and symbolic links
// at .gitmodules.
func CheckEntry[T string | []byte](name T, m Mode) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return checkEntryMode([]byte(name), m)
}

// checkTree reads a tree once, with the checks of git's fsck_tree.
func checkTree(data []byte) error {
	var (
		last   Entry
		files  [][]byte // a stack: see dupOrder
		number int
	)
	for ; len(data) > 0; number++ {
		e, n, err := NextEntry(data)
		if err != nil {
			return fsck("badTree", err.Error())
		}
		if err := checkEntryName(e.Name); err != nil {
			return err
		}
		if err := checkEntryMode(e.Name, e.Mode); err != nil {
			return err
		}
		if e.OID.IsZero() {
			return fsck("nullSha1", fmt.Sprintf("the entry %q names the null object ID", clip(e.Name)))
		}
		if number > 0 {
			if files, err = checkOrder(last, e, files); err != nil {
				return err
			}
		}
		last, data = e, data[n:]
	}
	return nil
}

// checkOrder compares an entry with the one before it. A file and a directory of one name need not be neighbours, as the
// directory sorts as if it ended with '/':
//
//	foo
//	foo.bar
//	foo.bar.baz
//	foo.bar/
//	foo/
//
// files is a stack of the files that may still meet their directory.
func checkOrder(a, b Entry, files [][]byte) ([][]byte, error) {
	n := min(len(a.Name), len(b.Name))
	c := bytes.Compare(a.Name[:n], b.Name[:n])
	switch {
	case c < 0:
		return files, nil
	case c > 0:
		return files, fsck("treeNotSorted", fmt.Sprintf("the entry %q is out of order", clip(b.Name)))
	case len(a.Name) == len(b.Name):
		return files, fsck("duplicateEntries", fmt.Sprintf("two entries %q", clip(b.Name)))
	}
	endA, endB := endByte(a.Name, a.Mode, n), endByte(b.Name, b.Mode, n)
	switch {
	case endA == 0 && beforeSlash(endB):
		files = append(files, a.Name)
	case endB == '/' && beforeSlash(endA):
		for len(files) > 0 {
			file := files[len(files)-1]
			tail, ok := bytes.CutPrefix(b.Name, file)
			switch {
			case ok && len(tail) == 0:
				return files, fsck("duplicateEntries", fmt.Sprintf("a file and a directory %q", clip(b.Name)))
			case ok && beforeSlash(tail[0]):
				return files, ordered(endA, endB, b)
			}
			files = files[:len(files)-1]
		}
	}
	return files, ordered(endA, endB, b)
}

func ordered(a, b byte, e Entry) error {
	if a >= b {
		return fsck("treeNotSorted", fmt.Sprintf("the entry %q is out of order", clip(e.Name)))
	}
	return nil
}

func beforeSlash(c byte) bool { return 0 < c && c < '/' }

func checkEntryMode(name []byte, m Mode) error {
	switch {
	case !m.Known():
		return fsck("badFilemode", fmt.Sprintf("the entry %q has mode %s", clip(name), m))
	case m == ModeSymlink && isDotGitmodules(name):
		return fsck("gitmodulesSymlink", ".gitmodules is a symbolic link")
	}
	return nil
}

// checkEntryName is CheckName for a name without NUL.
func checkEntryName(n []byte) error {
	if len(n) == 0 {
		return fsck("badTree", "an entry has no name (emptyName)")
	}
	switch n[0] {
	case '.', 'g', 'G', hfsIgnored1, hfsIgnored2:
		// Only names that start so can be one of these, and few names do.
		switch {
		case string(n) == ".":
			return fsck("hasDot", "an entry is named '.'")
		case string(n) == "..":
			return fsck("hasDotdot", "an entry is named '..'")
		case isHFSDot(n, "git") || isNTFSDotGit(n):
			return fsck("hasDotgit", fmt.Sprintf("the entry %q is .git on some systems", clip(n)))
		}
	}
	if len(n) > maxEntryName {
		return fsck("largePathname", fmt.Sprintf("an entry's name has %d bytes", len(n)))
	}
	if bytes.IndexByte(n, '/') >= 0 {
		return fsck("fullPathname", fmt.Sprintf("the entry %q contains a slash", clip(n)))
	}
	// On Windows a backslash parts directories.
	for at := bytes.IndexByte(n, '\\'); at >= 0; at = bytes.IndexByte(n, '\\') {
		if n = n[at+1:]; isNTFSDotGit(n) {
			return fsck("hasDotgit", fmt.Sprintf("the entry %q is below .git on some systems", clip(n)))
		}
	}
	return nil
}

// The first bytes of the code points that HFS+ ignores in names.
const (
	hfsIgnored1 = 0xE2
	hfsIgnored2 = 0xEF
)

// isHFSDot reports whether HFS+ takes name for '.' and word: it folds case and ignores some code points.
func isHFSDot(name []byte, word string) bool {
	next := func() rune {
		for len(name) > 0 {
			r, n := utf8.DecodeRune(name)
			name = name[n:]
			switch {
			case r == utf8.RuneError && n == 1:
				return 0 // as git does: not UTF-8 ends the name
			case 0x200c <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e, 0x206a <= r && r <= 0x206f, r == 0xfeff:
				continue
			case 'A' <= r && r <= 'Z':
				return r + 'a' - 'A'
			}
			return r
		}
		return 0
	}
	if next() != '.' {
		return false
	}
	for _, want := range word {
		if next() != want {
			return false
		}
	}
	return next() == 0
}

// isNTFSDotGit reports whether Windows takes name, or what comes before a backslash or colon in it, for .git: it ignores
// case and dots and spaces at the end, has git~1 as a short name, and a colon starts a stream's name.
func isNTFSDotGit(name []byte) bool {
	for _, dir := range [...]string{".git", "git~1"} {
		if len(name) >= len(dir) && strings.EqualFold(string(name[:len(dir)]), dir) {
			return ntfsEnd(name[len(dir):], `\:`)
		}
	}
	return false
}

// ntfsEnd reports whether s has only what Windows drops from a name's end, up to one of the stop bytes.
func ntfsEnd(s []byte, stop string) bool {
	for _, c := range s {
		switch {
		case strings.IndexByte(stop, c) >= 0:
			return true
		case c != '.' && c != ' ':
			return false
		}
	}
	return true
}

func isDotGitmodules(name []byte) bool {
	if isHFSDot(name, "gitmodules") || isNTFSDotGitmodules(name) {
		return true
	}
	for at := bytes.IndexByte(name, '\\'); at >= 0; at = bytes.IndexByte(name, '\\') {
		if name = name[at+1:]; isNTFSDotGitmodules(name) {
			return true
		}
	}
	return false
}

// isNTFSDotGitmodules also knows the short names that Windows makes: gitmod~1 to gitmod~4, then gi7eba and a number.
func isNTFSDotGitmodules(name []byte) bool {
	const long, short, hashed = ".gitmodules", "gitmod~", "gi7eba"
	if len(name) >= len(long) && strings.EqualFold(string(name[:len(long)]), long) {
		return ntfsEnd(name[len(long):], ":")
	}
	if len(name) < 8 {
		return false
	}
	if strings.EqualFold(string(name[:len(short)]), short) && '1' <= name[7] && name[7] <= '4' {
		return ntfsEnd(name[8:], ":")
	}
	tilde := bytes.IndexByte(name[:7], '~')
	return tilde >= 0 && strings.EqualFold(string(name[:tilde]), hashed[:tilde]) &&
		name[tilde+1] != '0' && digits(name[tilde+1:8]) && ntfsEnd(name[8:], ":")
}
