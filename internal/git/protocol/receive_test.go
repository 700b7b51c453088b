package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// pushTo sends one push.
func pushTo(tb testing.TB, r *repo, in io.Reader, stateless bool) (string, error) {
	tb.Helper()
	var out bytes.Buffer
	err := protocol.ReceivePack(tb.Context(), r, in, &out, protocol.ReceiveOptions{Stateless: stateless})
	return out.String(), err
}

func TestAPushThatBreaksOffLeavesNothing(t *testing.T) {
	src := sample(t)
	main := runGit(t, src, "rev-parse", "main")
	whole := append([]byte(pkts(git.ZeroOID.String()+" "+main+` refs/heads/main\0report-status side-band-64k`, "0000")), makePack(t, src, "main")...)
	for _, at := range []int{1, 50, 150, 180, 200, 1000, len(whole) - 21, len(whole) - 1} {
		for _, stateless := range []bool{true, false} {
			r := newRepo(t)
			_, err := pushTo(t, r, bytes.NewReader(whole[:at]), stateless)
			if err == nil || errkind.Of(err) == errkind.Internal {
				t.Errorf("cut after %d bytes: %v, want the client's fault", at, err)
			}
			if r.pushes != 0 || r.View().Refs.Len() != 0 {
				t.Errorf("cut after %d bytes: references moved", at)
			}
			left, _ := filepath.Glob(filepath.Join(filepath.Dir(t.TempDir()), "*", "*"))
			for _, f := range left {
				if strings.HasSuffix(f, ".pack") && !strings.Contains(f, ".git") {
					t.Errorf("cut after %d bytes: %s is left", at, f)
				}
			}
		}
	}
	r := newRepo(t)
	if out, err := pushTo(t, r, bytes.NewReader(whole), true); err != nil || r.pushes != 1 {
		t.Errorf("whole: %v, %q", err, out)
	}
}

func TestARefusedPackIsReadToItsEndOverHTTP(t *testing.T) {
	r := newRepo(t)
	in := strings.NewReader(pkts(git.ZeroOID.String()+" 1234567890123456789012345678901234567890 refs/heads/main"+`\0report-status`, "0000") +
		"PACK" + strings.Repeat("junk", 1<<18))
	out, err := pushTo(t, r, in, true)
	if !errors.Is(err, errkind.Invalid) || !strings.Contains(out, "ng refs/heads/main unpacker error") {
		t.Errorf("ReceivePack() = %v, told %q", err, out)
	}
	if in.Len() != 0 {
		t.Errorf("%d bytes were not read", in.Len())
	}
}

func TestReceivePackHasLimits(t *testing.T) {
	r, commits := tiny(t)
	tip := commits[2].String()
	command := func(name string) string { return git.ZeroOID.String() + " " + tip + " " + name }
	many := func(n int, line string) string { return strings.Repeat(pkts(line), n) }
	tests := []struct{ name, in, want string }{
		{"commands", many(250_001, command("refs/heads/x")), "more than 250000 references"},
		{"a name", pkts(command("refs/heads/" + strings.Repeat("x", 5000))), "expected old/new/ref"},
		{"shallow", many(140_000, "shallow "+tip), "more than 131072 shallow"},
		{"push options", pkts(command("refs/heads/x")+`\0push-options`, "0000") + many(65, "o"), "more than 64 push options"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := pushTo(t, r, strings.NewReader(tt.in+"0000"), true)
			if err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("ReceivePack() = %v, told %.200q; want %q", err, out, tt.want)
			}
		})
	}
}

func TestAPushOptionWithANULIsRefused(t *testing.T) {
	r, commits := tiny(t)
	command := git.ZeroOID.String() + " " + commits[2].String() + " refs/heads/x"
	out, err := pushTo(t, r, strings.NewReader(pkts(command+`\0push-options`, "0000", `a\0b`, "0000")), true)
	if !errors.Is(err, errkind.Invalid) || !strings.Contains(out, "a push option has a NUL byte") {
		t.Errorf("ReceivePack() = %v, told %q; want errkind.Invalid", err, out)
	}
	if _, moved := r.View().Refs.Get("refs/heads/x"); moved {
		t.Error("the reference moved")
	}
}

// A client that takes what it was not offered is answered as if it had not.
func TestCapabilitiesOfAPushThatWereNotAdvertisedArePassedOver(t *testing.T) {
	src := sample(t)
	pack := string(makePack(t, src, "main"))
	r := newRepo(t)
	r.configure("receive.advertiseAtomic=false", "receive.advertisePushOptions=false")
	main := runGit(t, src, "rev-parse", "main")
	in := pkts(git.ZeroOID.String()+" "+main+` refs/heads/main\0report-status atomic push-options`,
		git.ZeroOID.String()+" "+main+" refs/heads/a..b", "0000") + pack
	out, err := pushTo(t, r, strings.NewReader(in), true)
	if err != nil || !strings.Contains(out, "ok refs/heads/main") || !strings.Contains(out, "ng refs/heads/a..b funny refname") {
		t.Errorf("ReceivePack() = %v, told %q; want one reference moved although the other is refused", err, out)
	}
}

func TestGitSeesDeltasBeingResolved(t *testing.T) {
	src := sample(t)
	commitMany(t, src, 40, 200, "long", func(i int) string { return strings.Repeat("the same line\n", 300) + fmt.Sprint(i) })
	for i := range wayNames {
		r := newRepo(t)
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			out := w.git(t, src, "push", "--progress", w.url, "main")
			if !strings.Contains(out, "remote: Resolving deltas: 100%") {
				t.Errorf("push shows %q, want the server's progress", out)
			}
			if out := w.git(t, src, "push", "-q", w.url, "side"); out != "" {
				t.Errorf("quiet push shows %q", out)
			}
		})
	}
}

func TestGitPushesALargePack(t *testing.T) {
	// Larger than http.postBuffer, so that git sends chunks after a probe.
	src := t.TempDir()
	runGit(t, src, "init", "-q", "-b", "main")
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i*i>>7 ^ i*2654435761>>13)
	}
	if err := os.WriteFile(filepath.Join(src, "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	commitFile(t, src, 0, "small", "small\n")
	for i := range wayNames {
		r := newRepo(t)
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			w.git(t, src, "push", w.url, "main")
			dst := t.TempDir()
			w.git(t, dst, "clone", w.url, ".")
			got, err := os.ReadFile(filepath.Join(dst, "big"))
			if err != nil || !bytes.Equal(got, big) {
				t.Errorf("the large file comes back as %d bytes, %v", len(got), err)
			}
		})
	}
}
