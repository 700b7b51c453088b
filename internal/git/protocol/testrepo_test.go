package protocol_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// repo is a repository in memory, as simple as a protocol.Receiver can be.
type repo struct {
	t    testing.TB
	deny func(git.RefUpdate) error // may be nil

	receive protocol.ReceiveOptions // of pushes; versions and the like are the transport's

	mu     sync.Mutex
	config *protocol.Config
	view   protocol.View
	last   protocol.UpdateOptions
	errs   []error // that requests ended with
	pushes int
}

func newRepo(tb testing.TB) *repo {
	tb.Helper()
	r := &repo{t: tb}
	r.set(git.NewRefs("refs/heads/main", nil), odb.NewStore(nil, []git.OID{}, odb.NewCache(8<<20)))
	return r
}

// set makes a state the newest. r.mu is held, or r is new.
func (r *repo) set(refs *git.Refs, s *odb.Store) {
	graph := sync.OnceValues(func() (*revwalk.Graph, error) { return revwalk.NewGraph(s, nil) })
	r.view = protocol.View{Refs: refs, Objects: s, Graph: graph, Memo: new(protocol.Memo), Config: r.config}
}

// configure sets git's variables, and no others.
func (r *repo) configure(lines ...string) {
	r.t.Helper()
	c, err := protocol.ParseConfig(lines)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config, r.view.Config, r.view.Memo = c, c, new(protocol.Memo)
}

func (r *repo) View() protocol.View {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view
}

func (r *repo) Quarantine(ctx context.Context, in io.Reader, progress func(string, int, int)) (*odb.Quarantine, error) {
	return r.View().Objects.Receive(ctx, in, pack.ReceiveOptions{Dir: r.t.TempDir(), Progress: progress})
}

func (r *repo) Update(ctx context.Context, q *odb.Quarantine, updates []git.RefUpdate, opts protocol.UpdateOptions) ([]error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.pushes = opts, r.pushes+1
	s := r.view.Objects
	if q != nil {
		if err := q.Rebase(s); err != nil {
			return nil, err
		}
		data := make([]byte, q.Pack.Size())
		if _, err := q.Pack.ReaderAt().ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		p, err := pack.Open(bytes.NewReader(data), int64(len(data)), bytes.Clone(q.Idx), bytes.Clone(q.Table), nil)
		if err != nil {
			return nil, err
		}
		s = odb.NewStore(append(s.Packs()[:len(s.Packs()):len(s.Packs())], p), q.Store.Roots(), odb.NewCache(8<<20))
	}
	errs := make([]error, len(updates))
	failed := false
	var changes []git.Ref
	for i, u := range updates {
		errs[i] = r.check(s, u)
		failed = failed || errs[i] != nil
		if errs[i] != nil {
			continue
		}
		c := git.Ref{Name: u.Name, OID: u.New}
		if !u.New.IsZero() {
			if peeled, _, err := s.Peel(u.New); err == nil && peeled != u.New {
				c.Peeled = peeled
			}
		}
		changes = append(changes, c)
	}
	if failed && opts.Atomic {
		return errs, nil
	}
	r.set(r.view.Refs.With(changes), s)
	return errs, nil
}

func (r *repo) check(s *odb.Store, u git.RefUpdate) error {
	cur, _ := r.view.Refs.Get(u.Name)
	if !u.New.IsZero() && !s.Has(u.New) {
		return fmt.Errorf("update %s: object %s: %w", u.Name, u.New, errkind.NotFound)
	}
	switch {
	case cur.OID == u.Old:
	case u.Old.IsZero():
		return fmt.Errorf("update %s: %w", u.Name, errkind.Exists)
	default:
		return fmt.Errorf("update %s: fetch first: %w", u.Name, errkind.Conflict)
	}
	if other, ok := r.view.Refs.Blocker(u.Name); ok && !u.New.IsZero() {
		return fmt.Errorf("update %s: %s exists: %w", u.Name, other, errkind.Conflict)
	}
	if r.deny != nil {
		return r.deny(u)
	}
	return nil
}

// loaded has packs by the references that they are for: most tests start from the same repository.
var loaded sync.Map

// load takes all that a repository of git's has into an empty one.
func load(tb testing.TB, dir string) *repo {
	tb.Helper()
	r := newRepo(tb)
	names := refs(tb, dir)
	data, ok := loaded.Load(names)
	if !ok {
		data, _ = loaded.LoadOrStore(names, gittest.At(tb, dir).PackObjects("", "--all", "--delta-base-offset"))
	}
	q, err := r.Quarantine(tb.Context(), bytes.NewReader(data.([]byte)), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer q.Close()
	var updates []git.RefUpdate
	for line := range strings.SplitSeq(names, "\n") {
		oid, name, _ := strings.Cut(line, " ")
		updates = append(updates, git.RefUpdate{Name: git.RefName(name), New: git.MustParseOID(oid)})
	}
	errs, err := r.Update(tb.Context(), q, updates, protocol.UpdateOptions{Atomic: true})
	if err = errors.Join(append(errs, err)...); err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *repo) receiveOptions(v protocol.Version, stateless bool) protocol.ReceiveOptions {
	o := r.receive
	o.Version, o.Stateless, o.Writer = v, stateless, protocol.Writer{Actor: "alice"}
	return o
}

// move sets a reference as a push would, its old value whatever it is.
func (r *repo) move(name git.RefName, to git.OID) {
	r.t.Helper()
	cur, _ := r.View().Refs.Get(name)
	errs, err := r.Update(r.t.Context(), nil, []git.RefUpdate{{Name: name, Old: cur.OID, New: to}}, protocol.UpdateOptions{})
	if err = errors.Join(append(errs, err)...); err != nil {
		r.t.Fatal(err)
	}
}

// end notes how a request ended.
func (r *repo) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// takeErrs returns how requests have ended since the last call.
func (r *repo) takeErrs() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(r.errs...)
	r.errs = nil
	return err
}

// answers is a protocol.PackCache that keeps everything.
type answers struct {
	mu   sync.Mutex
	kept map[[sha256.Size]byte][]byte
	hits int
}

func (a *answers) Pack(ctx context.Context, key [32]byte, w io.Writer, produce func(context.Context, io.Writer) error) error {
	a.mu.Lock()
	b, ok := a.kept[key]
	if ok {
		a.hits++
	}
	a.mu.Unlock()
	if !ok {
		var buf bytes.Buffer
		if err := produce(ctx, &buf); err != nil {
			return err
		}
		b = buf.Bytes()
		a.mu.Lock()
		if a.kept == nil {
			a.kept = map[[sha256.Size]byte][]byte{}
		}
		a.kept[key] = b
		a.mu.Unlock()
	}
	_, err := w.Write(b)
	return err
}

// handler serves a repository over HTTP at any path.
func (r *repo) handler(opts protocol.UploadOptions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repo.git/info/refs", func(w http.ResponseWriter, req *http.Request) {
		service := req.FormValue("service")
		w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
		w.Header().Set("Cache-Control", "no-cache")
		v := protocol.ParseVersion(req.Header.Get("Git-Protocol"))
		o := opts
		o.Version, o.Stateless = v, true
		if service == protocol.ServiceReceivePack {
			r.end(protocol.AdvertiseReceive(w, r.View(), true, r.receiveOptions(v, true)))
		} else {
			r.end(protocol.AdvertiseUpload(w, r.View(), true, o))
		}
	})
	body := func(req *http.Request) io.Reader {
		if req.Header.Get("Content-Encoding") != "gzip" {
			return req.Body
		}
		zr, err := gzip.NewReader(req.Body)
		if err != nil {
			r.t.Error(err)
		}
		return zr
	}
	mux.HandleFunc("POST /repo.git/git-upload-pack", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		o := opts
		o.Version, o.Stateless = protocol.ParseVersion(req.Header.Get("Git-Protocol")), true
		r.end(protocol.UploadPack(req.Context(), r.View(), body(req), w, o))
	})
	mux.HandleFunc("POST /repo.git/git-receive-pack", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
		r.end(protocol.ReceivePack(req.Context(), r, body(req), w, r.receiveOptions(protocol.V0, true)))
	})
	return mux
}

func (r *repo) serveHTTP(tb testing.TB, opts protocol.UploadOptions) string {
	tb.Helper()
	s := httptest.NewServer(r.handler(opts))
	tb.Cleanup(s.Close)
	return s.URL + "/repo.git"
}

// relayEnv makes the test binary a relay between git and the test process: see TestMain.
const relayEnv = "SKEP_TEST_RELAY"

func TestMain(m *testing.M) {
	if at := os.Getenv(relayEnv); at != "" {
		relay(at)
	}
	dir, err := os.MkdirTemp("", "skep-protocol")
	if err != nil {
		panic(err)
	}
	sampleDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// relay stands where git expects git-upload-pack or git-receive-pack. at is a socket and a service.
func relay(at string) {
	socket, service, _ := strings.Cut(at, " ")
	conn, err := net.Dial("unix", socket)
	if err != nil {
		os.Exit(1)
	}
	fmt.Fprintf(conn, "%s %s\n", service, os.Getenv("GIT_PROTOCOL"))
	go func() {
		io.Copy(conn, os.Stdin)
		conn.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(os.Stdout, conn)
	os.Exit(0)
}

// servePipe serves a repository to relays and returns git's options that start them, for an address of any file:// URL.
func (r *repo) servePipe(tb testing.TB, opts protocol.UploadOptions) (upload, receive string) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "skep")
	if err != nil {
		tb.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	tb.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
		os.RemoveAll(dir)
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				r.end(r.serveConn(ctx, conn, opts))
			})
		}
	})
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("%s='%s upload' %s", relayEnv, socket, self), fmt.Sprintf("%s='%s receive' %s", relayEnv, socket, self)
}

func (r *repo) serveConn(ctx context.Context, conn net.Conn, opts protocol.UploadOptions) error {
	var head []byte
	for b := make([]byte, 1); b[0] != '\n'; head = append(head, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
	}
	service, version, _ := strings.Cut(strings.TrimSpace(string(head)), " ")
	v := protocol.ParseVersion(version)
	if service == "receive" {
		return protocol.ReceivePack(ctx, r, conn, conn, r.receiveOptions(v, false))
	}
	opts.Version = v
	return protocol.UploadPack(ctx, r.View(), conn, conn, opts)
}

// way is how git reaches a repository: a transport and a protocol version.
type way struct {
	name, url string
	version   int
	upload    string // --upload-pack
	receive   string // --receive-pack
}

// wayNames are the combinations of transport and version. Version 1 is version 0 with a line before it, which one
// transport shows.
var wayNames = []string{"http v0", "pipe v0", "pipe v1", "http v2", "pipe v2"}

// ways returns all combinations.
func (r *repo) ways(tb testing.TB, opts protocol.UploadOptions) []way {
	tb.Helper()
	url := r.serveHTTP(tb, opts)
	up, rp := r.servePipe(tb, opts)
	var out []way
	for _, name := range wayNames {
		w := way{name: name, version: int(name[len(name)-1] - '0')}
		if strings.HasPrefix(name, "http") {
			w.url = url
		} else {
			w.url, w.upload, w.receive = "file:///nowhere", up, rp
		}
		out = append(out, w)
	}
	return out
}

// args puts a way's options behind a git subcommand.
func (w way) args(sub string, args ...string) []string {
	out := []string{"-c", fmt.Sprintf("protocol.version=%d", w.version), sub}
	switch {
	case sub == "push" && w.receive != "":
		out = append(out, "--receive-pack="+w.receive)
	case sub != "push" && w.upload != "":
		out = append(out, "--upload-pack="+w.upload)
	}
	return append(out, args...)
}

func (w way) git(tb testing.TB, dir, sub string, args ...string) string {
	tb.Helper()
	return runGit(tb, dir, w.args(sub, args...)...)
}

func (w way) try(tb testing.TB, dir, sub string, args ...string) (string, error) {
	tb.Helper()
	return gittest.At(tb, dir).Talk(w.args(sub, args...)...)
}

// fsck checks a clone as strictly as git can.
func fsck(tb testing.TB, dir string) {
	tb.Helper()
	runGit(tb, dir, "fsck", "--strict", "--full", "--no-dangling")
}
