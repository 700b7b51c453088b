package pack_test

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// A push of one commit, thin, as most pushes are.
func BenchmarkReceiveOneCommit(b *testing.B) {
	src := newOracle(b)
	src.history(150)
	thin := src.PackObjects("main\n^main~1\n", "--thin", "--delta-base-offset")
	objects := map[git.OID]git.Object{}
	for _, o := range index(b, src.packAll()).objects {
		objects[o.OID] = git.Object{Kind: o.Kind, Data: o.Data}
	}
	opts := pack.ReceiveOptions{Base: func(o git.OID) (git.Object, bool, error) {
		obj, ok := objects[o]
		return obj, ok, nil
	}}
	benchmarkReceive(b, thin, opts)
}

// A first push of some hundred commits.
func BenchmarkReceiveHistory(b *testing.B) {
	src := newOracle(b)
	src.history(300)
	benchmarkReceive(b, src.packAll("--delta-base-offset"), pack.ReceiveOptions{})
}

func benchmarkReceive(b *testing.B, packfile []byte, opts pack.ReceiveOptions) {
	b.Helper()
	opts.Dir = b.TempDir()
	b.SetBytes(int64(len(packfile)))
	b.ReportAllocs()
	for b.Loop() {
		q, err := pack.Receive(b.Context(), bufio.NewReader(bytes.NewReader(packfile)), opts)
		if err != nil {
			b.Fatal(err)
		}
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
