package cell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/bucket"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// maxHot is the size up to which a pack is a row of the database: a push of it is then one sync of one file. Above it,
// the log would carry each byte twice.
const maxHot = 1 << 20

// livePack is an open pack of the catalogue.
type livePack struct {
	row   packRow // without data
	pack  *pack.Pack
	hot   *hotData       // of a hot pack
	files []*bucket.File // of a warm one
}

func (p *livePack) close() {
	for _, f := range p.files {
		_ = f.Close() // it was only read
	}
}

// openPack opens a pack of the catalogue. A hot pack's bytes are read when they are first needed.
func (c *Cell) openPack(row packRow) (*livePack, error) {
	if row.hot {
		return c.openHot(row)
	}
	p := &livePack{row: row}
	var content [3][]byte // none of the packfile
	for i, key := range c.keys(row.checksum) {
		f, err := c.files.Open(key)
		if err == nil {
			p.files = append(p.files, f)
			if i > 0 {
				content[i], err = f.Bytes()
			}
		}
		if err != nil {
			p.close()
			if errors.Is(err, errkind.NotFound) { // of a file, not of the repository: no caller may take it for that
				return nil, fmt.Errorf("pack %s: file %s is missing", row.checksum, key)
			}
			return nil, fmt.Errorf("pack %s: %w", row.checksum, err)
		}
	}
	var err error
	if p.pack, err = pack.Open(p.files[0], p.files[0].Size(), content[1], content[2], c.opts.Room); err == nil {
		err = p.check()
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("pack %s: %w", row.checksum, internal(err))
	}
	return p, nil
}

// internal hides the kind of an error: a defect on our own disk is nobody's bad input. That there is too much to do just now
// (pack.Room) is no defect.
func internal(err error) error {
	if errors.Is(err, errkind.Unavailable) {
		return err
	}
	return errors.New(err.Error())
}

func (c *Cell) openHot(row packRow) (*livePack, error) {
	data := &hotData{cell: c, id: row.id, size: row.size, bytes: row.data}
	idx, table := row.idx, row.table
	row.idx, row.table, row.data = nil, nil, nil
	p := &livePack{row: row, hot: data}
	var err error
	if p.pack, err = pack.Open(data, row.size, idx, table, c.opts.Room); err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", row.checksum, internal(err))
	}
	return p, nil
}

// openAside opens a pack that no view has.
func (c *Cell) openAside(ctx context.Context, row packRow) (*livePack, error) {
	if row.hot {
		s, err := c.database()
		if err != nil {
			return nil, err
		}
		if row.idx, row.table, row.data, err = s.hotPack(ctx, row.id); err != nil {
			return nil, err
		}
	}
	return c.openPack(row)
}

// check compares a pack with its row.
func (p *livePack) check() error {
	if p.pack.Checksum() != p.row.checksum || p.pack.Size() != p.row.size || p.pack.Len() != p.row.objects {
		return fmt.Errorf("it has %d objects in %d bytes, checksum %s; its row says %d in %d, %s",
			p.pack.Len(), p.pack.Size(), p.pack.Checksum(), p.row.objects, p.row.size, p.row.checksum)
	}
	return nil
}

// keys are the three files of a warm pack: packfile, index, table.
func (c *Cell) keys(checksum git.OID) [3]string {
	stem := c.folder + "/" + checksum.String()
	return [3]string{stem + ".pack", stem + ".idx", stem + ".table"}
}

// hotData is the packfile of a hot pack. It stays in memory once it was read.
type hotData struct {
	cell *Cell
	id   int64
	size int64

	mu    sync.Mutex
	bytes []byte // guarded by mu
}

// ReadAt implements io.ReaderAt.
func (h *hotData) ReadAt(b []byte, off int64) (int, error) {
	// Whoever reads first reads for all: its caller's end would be no reason to stop.
	data, err := h.load(context.Background()) //nolint:forbidigo // io.ReaderAt has no context
	if err != nil {
		return 0, err
	}
	return bytes.NewReader(data).ReadAt(b, off)
}

// load reads the bytes. It is also called before the row goes, for the sake of views that have not read them yet.
func (h *hotData) load(ctx context.Context) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes != nil {
		return h.bytes, nil
	}
	s, err := h.cell.database()
	if err != nil {
		return nil, err
	}
	_, _, data, err := s.hotPack(ctx, h.id)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != h.size {
		return nil, fmt.Errorf("hot pack %d has %d bytes, not %d", h.id, len(data), h.size)
	}
	h.bytes = data
	return data, nil
}

// land makes a pack durable in its place, short of the row that makes it part of the repository.
func (c *Cell) land(ctx context.Context, r *pack.Received, id int64) (row packRow, p *livePack, err error) {
	row = packRow{id: id, checksum: r.Pack.Checksum(), size: r.Pack.Size(), objects: r.Pack.Len(), hot: r.Data != nil}
	if row.hot {
		row.idx, row.table, row.data = r.Idx, r.Table, r.Data
		p, err = c.openHot(row)
		return row, p, err
	}
	keys := c.keys(row.checksum)
	if err := c.opts.fault("put"); err != nil {
		return row, nil, err
	}
	// The same bytes may be there already, in use: the same pack pushed twice, or one that was set aside.
	if !c.state.Load().names(row.checksum) {
		err := c.files.Put(ctx, bucket.Upload{Key: keys[2], Path: r.TablePath}, bucket.Upload{Key: keys[1], Path: r.IdxPath}, bucket.Upload{Key: keys[0], Path: r.Path})
		if err != nil {
			return row, nil, err
		}
	}
	p, err = c.openPack(row)
	return row, p, err
}

// unland undoes what landed but came into no row.
func (c *Cell) unland(packs ...*livePack) {
	closePacks(packs)
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	c.removeFiles(rows(packs))
}

// names reports whether a row of the catalogue names a pack's files.
func (st *state) names(checksum git.OID) bool {
	return slices.ContainsFunc(st.packs, func(p *livePack) bool { return p.row.checksum == checksum && !p.row.hot }) ||
		slices.ContainsFunc(st.aside, func(r packRow) bool { return r.checksum == checksum && !r.hot })
}

// sweep removes files that no row names: what a crash between a pack's files and its row, or between rows and the
// removal of files, left behind. Nobody else writes to the cell's folder.
func (c *Cell) sweep() error {
	st := c.state.Load()
	var stray []string
	for e, err := range c.files.List(c.folder) {
		if err != nil {
			return fmt.Errorf("sweep cell: %w", err)
		}
		stem, _, _ := strings.Cut(strings.TrimPrefix(e.Key, c.folder+"/"), ".")
		if sum, err := git.ParseOID(stem); err != nil || !st.names(sum) {
			stray = append(stray, e.Key)
		}
	}
	if len(stray) > 0 {
		c.opts.Log.Info("stray files of a cell removed", "folder", c.folder, "files", len(stray))
	}
	return c.files.Delete(stray...)
}

// removeFiles removes the files of packs whose rows are gone, unless another row has the same. The caller has the turn.
// Readers that have them open go on. A crash before it is what sweep is for.
func (c *Cell) removeFiles(rows []packRow) {
	st := c.state.Load()
	for _, r := range rows {
		if r.hot || st.names(r.checksum) {
			continue
		}
		keys := c.keys(r.checksum)
		if err := c.files.Delete(keys[:]...); err != nil {
			c.opts.Log.Warn("files of a replaced pack not removed", "folder", c.folder, "pack", r.checksum, "error", err)
		}
	}
}

var _ io.ReaderAt = (*hotData)(nil)
