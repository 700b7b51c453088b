package protocol_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// serve measures one request.
func serve(b *testing.B, r *repo, opts protocol.UploadOptions, request string) {
	b.Helper()
	b.ReportAllocs()
	opts.Version, opts.Stateless = protocol.V2, true
	var out bytes.Buffer
	if err := protocol.UploadPack(b.Context(), r.View(), bytes.NewReader([]byte(request)), &out, opts); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(out.Len()))
	for b.Loop() {
		if err := protocol.UploadPack(b.Context(), r.View(), bytes.NewReader([]byte(request)), io.Discard, opts); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUploadPack(b *testing.B) {
	r := load(b, sample(b))
	tip, _ := r.View().Refs.HeadRef()
	old, _ := r.View().Refs.Get("refs/heads/side")
	clone := pkts("command=fetch", "agent=git/2.39.5", "object-format=sha1", "0001", "thin-pack", "ofs-delta", "no-progress",
		"include-tag", "want "+tip.OID.String(), "done", "0000")
	b.Run("ls-refs", func(b *testing.B) {
		serve(b, r, protocol.UploadOptions{}, pkts("command=ls-refs", "0001", "peel", "symrefs", "0000"))
	})
	b.Run("clone", func(b *testing.B) { serve(b, r, protocol.UploadOptions{}, clone) })
	b.Run("clone again", func(b *testing.B) { serve(b, r, protocol.UploadOptions{Cache: &answers{}}, clone) })
	b.Run("negotiate", func(b *testing.B) {
		serve(b, r, protocol.UploadOptions{}, pkts("command=fetch", "0001", "want "+tip.OID.String(), "have "+old.OID.String(),
			"wait-for-done", "0000"))
	})
}

func BenchmarkManyRefs(b *testing.B) {
	r, commits := tiny(b)
	var list []git.Ref
	for i := range 100_000 {
		list = append(list, git.Ref{Name: git.RefName(fmt.Sprintf("refs/heads/branch-%06d", i)), OID: commits[i%3]})
	}
	r.set(git.NewRefs("refs/heads/branch-000000", list), r.view.Objects)
	b.Run("ls-refs", func(b *testing.B) {
		serve(b, r, protocol.UploadOptions{}, pkts("command=ls-refs", "0001", "peel", "symrefs", "0000"))
	})
	b.Run("ls-refs of one", func(b *testing.B) {
		serve(b, r, protocol.UploadOptions{}, pkts("command=ls-refs", "0001", "ref-prefix refs/heads/branch-050000", "0000"))
	})
	b.Run("fetch", func(b *testing.B) {
		serve(b, r, protocol.UploadOptions{Cache: &answers{}}, pkts("command=fetch", "0001", "no-progress", "want "+commits[2].String(), "done", "0000"))
	})
}
