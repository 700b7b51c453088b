package protocol

import (
	"io"
	"time"

	"github.com/skep-dev/skep/internal/git"
)

// AdvertiseUpload writes what a client reads first: references (v0, v1) or capabilities (v2). With http, the
// "# service=git-upload-pack" line comes before it, which v2 leaves out.
func AdvertiseUpload(w io.Writer, v View, http bool, opts UploadOptions) error {
	pw := NewPktWriter(w)
	defer pw.Close()
	if http && opts.Version != V2 {
		pw.Line("# service=git-upload-pack")
		pw.Flush()
	}
	advertiseUpload(pw, v.forUpload(), opts)
	return pw.Send()
}

// advertiseUpload writes a view without hidden references.
func advertiseUpload(pw *PktWriter, v View, opts UploadOptions) {
	c := v.config()
	if opts.Version == V2 {
		advertiseV2(pw, c, opts)
		return
	}
	if opts.Version == V1 {
		pw.Line("version 1")
	}
	caps := "multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not deepen-relative" +
		" no-progress include-tag multi_ack_detailed"
	if !c.noTipWant {
		caps += " allow-tip-sha1-in-want"
	}
	if !c.noReachableWant {
		caps += " allow-reachable-sha1-in-want"
	}
	if opts.Stateless {
		caps += " no-done"
	}
	head, born := v.head()
	if born && v.Refs.Head != "" {
		caps += " symref=HEAD:" + string(v.Refs.Head)
	}
	if !c.noFilter {
		caps += " filter"
	}
	if s := sessionOf(c, opts.Session); s != "" {
		caps += " session-id=" + s
	}
	caps += " object-format=sha1 agent=" + agentOr(opts.Agent)
	a := refAdvertiser{pw: pw, caps: caps, peel: true}
	if born {
		a.ref(head)
	}
	a.all(v.Refs, v)
}

func advertiseV2(pw *PktWriter, c *Config, opts UploadOptions) {
	pw.Line("version 2")
	pw.Line("agent=", agentOr(opts.Agent))
	if c.hideUnborn {
		pw.Line("ls-refs")
	} else {
		pw.Line("ls-refs=unborn")
	}
	fetch := "fetch=shallow wait-for-done"
	if !c.noFilter {
		fetch += " filter"
	}
	if c.refInWant {
		fetch += " ref-in-want"
	}
	if c.sidebandAll {
		fetch += " sideband-all"
	}
	pw.Line(fetch)
	pw.Line("server-option")
	pw.Line("object-format=sha1")
	if !c.noObjectInfo {
		pw.Line("object-info=size")
	}
	if s := sessionOf(c, opts.Session); s != "" {
		pw.Line("session-id=", s)
	}
	pw.Flush()
}

// AdvertiseReceive writes the references and capabilities that a pusher reads first.
func AdvertiseReceive(w io.Writer, v View, http bool, opts ReceiveOptions) error {
	pw := NewPktWriter(w)
	defer pw.Close()
	if http {
		pw.Line("# service=git-receive-pack")
		pw.Flush()
	}
	advertiseReceive(pw, v, opts)
	return pw.Send()
}

// advertiseReceive returns the nonce that it gave out, if it did.
func advertiseReceive(pw *PktWriter, v View, opts ReceiveOptions) (nonce string) {
	if opts.Version == V1 {
		pw.Line("version 1")
	}
	c := v.config()
	caps := "report-status report-status-v2 delete-refs side-band-64k quiet"
	if !c.noAtomic {
		caps += " atomic"
	}
	caps += " ofs-delta"
	if !c.noPushOptions {
		caps += " push-options"
	}
	if nonce = opts.newNonce(time.Now()); nonce != "" {
		caps += " push-cert=" + nonce
	}
	if s := sessionOf(c, opts.Session); s != "" {
		caps += " session-id=" + s
	}
	a := refAdvertiser{pw: pw, caps: caps + " object-format=sha1 agent=" + agentOr(opts.Agent)}
	refs := v.Refs
	if len(c.receiveHides) > 0 {
		refs = shown(refs, v.Namespace, c.receiveHides)
	}
	a.all(refs, v)
	return nonce
}

// sessionOf is the session ID that clients are told, if the repository's owner wants that and there is one.
func sessionOf(c *Config, session string) string {
	if !c.sessionID {
		return ""
	}
	return session
}

// refAdvertiser writes the references of v0 and v1: capabilities behind a NUL on the first line, whatever it is.
type refAdvertiser struct {
	pw   *PktWriter
	caps string
	peel bool
}

func (a *refAdvertiser) all(refs *git.Refs, v View) {
	for _, r := range refs.List() {
		a.ref(r)
	}
	for _, o := range v.Others {
		a.line(o, ".have", "")
	}
	if a.caps != "" {
		a.line(git.ZeroOID, "capabilities", "^{}")
	}
	for _, o := range v.Shallow {
		a.pw.Line("shallow ", o.String())
	}
	a.pw.Flush()
}

func (a *refAdvertiser) ref(r git.Ref) {
	a.line(r.OID, r.Name, "")
	if a.peel && !r.Peeled.IsZero() {
		a.line(r.Peeled, r.Name, "^{}")
	}
}

func (a *refAdvertiser) line(o git.OID, name git.RefName, suffix string) {
	at := a.pw.open()
	b := append(o.AppendHex(a.pw.buf), ' ')
	b = append(append(b, name...), suffix...)
	if a.caps != "" {
		b = append(append(b, 0), a.caps...)
		a.caps = ""
	}
	a.pw.buf = append(b, '\n')
	a.pw.seal(at)
}
