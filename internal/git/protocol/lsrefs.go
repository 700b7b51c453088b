package protocol

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// lsRefsRequest is what follows command=ls-refs.
type lsRefsRequest struct {
	peel, symrefs, unborn bool
	prefixes              []string
	tooMany               bool
}

func (r *lsRefsRequest) line(b []byte) error {
	switch s := string(b); s {
	case "peel":
		r.peel = true
	case "symrefs":
		r.symrefs = true
	case "unborn":
		r.unborn = true
	default:
		p, ok := strings.CutPrefix(s, "ref-prefix ")
		if !ok {
			return refuse(errkind.Invalid, "ls-refs: unexpected line: '%s'", clip(s, maxReasonBytes/2))
		}
		// Prefixes are an optimisation: who sends too many gets everything, as from git.
		if r.tooMany = r.tooMany || len(r.prefixes)+1 >= maxRefPrefixes; r.tooMany {
			r.prefixes = nil
		} else {
			r.prefixes = append(r.prefixes, p)
		}
	}
	return nil
}

// minimal sorts the prefixes and leaves out those that a shorter one covers, so that the references of each are a range
// of their own.
func (r *lsRefsRequest) minimal() []string {
	if len(r.prefixes) == 0 {
		return []string{""}
	}
	slices.Sort(r.prefixes)
	out := r.prefixes[:1]
	for _, p := range r.prefixes[1:] {
		if !strings.HasPrefix(p, out[len(out)-1]) {
			out = append(out, p)
		}
	}
	return out
}

// answer writes HEAD, then the references in order of name.
func (r *lsRefsRequest) answer(pw *PktWriter, v View) {
	prefixes := r.minimal()
	lines := 0
	for _, p := range prefixes {
		lines += len(v.Refs.Prefix(p))
	}
	if lines < manyRefs || len(prefixes) > keptPrefixes || v.Memo == nil {
		r.write(pw, v, prefixes)
		return
	}
	kept := v.Memo.listing(fmt.Sprintf("%t %t %t %q", r.peel, r.symrefs, r.unborn, prefixes), func() []byte {
		var b bytes.Buffer
		long := NewPktWriter(&b)
		defer long.Close()
		r.write(long, v, prefixes)
		_ = long.Send() // to memory
		return b.Bytes()
	})
	if kept == nil {
		r.write(pw, v, prefixes)
		return
	}
	pw.raw(kept)
}

// keptPrefixes bounds the name of a kept answer; git asks with three to ten prefixes.
const keptPrefixes = 16

// manyRefs is from how many references on an answer is worth keeping: rendering one takes about 90 ns.
const manyRefs = 2000

// listing returns a long answer that is kept. The first request for an answer gets nil, as it may be the only one before
// the next push; the second makes it.
func (m *Memo) listing(key string, render func() []byte) []byte {
	m.listMu.Lock()
	defer m.listMu.Unlock()
	for i := range m.lists {
		if l := &m.lists[i]; l.key == key {
			if l.text == nil {
				l.text = render()
			}
			return l.text
		}
	}
	m.lists[m.nextList] = keptList{key: key}
	m.nextList = (m.nextList + 1) % len(m.lists)
	return nil
}

func (r *lsRefsRequest) write(pw *PktWriter, v View, prefixes []string) {
	if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(string(git.HEAD), p) }) {
		r.head(pw, v)
	}
	for _, p := range prefixes {
		for _, ref := range v.Refs.Prefix(p) {
			r.ref(pw, ref, v.Refs.Target(ref.Name))
		}
	}
	pw.Flush()
}

func (r *lsRefsRequest) head(pw *PktWriter, v View) {
	switch head, born := v.head(); {
	case born:
		r.ref(pw, head, v.Refs.Head)
	case head.OID.IsZero() && r.unborn && !v.config().noUnborn && r.symrefs && v.Refs.Head != "":
		pw.Line("unborn HEAD symref-target:", string(v.Refs.Head))
	}
}

func (r *lsRefsRequest) ref(pw *PktWriter, ref git.Ref, target git.RefName) {
	at := pw.open()
	b := append(ref.OID.AppendHex(pw.buf), ' ')
	b = append(b, ref.Name...)
	if r.symrefs && target != "" {
		b = append(append(b, " symref-target:"...), target...)
	}
	if r.peel && !ref.Peeled.IsZero() {
		b = ref.Peeled.AppendHex(append(b, " peeled:"...))
	}
	pw.buf = append(b, '\n')
	pw.seal(at)
}
