package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// arguments are what git archive --remote sends.
func arguments(args ...string) string {
	lines := make([]string, len(args), len(args)+1)
	for i, a := range args {
		lines[i] = "argument " + a
	}
	return pkts(append(lines, "0000")...)
}

// demux reads an answer: what stands on each band, and what comes before.
func demux(t *testing.T, answer []byte) (head string, bands [4]string) {
	t.Helper()
	pr := protocol.NewPktReader(bytes.NewReader(answer), 1<<30)
	defer pr.Close()
	ack := false
	for {
		k, b, err := pr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return head, bands
		case err != nil:
			t.Fatalf("answer %.200q: %v", answer, err)
		case !ack && k == protocol.PktFlush:
			ack = true
		case !ack:
			head += string(b)
		case k == protocol.PktData:
			bands[b[0]&3] += string(b[1:])
		}
	}
}

// archived is the answer to one request.
func archived(t *testing.T, v protocol.View, in string) (head string, bands [4]string, err error) {
	t.Helper()
	var out bytes.Buffer
	err = protocol.UploadArchive(t.Context(), v, strings.NewReader(in), &out)
	head, bands = demux(t, out.Bytes())
	return head, bands, err
}

// TestUploadArchiveIsGits: the same arguments give what git upload-archive gives.
func TestUploadArchiveIsGits(t *testing.T) {
	r := gittest.New(t)
	r.FastImport("commit refs/heads/main\ncommitter Cy <cy@example.org> 1700000001 +0000\ndata 1\nx\n" +
		gittest.Modify("100644", "f", "one\n") + gittest.Modify("100755", "sub/run", "#!/bin/sh\n") + gittest.Modify("100644", "sub/deep/g", "g\n"))
	r.Git("tag", "-a", "-m", "first", "v1", "main")
	r.Git("tag", "tree", "main^{tree}")
	v := load(t, r.Dir).View()
	for _, args := range [][]string{
		{"HEAD"},
		{"main"},
		{"refs/heads/main"},
		{"v1"},
		{"--format=tar", "main"},
		{"--format", "tar", "--prefix=p/", "main"},
		{"--prefix", "q", "main", "sub"},
		{"main", "./sub/", "f"},
		{"main", "--", "sub/deep"},
		{"main", "."},
		{"--worktree-attributes", "main"},
		{"--list"},
		{"-l"},
	} {
		want := r.GitIn(arguments(args...), "upload-archive", ".")
		head, bands, err := archived(t, v, arguments(args...))
		_, gits := demux(t, []byte(want))
		if err != nil || head != "ACK\n" || bands[1] != gits[1] || bands[2] != gits[2] || bands[3] != "" {
			t.Errorf("%q: %v, %q, %d bytes, %q, %q; git has %d bytes, %q", args, err, head, len(bands[1]), bands[2], bands[3], len(gits[1]), gits[2])
		}
	}
	if _, bands, err := archived(t, v, arguments("-v", "main", "sub")); err != nil || bands[2] != "sub/\nsub/deep/\nsub/deep/g\nsub/run\n" {
		t.Errorf("-v says %q, %v", bands[2], err)
	}
	for _, args := range [][]string{{"--format=zip", "-0", "main:sub"}, {"--format=tgz", "tree"}, {"--format=tar.gz", "main:sub/deep"}} {
		if _, bands, err := archived(t, v, arguments(args...)); err != nil || len(bands[1]) < 100 {
			t.Errorf("%q: %d bytes, %v", args, len(bands[1]), err)
		}
	}
}

// TestUploadArchiveRefuses: what is asked for without a reference, what is not served, and what mallory would send.
func TestUploadArchiveRefuses(t *testing.T) {
	r, commits := tiny(t)
	v := r.View()
	tests := []struct {
		name string
		in   string
		want string // on band 3, or in a NACK
	}{
		{"an object's ID", arguments(commits[2].String()), "no such ref"},
		{"a part of it", arguments(commits[2].String()[:10]), "no such ref"},
		{"a step from a reference", arguments("main~1"), "no such ref"},
		{"nothing", arguments(), "say of what"},
		{"no such folder", arguments("main:none"), "no folder"},
		{"a file as a folder", arguments("main:dir/file"), "no folder"},
		{"no such path", arguments("main", "none"), "did not match any files"},
		{"a climbing path", arguments("main", "../../etc/passwd"), "did not match any files"},
		{"a pattern", arguments("main", "*.c"), "is a pattern"},
		{"pathspec magic", arguments("main", ":(glob)**"), "is a pattern"},
		{"an unknown format", arguments("--format=rar", "main"), "unknown archive format"},
		{"a level of what is not compressed", arguments("-9", "main"), "not supported for format 'tar'"},
		{"a format without a name", arguments("--format"), "no value"},
		{"an output file", arguments("--output=/tmp/x", "main"), "not served here"},
		{"another remote", arguments("--remote=ssh://elsewhere", "main"), "not served here"},
		{"a program", arguments("--exec=/bin/sh", "main"), "not served here"},
		{"a file of the server", arguments("--add-file=/etc/passwd", "main"), "not served here"},
		{"a climbing prefix", arguments("--prefix=../x/", "main"), "not a relative path"},
		{"no arguments at all", pkts("hello", "0000"), "NACK upload-archive: 'argument' token"},
		{"a delimiter", pkts("argument main", "0001", "0000"), "NACK upload-archive: 'argument' token"},
		{"too many", arguments(make([]string, 65)...), "NACK upload-archive: more than 64 arguments"},
		{"no end", pkts("argument main"), "NACK the other side hung up"},
		{"control characters", arguments("a\x1b[2Jb"), "no such ref: a [2Jb"},
	}
	for _, tt := range tests {
		head, bands, err := archived(t, v, tt.in)
		if err == nil || errkind.Of(err) == errkind.Internal || !strings.Contains(head+bands[3], tt.want) || bands[1] != "" {
			t.Errorf("%s: %v, %q, %d bytes, %q, want %q", tt.name, err, head, len(bands[1]), bands[3], tt.want)
		}
	}
}

// FuzzUploadArchive: whatever comes, the answer is pkt-lines, and whoever gets no archive is told why.
func FuzzUploadArchive(f *testing.F) {
	for _, args := range [][]string{{"HEAD"}, {"--list"}, {"--format=zip", "-9", "--prefix=a/", "main", "dir"}, {"-v", "main:dir", "--", "file"}} {
		f.Add([]byte(arguments(args...)))
	}
	r, _ := tiny(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		err := protocol.UploadArchive(t.Context(), r.View(), bytes.NewReader(in), &out)
		head, bands := demux(t, out.Bytes())
		if err != nil && bands[3] == "" && !strings.HasPrefix(head, "NACK ") {
			t.Errorf("%v was not told: %q", err, out.Bytes())
		}
	})
}
