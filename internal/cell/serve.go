package cell

import (
	"context"
	"io"

	"github.com/skep-dev/skep/internal/cache"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/trace"
)

// UploadPack serves one fetch, through the answer cache.
func (c *Cell) UploadPack(ctx context.Context, in io.Reader, out io.Writer, opts protocol.UploadOptions) (err error) {
	defer c.Hold()()
	ctx, span := trace.Start(ctx, trace.CellServe)
	defer func() { span.End(err) }()
	if opts.Cache == nil && c.opts.Answers != nil {
		opts.Cache = answers{c}
	}
	return protocol.UploadPack(ctx, c.View(), in, out, opts)
}

// ReceivePack serves one push.
func (c *Cell) ReceivePack(ctx context.Context, in io.Reader, out io.Writer, opts protocol.ReceiveOptions) (err error) {
	defer c.Hold()()
	ctx, span := trace.Start(ctx, trace.CellReceive)
	defer func() { span.End(err) }()
	return protocol.ReceivePack(ctx, c, in, out, opts)
}

// Quarantine keeps a pack aside: see protocol.Receiver. The caller holds the cell until it has closed the quarantine.
func (c *Cell) Quarantine(ctx context.Context, r io.Reader, progress func(stage string, done, total int)) (q *odb.Quarantine, err error) {
	ctx, span := trace.Start(ctx, trace.CellTakeIn)
	defer func() { span.End(err) }()
	opts := c.receiveOptions()
	opts.Progress = progress
	return c.state.Load().objects.Receive(ctx, r, opts)
}

func (c *Cell) receiveOptions() pack.ReceiveOptions {
	return pack.ReceiveOptions{Dir: c.opts.TempDir, Room: c.opts.Room, MaxPackBytes: c.opts.MaxPackBytes, MemoryPack: maxHot}
}

// answers is the shared cache as one cell uses it.
type answers struct{ c *Cell }

// Pack implements protocol.PackCache. The cell is held while the answer is made, which may take longer than the request
// that began it. What one repository's clients were told is no other's.
func (a answers) Pack(ctx context.Context, key [32]byte, w io.Writer, produce func(context.Context, io.Writer) error) error {
	return a.c.opts.Answers.Share(ctx, cache.Key{Owner: a.c.folder, Hash: key}, w, a.c.Hold, produce)
}
