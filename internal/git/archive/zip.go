package archive

import (
	"io"
	"io/fs"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zip"

	"github.com/skep-dev/skep/internal/git"
)

// zipFile writes a zip, with the commit's ID as its comment.
type zipFile struct {
	w    *zip.Writer
	opts Options
}

func newZip(w io.Writer, opts Options) *zipFile {
	z := zip.NewWriter(w)
	if opts.Level != 0 {
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, opts.level()) })
	}
	return &zipFile{w: z, opts: opts}
}

func (z *zipFile) begin() error {
	if z.opts.Commit.IsZero() {
		return nil
	}
	return z.w.SetComment(z.opts.Commit.String())
}

func (z *zipFile) end() error { return z.w.Close() }

func (z *zipFile) entry(e entry, content io.Reader) error {
	h := &zip.FileHeader{
		Name:     e.path,
		NonUTF8:  !utf8.ValidString(e.path),
		Modified: z.opts.When.UTC(),
		Method:   zip.Deflate,
	}
	if z.opts.Level == Stored {
		h.Method = zip.Store
	}
	switch {
	case e.isDir():
		h.SetMode(fs.ModeDir | 0o755)
		h.Method = zip.Store
	case e.mode == git.ModeSymlink:
		h.SetMode(fs.ModeSymlink | 0o777)
		h.Method = zip.Store
	case e.executable():
		h.SetMode(0o755)
	default:
		h.SetMode(0o644)
	}
	w, err := z.w.CreateHeader(h)
	if err != nil || e.isDir() {
		return err
	}
	_, err = io.Copy(w, content)
	return err
}
