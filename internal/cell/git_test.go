package cell_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/cache"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// serveDir names the cell that this process is to serve on its standard streams, as a remote helper's command would.
const serveDir = "SKEP_TEST_SERVE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDir); dir != "" {
		if err := serve(dir, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serve(dir, service string) (err error) {
	var t testing.T
	h := homeIn(&t, dir)
	if h.opts.Answers, err = cache.OpenAnswers(filepath.Join(dir, "answers"), 1<<20, 64<<20); err != nil {
		return err
	}
	c := h.open(&t)
	version := protocol.ParseVersion(os.Getenv("GIT_PROTOCOL"))
	switch ctx := context.Background(); service {
	case "git-upload-pack":
		err = c.UploadPack(ctx, os.Stdin, os.Stdout, protocol.UploadOptions{Version: version})
	case "git-receive-pack":
		err = c.ReceivePack(ctx, os.Stdin, os.Stdout, protocol.ReceiveOptions{Version: version, Writer: protocol.Writer{Actor: "usr_git"}})
	default:
		err = fmt.Errorf("service %q", service)
	}
	if err == io.EOF { //nolint:errorlint // the client has hung up, as clients do
		err = nil
	}
	return err
}

// Real git pushes, clones and fetches.
func TestRealGit(t *testing.T) {
	h := newHome(t)
	url := "ext::" + os.Args[0] + " %S"
	t.Setenv(serveDir, h.dir)
	t.Setenv("GIT_ALLOW_PROTOCOL", "ext")
	r := newRepo(t)
	tip := r.commit("0")
	for i := range 30 {
		tip = r.commit(fmt.Sprint(i)+noise(5000, uint64(i)), tip)
	}
	r.git("update-ref", string(main), tip.String())
	r.git("update-ref", "refs/tags/v1", r.tag("v1", tip).String())
	r.git("push", "-q", url, "main", "v1")
	for i := range 3 {
		tip = r.commit(fmt.Sprint("more", i), tip)
		r.git("update-ref", string(main), tip.String())
		r.git("push", "-q", url, "main")
	}
	other := newRepo(t)
	for _, version := range []string{"0", "1", "2"} {
		dst := filepath.Join(t.TempDir(), "clone"+version)
		other.git("-c", "protocol.version="+version, "clone", "-q", "--mirror", url, dst)
		clone := &repo{t: t, dir: dst}
		if clone.refs() != r.refs() || clone.objects() != r.objects() {
			t.Errorf("clone with version %s differs:\n%s\nwant\n%s", version, clone.refs(), r.refs())
		}
		clone.git("fsck", "--strict")
	}
	other.git("fetch", "-q", "--depth=1", url, "main:shallow")
	if got := other.git("rev-list", "--count", "shallow"); got != "1" {
		t.Errorf("shallow fetch has %s commits", got)
	}
	r.git("push", "-q", url, "main~2:refs/heads/x", "+main~1:main", ":v1")
	r.git("update-ref", string(main), r.git("rev-parse", "main~1"))
	r.git("update-ref", "refs/heads/x", r.git("rev-parse", "main~1"))
	r.git("update-ref", "-d", "refs/tags/v1")
	if err := os.Unsetenv(serveDir); err != nil {
		t.Fatal(err)
	}
	c := h.open(t)
	same(t, c, r)
	verify(t, c)
}

// Fetches of the same share one answer, and a fetch goes on when the one that began it leaves.
func TestAnswersAreShared(t *testing.T) {
	h, r := newHome(t), newRepo(t)
	var err error
	if h.opts.Answers, err = cache.OpenAnswers(filepath.Join(h.dir, "answers"), 1<<20, 64<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.opts.Answers.Close(); err != nil {
			t.Error(err)
		}
	})
	c := h.open(t)
	tip := r.commit(noise(4<<20, 1))
	r.push(c, create(main, tip))
	request := pkt("command=fetch") + "0001" + pkt("thin-pack") + pkt("ofs-delta") + pkt("want "+tip.String()) + pkt("done") + "0000"
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			var out io.Writer = &counter{}
			if i%3 == 0 {
				out = &quitter{}
			}
			err := c.UploadPack(t.Context(), strings.NewReader(request), out, protocol.UploadOptions{Version: protocol.V2, Stateless: true})
			if n, ok := out.(*counter); ok && (err != nil || n.n < 4<<20) {
				t.Errorf("fetch: %d bytes, %v", n.n, err)
			}
		})
	}
	wg.Wait()
	next := r.commit("next", tip)
	r.push(c, move(main, tip, next))
	verify(t, c)
}

func pkt(s string) string { return fmt.Sprintf("%04x%s\n", len(s)+5, s) }

type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }

// quitter is a client that hangs up after the first bytes of the pack.
type quitter struct{ counter }

func (q *quitter) Write(p []byte) (int, error) {
	if q.n > 1<<20 {
		return 0, io.ErrClosedPipe
	}
	return q.counter.Write(p)
}

// 100,000 references come in one push, and open again.
func TestHundredThousandRefs(t *testing.T) {
	const n = 100_000
	h, r := newHome(t), newRepo(t)
	c := h.open(t)
	one, two := r.commit("one"), r.commit("two")
	r.push(c, create(main, one), create(topic, two))
	updates := make([]git.RefUpdate, n)
	for i := range updates {
		updates[i] = create(git.RefName(fmt.Sprintf("refs/pull/%d/head", i)), one)
	}
	errs, err := c.Update(t.Context(), nil, updates, protocol.UpdateOptions{Atomic: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", updates[i].Name, err)
		}
	}
	errs, err = c.Update(t.Context(), nil, []git.RefUpdate{move("refs/pull/7/head", one, two), move("refs/pull/8/head", one, git.ZeroOID)}, protocol.UpdateOptions{})
	if err != nil || errs[0] != nil || errs[1] != nil {
		t.Fatal(errs, err)
	}
	c = h.reopen(t, c)
	if got := c.View().Refs.Len(); got != n+1 {
		t.Errorf("%d references, want %d", got, n+1)
	}
	if ref, _ := c.View().Refs.Get("refs/pull/7/head"); ref.OID != two {
		t.Errorf("refs/pull/7/head is %s", ref.OID)
	}
	verify(t, c)
}
