package bare

import (
	"context"
	"io"

	"github.com/skep-dev/skep/internal/git/protocol"
)

// AdvertiseUpload writes what a client reads first; http is for an answer to GET info/refs.
func (r *Repo) AdvertiseUpload(ctx context.Context, out io.Writer, http bool, s Service) error {
	st, err := r.load(ctx, s)
	if err != nil {
		return err
	}
	defer st.close()
	return protocol.AdvertiseUpload(newTracer("upload-pack").writer(out), st.view, http, uploadOptions(s))
}

// UploadPack serves a fetch.
func (r *Repo) UploadPack(ctx context.Context, in io.Reader, out io.Writer, s Service) error {
	st, err := r.load(ctx, s)
	if err != nil {
		return err
	}
	defer st.close()
	t := newTracer("upload-pack")
	return protocol.UploadPack(ctx, st.view, t.reader(in), t.writer(out), uploadOptions(s))
}

// AdvertiseReceive writes what a pusher reads first.
func (r *Repo) AdvertiseReceive(ctx context.Context, out io.Writer, http bool, s Service) error {
	st, err := r.load(ctx, s)
	if err != nil {
		return err
	}
	defer st.close()
	st.view.Others = r.others(ctx, st)
	return protocol.AdvertiseReceive(newTracer("receive-pack").writer(out), st.view, http, receiveOptions(s))
}
