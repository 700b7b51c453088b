package protocol

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// UploadPack serves one request (Stateless), or one whole connection, its advertisement included. What the client did
// wrong is told to it in-band (an ERR pkt-line, or side-band 3 once the pack has begun) and returned as well.
func UploadPack(ctx context.Context, v View, in io.Reader, out io.Writer, opts UploadOptions) error {
	v = v.forUpload()
	u := &upload{view: v, out: out, opts: opts, pr: NewPktReader(in, maxRequestBytes), pw: NewPktWriter(out)}
	defer u.pr.Close()
	defer u.pw.Close()
	if !opts.Stateless {
		advertiseUpload(u.pw, v, opts)
		if err := u.pw.Send(); err != nil {
			return err
		}
	}
	u.pw.hold = opts.Stateless
	err := u.serve(ctx)
	if err != nil && !u.told {
		u.pw.fail(publicText(err))
	}
	if sendErr := u.pw.Send(); err == nil {
		err = sendErr
	}
	if err != nil && !opts.Stateless && ctx.Err() == nil {
		// A client on a pipe may be sending still. It leaves when it has read the error; if the pipe were closed before,
		// it would see that instead.
		_, _ = io.CopyN(io.Discard, u.pr.Rest(), maxRequestBytes) // the end, or an error, is as good
	}
	return err
}

// upload is one connection or request of a client that fetches.
type upload struct {
	view View
	opts UploadOptions
	out  io.Writer
	pr   *PktReader
	pw   *PktWriter
	told bool // the client has heard of the error that is returned
	said Said
}

func (u *upload) serve(ctx context.Context) error {
	if u.opts.Version != V2 {
		return u.serveV0(ctx)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		u.pr.Allow(maxRequestBytes)
		more, err := u.command(ctx)
		if err != nil || !more || u.opts.Stateless {
			return err
		}
		if err := u.pw.Send(); err != nil {
			return err
		}
		u.pw.hold, u.pw.band = false, false
	}
}

// command reads and serves one v2 command. It reports whether another may follow.
func (u *upload) command(ctx context.Context) (more bool, err error) {
	u.said = Said{}
	name, end, err := u.commandName()
	if err != nil || name == "" {
		return false, err
	}
	args := func(each func([]byte) error) error {
		if end == PktFlush {
			return nil
		}
		return u.arguments(name, each)
	}
	if u.opts.Said != nil {
		u.opts.Said(u.said)
	}
	switch name {
	case "ls-refs":
		var r lsRefsRequest
		if err := args(r.line); err != nil {
			return false, err
		}
		u.pw.hold = false
		r.answer(u.pw, u.view)
		return true, nil
	case "fetch":
		f := fetchRequest{sideBand: sideBand64k}
		if err := args(func(b []byte) error { return u.fetchLine(&f, b) }); err != nil {
			return false, err
		}
		return true, u.fetch(ctx, &f)
	case "object-info":
		var r objectInfoRequest
		if u.view.config().noObjectInfo {
			break
		}
		if err := args(r.line); err != nil {
			return false, err
		}
		return true, r.answer(ctx, u.pw, u.view)
	}
	return false, refuse(errkind.Invalid, "upload-pack: invalid command '%s'", clip(name, 80))
}

// commandName reads the command and the client's capabilities, up to the delimiter before the arguments or to the flush
// that ends the request. No name and no error mean that the client has said all.
func (u *upload) commandName() (name string, end Pkt, err error) {
	for first := true; ; first = false {
		k, b, err := u.pr.Line()
		switch {
		case first && errors.Is(err, io.EOF), first && err == nil && k == PktFlush:
			return "", k, nil
		case errors.Is(err, io.EOF):
			return "", k, cutShort(err)
		case err != nil:
			return "", k, err
		case k == PktResponseEnd:
			return "", k, refuse(errkind.Invalid, "upload-pack: unexpected response-end packet")
		case k != PktData:
			if name == "" {
				return "", k, refuse(errkind.Invalid, "upload-pack: no command requested")
			}
			return name, k, nil
		}
		key, value, _ := bytes.Cut(b, []byte("="))
		switch string(key) {
		case "command":
			if name != "" {
				return "", k, refuse(errkind.Invalid, "upload-pack: command '%s' requested after already requesting command '%s'",
					clip(value, 80), clip(name, 80))
			}
			name = string(value)
		case "object-format":
			if string(value) != "sha1" {
				return "", k, refuse(errkind.Unsupported, "upload-pack: mismatched object format: server sha1; client %s", clip(value, 40))
			}
		case "agent", "session-id", "server-option":
			if err := u.said.note(string(key), string(value)); err != nil {
				return "", k, err
			}
		default:
			return "", k, refuse(errkind.Invalid, "upload-pack: unknown capability '%s'", clip(b, 120))
		}
	}
}

// arguments reads the lines after the delimiter.
func (u *upload) arguments(command string, each func([]byte) error) error {
	for {
		k, b, err := u.pr.Line()
		switch {
		case errors.Is(err, io.EOF):
			return cutShort(err)
		case err != nil:
			return err
		case k == PktFlush:
			return nil
		case k != PktData:
			return refuse(errkind.Invalid, "upload-pack: expected flush after %s arguments", command)
		}
		if err := each(b); err != nil {
			return err
		}
	}
}

// fetchLine reads one argument of the fetch command.
func (u *upload) fetchLine(f *fetchRequest, b []byte) error {
	if arg, ok := bytes.CutPrefix(b, []byte("have ")); ok {
		f.haveLine = true
		_, _, err := f.haves.add(u.view, arg)
		return err
	}
	if arg, ok := bytes.CutPrefix(b, []byte("want ")); ok {
		if len(arg) != 2*git.OIDSize {
			return refuse(errkind.Invalid, "upload-pack: protocol error, expected to get oid, not '%s'", clip(b, 120))
		}
		return f.want(arg)
	}
	if arg, ok := bytes.CutPrefix(b, []byte("want-ref ")); ok && u.view.config().refInWant {
		return f.wantRef(u.view, string(arg))
	}
	switch string(b) {
	case "thin-pack":
		f.thin = true
	case "ofs-delta":
		f.ofsDelta = true
	case "no-progress":
		f.noProgress = true
	case "include-tag":
		f.includeTag = true
	case "done":
		f.done = true
	case "wait-for-done":
		f.waitForDone = true
	case "sideband-all":
		if !u.view.config().sidebandAll {
			return unexpected(b)
		}
		u.pw.band = true
	case "deepen-relative":
		f.relative = true
	default:
		ok, err := f.boundary(u.view, b, u.view.config().noFilter)
		if err != nil {
			return err
		}
		if !ok {
			return unexpected(b)
		}
	}
	return nil
}

func unexpected(line []byte) error {
	return refuse(errkind.Invalid, "upload-pack: unexpected line: '%s'", clip(line, 120))
}

// fetch answers the fetch command: acknowledgments while the client is still negotiating; then, or at once, the pack.
func (u *upload) fetch(ctx context.Context, f *fetchRequest) error {
	if err := f.check(); err != nil {
		return err
	}
	if len(u.view.Shallow) > 0 && !f.deepens() {
		f.depth = Infinite // where this repository's history ends is where the client's will
	}
	if len(f.wants) == 0 && (!f.waitForDone || f.done) {
		return nil
	}
	if err := u.checkWants(ctx, f, false); err != nil {
		return err
	}
	if err := u.view.ResolveFilter(ctx, &f.filter); err != nil {
		return err
	}
	if f.haveLine && !f.done {
		ready, err := u.acknowledge(ctx, f)
		if err != nil || !ready {
			return err
		}
	} else if len(f.wants) == 0 {
		return nil
	}
	return u.sendPack(ctx, f)
}

// acknowledge writes the acknowledgments section. Ready means that the pack follows in this answer.
func (u *upload) acknowledge(ctx context.Context, f *fetchRequest) (ready bool, err error) {
	if !f.waitForDone && len(f.haves.list) > 0 {
		g, err := u.view.Graph()
		if err != nil {
			return false, err
		}
		if ready, err = g.Satisfied(ctx, f.wants, f.haves.list); err != nil {
			return false, err
		}
	}
	u.pw.Line("acknowledgments")
	if len(f.haves.list) == 0 {
		u.pw.Line("NAK")
	}
	for _, o := range f.haves.list {
		u.pw.Line("ACK ", o.String())
	}
	if ready {
		u.pw.Line("ready")
		u.pw.Delim()
	} else {
		u.pw.Flush()
	}
	return ready, nil
}

func (u *upload) checkWants(ctx context.Context, f *fetchRequest, tipsOnly bool) error {
	if len(f.wants) == 0 {
		return nil
	}
	if u.opts.MayFetch != nil {
		if err := u.opts.MayFetch(); err != nil {
			return err
		}
	}
	bad, refused, err := u.view.refused(ctx, f.wants, tipsOnly)
	if err != nil {
		return err
	}
	if refused {
		return refuse(errkind.NotFound, "upload-pack: not our ref %s", bad)
	}
	return nil
}

// objectInfoRequest is what follows command=object-info.
type objectInfoRequest struct {
	size    bool
	objects []git.OID
}

func (r *objectInfoRequest) line(b []byte) error {
	if string(b) == "size" {
		r.size = true
		return nil
	}
	arg, ok := bytes.CutPrefix(b, []byte("oid "))
	if !ok {
		return refuse(errkind.Invalid, "object-info: unexpected line: '%s'", clip(b, 120))
	}
	o, err := git.ParseOID(arg)
	if err != nil {
		return refuse(errkind.Invalid, "object-info: protocol error, expected to get oid, not '%s'", clip(arg, 80))
	}
	if len(r.objects) >= maxWants {
		return refuse(errkind.TooLarge, "object-info: more than %d objects in one request", maxWants)
	}
	r.objects = append(r.objects, o)
	return nil
}

// answer says nothing of an object that a fetch would refuse.
func (r *objectInfoRequest) answer(ctx context.Context, pw *PktWriter, v View) error {
	seen, err := v.visible(ctx, r.objects, false)
	if err != nil {
		return err
	}
	if r.size && len(r.objects) > 0 {
		pw.Line("size")
	}
	pw.hold = false
	for i, o := range r.objects {
		size := ""
		if seen[i] && r.size {
			_, n, err := v.Objects.Stat(o)
			if err != nil {
				return err
			}
			size = strconv.FormatInt(n, 10)
		}
		if seen[i] && !r.size {
			pw.Line(o.String())
		} else {
			pw.Line(o.String(), " ", size)
		}
	}
	pw.Flush()
	return nil
}
