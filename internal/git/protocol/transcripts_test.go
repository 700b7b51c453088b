package protocol_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestTranscripts plays the requests in testdata/transcripts and compares what comes back. A file holds cases of this
// form, against a fresh copy of the repository that sample makes:
//
//	== upload v2 stateless
//	> command=ls-refs
//	> 0001
//	> 0000
//	< {main} HEAD
//	< 0000
//
// A line is a pkt-line's payload; {main} is the object that a revision names; \0 is NUL; "pack REVS" is a packfile, and
// "bytes TEXT" is no pkt-line at all; words KEY=VALUE that end the first line are the repository's configuration. In an answer 1, 2 and 3 are bands; a pack is shown by its number of objects.
func TestTranscripts(t *testing.T) {
	src := sample(t)
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for i, c := range strings.Split(string(want), "== ") {
			if i == 0 {
				got.WriteString(c)
				continue
			}
			head, rest, _ := strings.Cut(c, "\n")
			fmt.Fprintf(&got, "== %s\n", head)
			var request []string
			for l := range strings.Lines(rest) {
				switch {
				case strings.HasPrefix(l, "> "):
					request = append(request, strings.TrimSuffix(l[2:], "\n"))
					got.WriteString(l)
				case strings.HasPrefix(l, "#"):
					got.WriteString(l)
				}
			}
			got.WriteString(play(t, src, head, request))
		}
		if *update {
			if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// play sends one request and renders the answer.
func play(t *testing.T, src, head string, request []string) string {
	t.Helper()
	r := load(t, src)
	var in bytes.Buffer
	for _, l := range request {
		revs, isPack := strings.CutPrefix(l, "pack ")
		raw, isRaw := strings.CutPrefix(l, "bytes ")
		switch {
		case isPack:
			in.Write(makePack(t, src, revs))
		case isRaw:
			in.WriteString(raw)
		default:
			in.WriteString(pkts(fillIn(t, src, l)))
		}
	}
	words := strings.Fields(head)
	if i := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "=") }); i > 0 {
		r.configure(words[i:]...)
		words = words[:i]
	}
	version := map[string]protocol.Version{"v0": protocol.V0, "v1": protocol.V1, "v2": protocol.V2}[words[1]]
	stateless := words[2] == "stateless"
	var out bytes.Buffer
	var err error
	switch words[0] {
	case "upload":
		opts := protocol.UploadOptions{Version: version, Stateless: stateless, Session: "session-1"}
		if len(words) > 3 && words[3] == "advertise" {
			err = protocol.AdvertiseUpload(&out, r.View(), stateless, opts)
		} else {
			err = protocol.UploadPack(t.Context(), r.View(), &in, &out, opts)
		}
	case "receive":
		opts := protocol.ReceiveOptions{Version: version, Stateless: stateless, Session: "session-1"}
		if len(words) > 3 && words[3] == "advertise" {
			err = protocol.AdvertiseReceive(&out, r.View(), stateless, opts)
		} else {
			err = protocol.ReceivePack(t.Context(), r, &in, &out, opts)
		}
	default:
		t.Fatalf("transcript of %q", head)
	}
	text := deltas.ReplaceAllString(render(t, src, out.Bytes()), "(delta N)") // git's choice, by its threads
	if err != nil {
		text += "! " + shorten(t, src, err.Error()) + "\n"
	}
	return text + "\n"
}

// sidebandAll are lines that are on band 1 and neither in a pack nor in a report.
var sidebandAll = regexp.MustCompile(`\A\x01([a-zA-Z-]{4,} ?[0-9a-f]*|(ACK|NAK)[^\n]*|[0-9a-f]{40} [^\n]*)\n?\z`)

var deltas = regexp.MustCompile(`\(delta \d+\)`)

var reference = regexp.MustCompile(`\{[^{}]+(\{[a-z]*\})?\}`)

// fillIn replaces {rev} by the object it names.
func fillIn(t *testing.T, src, line string) string {
	t.Helper()
	return reference.ReplaceAllStringFunc(line, func(s string) string {
		switch s {
		case "{zero}":
			return git.ZeroOID.String()
		case "{unknown}":
			return strings.Repeat("12345", 8)
		}
		return runGit(t, src, "rev-parse", s[1:len(s)-1])
	})
}

// shorten is the reverse of fillIn for the objects that transcripts speak of.
func shorten(t *testing.T, src, line string) string {
	t.Helper()
	return shorter(t, src).Replace(line)
}

var (
	shorterOnce sync.Once
	shorterBy   *strings.Replacer // every sample is the same
)

func shorter(t *testing.T, src string) *strings.Replacer {
	t.Helper()
	shorterOnce.Do(func() {
		revs := strings.Fields("main side v1 v1-again tree v2 light main~1 main~2 main~3 main~4 main~5 side~1 side~2 main^{tree} main:side main:src/file.txt")
		pairs := []string{git.ZeroOID.String(), "{zero}", strings.Repeat("12345", 8), "{unknown}"}
		for i, oid := range strings.Fields(runGit(t, src, append([]string{"rev-parse"}, revs...)...)) {
			pairs = append(pairs, oid, "{"+revs[i]+"}")
		}
		shorterBy = strings.NewReplacer(pairs...)
	})
	return shorterBy
}

func makePack(t *testing.T, src, revs string) []byte {
	t.Helper()
	return gittest.At(t, src).PackObjects(strings.ReplaceAll(revs, " ", "\n")+"\n", "--delta-base-offset")
}

// render writes an answer as transcripts have it.
func render(t *testing.T, src string, answer []byte) string {
	t.Helper()
	var b strings.Builder
	objects := func(p []byte) string {
		if len(p) < 12 || string(p[:4]) != "PACK" {
			return fmt.Sprintf("%q", p)
		}
		return fmt.Sprintf("pack of %d objects", binary.BigEndian.Uint32(p[8:]))
	}
	var packed []byte
	inBand := func() {
		switch {
		case packed == nil:
		case bytes.HasPrefix(packed, []byte("PACK")):
			fmt.Fprintf(&b, "< 1 %s\n", objects(packed))
		default: // a report
			for l := range strings.Lines(render(t, src, packed)) {
				fmt.Fprintf(&b, "< 1 %s", l[2:])
			}
		}
		packed = nil
	}
	if i := bytes.Index(answer, []byte("PACK")); i > 0 && answer[i-1] != 1 {
		return render(t, src, answer[:i]) + "< " + objects(answer[i:]) + "\n"
	}
	pr := protocol.NewPktReader(bytes.NewReader(answer), 1<<30)
	defer pr.Close()
	for {
		k, p, err := pr.Next()
		if errors.Is(err, io.EOF) {
			inBand()
			return shorten(t, src, b.String())
		}
		if err != nil {
			t.Fatalf("answer %q: %v", answer, err)
		}
		if k == protocol.PktData && packed == nil && sidebandAll.Match(p) {
			fmt.Fprintf(&b, "< 1 %s\n", bytes.TrimSuffix(p[1:], []byte("\n")))
			continue
		}
		if k == protocol.PktData && len(p) > 0 && p[0] == 1 {
			packed = append(packed, p[1:]...)
			continue
		}
		inBand()
		switch {
		case k != protocol.PktData:
			fmt.Fprintf(&b, "< %s\n", map[protocol.Pkt]string{protocol.PktFlush: "0000", protocol.PktDelim: "0001"}[k])
		case len(p) > 0 && p[0] < 4:
			for l := range strings.SplitAfterSeq(string(p[1:]), "\n") {
				if l != "" {
					fmt.Fprintf(&b, "< %d %s\n", p[0], strings.TrimRight(l, "\n"))
				}
			}
		default:
			fmt.Fprintf(&b, "< %s\n", strings.ReplaceAll(strings.TrimSuffix(string(p), "\n"), "\x00", `\0`))
		}
	}
}
