package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// tiny is a repository of three commits on one file, made without git: the fuzzer starts often.
func tiny(tb testing.TB) (*repo, []git.OID) {
	tb.Helper()
	r := newRepo(tb)
	w := r.View().Objects.NewWriter()
	var commits []git.OID
	var tree git.OID
	who := git.Signature{Name: []byte("A"), Email: []byte("a@example.com"), When: time.Unix(1700000000, 0).UTC()}
	for i := range 3 {
		var err error
		if tree, err = w.Edit(tree, []odb.Change{{Path: "dir/file", Mode: git.ModeFile, Data: []byte{byte('a' + i), '\n'}}}); err != nil {
			tb.Fatal(err)
		}
		c := git.CommitInfo{Tree: tree, Author: who, Committer: who, Message: []byte("m\n")}
		if i > 0 {
			c.Parents = commits[i-1:]
		}
		o, err := w.Put(git.Commit, c.Append(nil))
		if err != nil {
			tb.Fatal(err)
		}
		commits = append(commits, o)
	}
	q, err := w.Finish(tb.Context(), pack.ReceiveOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	defer q.Close()
	errs, err := r.Update(tb.Context(), q, []git.RefUpdate{
		{Name: "refs/heads/main", New: commits[2]}, {Name: "refs/heads/old", New: commits[1]},
	}, protocol.UpdateOptions{})
	if err != nil || errs[0] != nil || errs[1] != nil {
		tb.Fatal(err, errs)
	}
	return r, commits
}

func FuzzUploadPackRequest(f *testing.F) {
	r, commits := tiny(f)
	r.configure("uploadpack.allowRefInWant=true", "uploadpack.allowSidebandAll=true", "uploadpack.hideRefs=refs/heads/old")
	a, b, c := commits[0].String(), commits[1].String(), commits[2].String()
	for _, lines := range [][]string{
		{"command=ls-refs", "0001", "peel", "symrefs", "ref-prefix refs/heads/", "0000"},
		{"command=fetch", "0001", "ofs-delta", "want " + c, "have " + a, "0000"},
		{"command=fetch", "0001", "thin-pack", "want " + c, "have " + b, "done", "0000", "0000"},
		{"command=fetch", "0001", "want " + c, "deepen 1", "done", "0000"},
		{"command=fetch", "0001", "want " + c, "shallow " + b, "deepen-since 1", "filter blob:none", "done", "0000"},
		{"command=fetch", "0001", "want " + c, "deepen-not old", "include-tag", "done", "0000"},
		{"command=object-info", "server-option=a", "session-id=b", "0001", "size", "oid " + c, "0000"},
		{"command=fetch", "0001", "want-ref refs/heads/main", "want-ref HEAD", "sideband-all", "deepen 1", "done", "0000"},
		{"command=fetch", "0001", "want " + c, "filter combine:sparse:oid=main:dir%2ffile+object:type=blob", "done", "0000"},
	} {
		f.Add(byte(2), []byte(pkts(lines...)))
	}
	for _, lines := range [][]string{
		{"want " + c + " multi_ack_detailed no-done side-band-64k ofs-delta", "0000", "have " + a, "0000"},
		{"want " + c + " side-band", "deepen 1", "0000", "done"},
		{"want " + c + " multi_ack thin-pack", "0000", "have " + b, "0000", "done"},
		{"want " + c + " filter", "filter tree:1", "shallow " + b, "0000", "done"},
	} {
		f.Add(byte(0), []byte(pkts(lines...)))
		f.Add(byte(4), []byte(pkts(lines...)))
	}
	f.Fuzz(func(t *testing.T, how byte, in []byte) {
		var out bytes.Buffer
		v := r.View()
		opts := protocol.UploadOptions{Version: protocol.Version(how % 4 % 3), Stateless: how&4 == 0}
		err := protocol.UploadPack(t.Context(), v, bytes.NewReader(in), &out, opts)
		checkAnswer(t, out.Bytes(), err)
	})
}

// checkAnswer sees that what a client gets is pkt-lines, up to a pack without side-band, and that it hears of an error.
func checkAnswer(t *testing.T, out []byte, err error) {
	t.Helper()
	told := err == nil
	pr := protocol.NewPktReader(bytes.NewReader(out), 1<<30)
	defer pr.Close()
	for {
		k, b, readErr := pr.Next()
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			if bytes.Contains(out, []byte("PACK")) {
				return
			}
			t.Fatalf("answer %q: %v", out, readErr)
		}
		told = told || k == protocol.PktData && (bytes.HasPrefix(b, []byte("ERR ")) || len(b) > 0 && b[0] == 3 || bytes.Contains(b, []byte("unpack ")))
	}
	if !told {
		t.Fatalf("the error %q is not told: %q", err, out)
	}
	if strings.Contains(string(out), "internal error") {
		t.Fatalf("a request can break the server: %v", err)
	}
}

func FuzzReceivePackCommands(f *testing.F) {
	_, commits := tiny(f)
	zero, b, c := git.ZeroOID.String(), commits[1].String(), commits[2].String()
	for _, lines := range [][]string{
		{b + " " + c + ` refs/heads/old\0report-status-v2 side-band-64k`, "0000"},
		{zero + " " + c + ` refs/heads/new\0report-status atomic`, zero + " " + c + " refs/heads/new", "0000"},
		{zero + " " + c + ` refs/heads/new\0report-status push-options`, "0000", "ci.skip", "0000"},
		{b + " " + zero + ` refs/heads/old\0 report-status delete-refs quiet`, "0000"},
		{"shallow " + b, zero + " " + c + ` HEAD\0report-status`, "0000"},
	} {
		f.Add([]byte(pkts(lines...) + emptyPack))
	}
	f.Add([]byte(certPkts(`push-cert\0report-status push-options`, "certificate version 0.1", "pusher a 1 +0000", "nonce 1-abc", "push-option a", "",
		zero+" "+c+" refs/heads/new", "-----BEGIN SSH SIGNATURE-----", "AAAA", "-----END SSH SIGNATURE-----", "push-cert-end", "0000", "a", "0000") + emptyPack))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, _ := tiny(t)
		before := r.View().Objects.Len()
		var out bytes.Buffer
		err := protocol.ReceivePack(t.Context(), r, bytes.NewReader(in), &out, protocol.ReceiveOptions{Stateless: true, NonceSeed: []byte("seed")})
		checkAnswer(t, out.Bytes(), err)
		// Whatever was asked for, what stands is sound.
		v := r.View()
		for _, ref := range v.Refs.List() {
			if _, err := git.ParseRefName(string(ref.Name)); err != nil || !v.Objects.Has(ref.OID) {
				t.Fatalf("reference %q names %s: %v", ref.Name, ref.OID, err)
			}
		}
		if err != nil && v.Objects.Len() != before {
			t.Fatalf("a push that failed with %v left %d objects", err, v.Objects.Len()-before)
		}
	})
}
