package archive

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/skep-dev/skep/internal/git"
)

// This file writes tar archives as POSIX pax describes them
// (https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html), choosing where there is a choice as git does.
// The standard library's writer cannot put names that are not UTF-8 into plain headers.

const (
	tarBlock  = 512
	tarRecord = 20 * tarBlock // an archive's length is a multiple of it

	tarName   = 100 // bytes in a header for a name, and for a link's target
	tarPrefix = 155 // for the directories before the name

	maxTarSize = 1<<33 - 1 // eleven octal digits
	maxTarTime = 1<<33 - 1
)

// The types of entry.
const (
	tarFile   = '0'
	tarLink   = '2'
	tarDir    = '5'
	tarGlobal = 'g' // pax records for the whole archive
	tarNext   = 'x' // pax records for the entry that follows
)

// tarball writes a tar, perhaps compressed.
type tarball struct {
	out     io.Writer
	zip     *gzip.Writer // nil: plain
	opts    Options
	written int64
	block   [tarBlock]byte
}

func newTar(w io.Writer, opts Options) *tarball { return &tarball{out: w, opts: opts} }

func newTarGz(w io.Writer, opts Options) (*tarball, error) {
	zip, err := gzip.NewWriterLevel(w, opts.level()) // the header has neither a name nor a time
	return &tarball{out: zip, zip: zip, opts: opts}, err
}

func (t *tarball) Write(b []byte) (int, error) {
	n, err := t.out.Write(b)
	t.written += int64(n)
	return n, err
}

// begin writes the commit's ID where git get-tar-commit-id finds it.
func (t *tarball) begin() error {
	if t.opts.Commit.IsZero() {
		return nil
	}
	return t.records(tarGlobal, "pax_global_header", paxRecord("comment", t.opts.Commit.String()))
}

func (t *tarball) end() error {
	// Two empty blocks end an archive; more fill the record.
	records := (t.written + 2*tarBlock + tarRecord - 1) / tarRecord
	if err := t.zeros(records*tarRecord - t.written); err != nil {
		return err
	}
	if t.zip == nil {
		return nil
	}
	return t.zip.Close()
}

func (t *tarball) entry(e entry, content io.Reader) error {
	h := tarHeader{mode: 0o664, typ: tarFile, size: e.size}
	switch {
	case e.isDir():
		h.mode, h.typ, h.size = 0o775, tarDir, 0
	case e.mode == git.ModeSymlink:
		h.mode, h.typ, h.size = 0o777, tarLink, 0
	case e.executable():
		h.mode = 0o775
	}
	// What does not fit in the header goes before it, as pax records.
	var records string
	var ok bool
	if h.prefix, h.name, ok = splitTarName(e.path); !ok {
		h.name = e.oid.String() + ".data"
		records += paxRecord("path", e.path)
	}
	if h.link = e.link; len(e.link) > tarName {
		h.link = "see " + e.oid.String() + ".paxheader"
		records += paxRecord("linkpath", e.link)
	}
	size := h.size
	if size > maxTarSize {
		h.size = 0
		records += paxRecord("size", strconv.FormatInt(size, 10))
	}
	if records != "" {
		if err := t.records(tarNext, e.oid.String()+".paxheader", records); err != nil {
			return err
		}
	}
	if err := t.header(h); err != nil || h.typ != tarFile {
		return err
	}
	n, err := io.Copy(t, content)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("write %s: it has %d bytes, not %d", e.oid, n, size)
	}
	return t.zeros(padding(n))
}

// splitTarName cuts a path that is too long for a name at a slash, so that both parts fit.
func splitTarName(path string) (prefix, name string, ok bool) {
	if len(path) <= tarName {
		return "", path, true
	}
	cut := strings.LastIndexByte(path[:min(len(path)-1, tarPrefix)], '/')
	if cut <= 0 || len(path)-cut-1 > tarName {
		return "", "", false
	}
	return path[:cut], path[cut+1:], true
}

// paxRecord is "LENGTH KEY=VALUE\n", where LENGTH counts its own digits.
func paxRecord(key, value string) string {
	rest := len(" =\n") + len(key) + len(value)
	n := rest
	for rest+len(strconv.Itoa(n)) != n {
		n = rest + len(strconv.Itoa(n))
	}
	return strconv.Itoa(n) + " " + key + "=" + value + "\n"
}

func (t *tarball) records(typ byte, name, records string) error {
	size := int64(len(records))
	if err := t.header(tarHeader{name: name, mode: 0o666, typ: typ, size: size}); err != nil {
		return err
	}
	if _, err := io.WriteString(t, records); err != nil {
		return err
	}
	return t.zeros(padding(size))
}

type tarHeader struct {
	prefix, name string
	mode         int64
	typ          byte
	size         int64
	link         string
}

func (t *tarball) header(h tarHeader) error {
	b := &t.block
	clear(b[:])
	copy(b[0:tarName], h.name)
	octal(b[100:108], h.mode)
	octal(b[108:116], 0) // owner
	octal(b[116:124], 0) // group
	octal(b[124:136], h.size)
	octal(b[136:148], max(0, min(t.opts.When.Unix(), maxTarTime)))
	b[156] = h.typ
	copy(b[157:257], h.link)
	copy(b[257:265], "ustar\x0000")
	copy(b[265:297], "root")
	copy(b[297:329], "root")
	octal(b[329:337], 0) // device
	octal(b[337:345], 0)
	copy(b[345:500], h.prefix)
	// The sum of all bytes, those of the sum itself taken as blanks.
	sum := int64(8 * ' ')
	for _, c := range b {
		sum += int64(c)
	}
	octal(b[148:156], sum)
	_, err := t.Write(b[:])
	return err
}

// octal fills a field with digits and a NUL.
func octal(field []byte, n int64) {
	copy(field, fmt.Sprintf("%0*o", len(field)-1, n))
}

// padding is what an entry of size bytes lacks to whole blocks.
func padding(size int64) int64 { return (tarBlock - size%tarBlock) % tarBlock }

func (t *tarball) zeros(n int64) error {
	clear(t.block[:])
	for n > 0 {
		k, err := t.Write(t.block[:min(n, tarBlock)])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}
