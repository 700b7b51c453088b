package bare

import (
	"bufio"
	"compress/zlib"
	"context"
	"crypto/sha1" //nolint:gosec // what names objects of this format
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

const (
	// maxLooseInMemory bounds one loose object that is read into memory: larger ones are read in a stream. A push of more bytes in all
	// keeps its pack instead of making some.
	maxLooseInMemory = 32 << 20
	// maxAllLooseInMemory bounds the loose objects of one folder that are in memory at the same time.
	maxAllLooseInMemory = 256 << 20
	// maxLooseHeader is longer than any kind with any size.
	maxLooseHeader = 32
)

// looseObject is a loose object that is whole.
type looseObject struct {
	id   git.OID
	kind git.Kind
	size int64
	data []byte // nil: it is read again when it is needed
}

// openLoose makes a pack of a folder's loose objects. It returns nil when there are none.
func (o *objects) openLoose(ctx context.Context, dir string) (*pack.Pack, error) {
	return o.openLooseWithin(ctx, dir, maxLooseInMemory, maxAllLooseInMemory)
}

func (o *objects) openLooseWithin(ctx context.Context, dir string, one, all int64) (*pack.Pack, error) {
	names, err := looseNames(dir)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	list := make([]looseObject, 0, len(names))
	for _, id := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		obj, err := readLooseObject(loosePath(dir, id), id, min(one, all))
		if err != nil {
			continue // git removed it meanwhile, or it is damaged: then it is missing
		}
		all -= int64(len(obj.data))
		list = append(list, obj)
	}
	if len(list) == 0 {
		return nil, nil
	}
	pr, pw := io.Pipe()
	go func() {
		_ = pw.CloseWithError(packLoose(pw, dir, list)) // the reader hears of it
	}()
	q, err := pack.Receive(ctx, bufio.NewReaderSize(pr, 1<<16), pack.ReceiveOptions{
		Check: anything, MaxPackBytes: maxStoredPack, MaxObjectBytes: 1<<32 - 1, MaxTotalBytes: maxStoredPack, MemoryPack: 64 << 20,
	})
	_ = pr.Close() // the writer is done, or shall be
	if err != nil {
		return nil, fmt.Errorf("read loose objects: %w", err)
	}
	o.opened = append(o.opened, q)
	return q.Pack, nil
}

// packLoose writes loose objects as a pack.
func packLoose(to io.Writer, dir string, list []looseObject) error {
	w, err := pack.NewWriter(to, uint32(len(list)))
	if err != nil {
		return err
	}
	for i := range list {
		obj := &list[i]
		if obj.data != nil {
			err = w.Object(git.Object{Kind: obj.kind, Data: obj.data})
			obj.data = nil // it is in the pack
		} else {
			err = streamLoose(w, loosePath(dir, obj.id), obj)
		}
		if err != nil {
			return err
		}
	}
	_, err = w.Close()
	return err
}

// streamLoose writes a loose object to a pack without having it in memory.
func streamLoose(w *pack.Writer, path string, obj *looseObject) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	in, kind, size, err := looseHeader(f)
	if err != nil {
		return err
	}
	if kind != obj.kind || size != obj.size {
		return fmt.Errorf("loose object %s has changed: %w", obj.id, errkind.Conflict)
	}
	return w.Stream(kind, size, in)
}

func loosePath(dir string, id git.OID) string {
	hex := id.String()
	return filepath.Join(dir, hex[:2], hex[2:])
}

// looseNames lists a folder's loose objects.
func looseNames(dir string) ([]git.OID, error) {
	const digits = "0123456789abcdef"
	var list []git.OID
	for i := range 256 {
		sub := string([]byte{digits[i>>4], digits[i&15]})
		f, err := os.Open(filepath.Join(dir, sub))
		if err != nil {
			if notThere(err) || errors.Is(err, os.ErrPermission) {
				continue
			}
			return nil, err
		}
		names, err := f.Readdirnames(-1)
		_ = f.Close() // only read from
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if id, err := git.ParseOID(sub + name); err == nil {
				list = append(list, id)
			}
		}
	}
	return list, nil
}

// readLooseObject reads and checks one loose object. It has its data if they are most bytes at most.
func readLooseObject(path string, id git.OID, most int64) (looseObject, error) {
	f, err := openRegular(path)
	if err != nil {
		return looseObject{}, err
	}
	defer func() { _ = f.Close() }()
	in, kind, size, err := looseHeader(f)
	if err != nil {
		return looseObject{}, fmt.Errorf("loose object %s: %w", id, err)
	}
	obj := looseObject{id: id, kind: kind, size: size}
	name := sha1.New() //nolint:gosec // as above
	_, _ = name.Write(git.AppendHeader(nil, kind, size))
	var n int64
	if body := io.TeeReader(io.LimitReader(in, size+1), name); size <= most {
		obj.data, err = io.ReadAll(body)
		n = int64(len(obj.data))
	} else {
		n, err = io.Copy(io.Discard, body)
	}
	if err != nil {
		return looseObject{}, err
	}
	if n != size || git.OID(name.Sum(nil)) != id {
		return looseObject{}, fmt.Errorf("loose object %s is not what its name says: %w", id, errkind.Invalid)
	}
	return obj, nil
}

// looseHeader reads what a loose object begins with, and returns what follows.
func looseHeader(f io.Reader) (in *bufio.Reader, kind git.Kind, size int64, err error) {
	z, err := zlib.NewReader(f)
	if err != nil {
		return nil, 0, 0, err
	}
	in = bufio.NewReaderSize(z, 4<<10)
	head, err := in.ReadSlice(0)
	if err != nil || len(head) > maxLooseHeader {
		return nil, 0, 0, fmt.Errorf("it has no header: %w", errors.Join(err, errkind.Invalid))
	}
	kindName, sizeText, _ := strings.Cut(string(head[:len(head)-1]), " ")
	if kind, err = git.ParseKind(kindName); err != nil {
		return nil, 0, 0, err
	}
	// One that is larger no pack can have (ReceiveOptions.MaxObjectBytes).
	if size, err = strconv.ParseInt(sizeText, 10, 64); err != nil || size < 0 || size > 1<<32-1 {
		return nil, 0, 0, fmt.Errorf("it has the size %q: %w", sizeText, errkind.Invalid)
	}
	return in, kind, size, nil
}
