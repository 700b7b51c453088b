package protocol_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// ask sends one v2 request and returns the answer.
func ask(tb testing.TB, v protocol.View, cache protocol.PackCache, lines ...string) (string, error) {
	tb.Helper()
	var out bytes.Buffer
	err := protocol.UploadPack(tb.Context(), v, strings.NewReader(pkts(lines...)), &out,
		protocol.UploadOptions{Version: protocol.V2, Stateless: true, Cache: cache})
	return out.String(), err
}

func TestKeptAnswersNeedNoPlan(t *testing.T) {
	r := load(t, sample(t))
	head, _ := r.View().Refs.HeadRef()
	side, _ := r.View().Refs.Get("refs/heads/side")
	tests := map[string]struct{ first, same []string }{
		"clone": {
			[]string{"thin-pack", "ofs-delta", "want " + head.OID.String(), "want " + side.OID.String(), "done"},
			[]string{"ofs-delta", "agent-does-not-matter", "want " + side.OID.String(), "want " + head.OID.String(), "want " + side.OID.String(), "no-progress", "done"},
		},
		"clone --depth 1": {
			[]string{"want " + head.OID.String(), "deepen 1", "done"},
			[]string{"no-progress", "deepen 1", "want " + head.OID.String(), "done"},
		},
		"partial clone": {
			[]string{"want " + head.OID.String(), "filter blob:none", "done"},
			[]string{"filter blob:none", "want " + head.OID.String(), "done"},
		},
		"fetch": {
			[]string{"want " + head.OID.String(), "have " + side.OID.String(), "done"},
			[]string{"have 1234567890123456789012345678901234567890", "have " + side.OID.String(), "want " + head.OID.String(), "done"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cache := &answers{}
			request := func(args []string) []string {
				out := []string{"command=fetch", "0001"}
				for _, a := range args {
					if a != "agent-does-not-matter" {
						out = append(out, a)
					}
				}
				return append(out, "0000")
			}
			if _, err := ask(t, r.View(), cache, request(tt.first)...); err != nil {
				t.Fatal(err)
			}
			// The same question in other words, by a view that cannot plan.
			v := r.View()
			if name != "fetch" { // a have's parents are looked up
				v.Graph = func() (*revwalk.Graph, error) { return nil, errors.New("planned again") }
			}
			if _, err := ask(t, v, cache, request(tt.same)...); err != nil || cache.hits != 1 {
				t.Errorf("the second request: %d hits, %v; want the first one's answer", cache.hits, err)
			}
			// A question that differs gets another answer.
			for _, more := range []string{"deepen 2", "filter tree:0", "shallow " + side.OID.String(), "want " + firstTag(r), "include-tag"} {
				args := request(append([]string{more}, tt.first...))
				if strings.HasPrefix(more, "filter") && name == "partial clone" {
					continue
				}
				if strings.HasPrefix(more, "deepen") && name == "clone --depth 1" {
					args = request([]string{"deepen 2", tt.first[0], "done"})
				}
				if _, err := ask(t, r.View(), cache, args...); err != nil || cache.hits != 1 {
					t.Errorf("with %q: %d hits, %v; want no hit", more, cache.hits, err)
				}
			}
		})
	}
}

func firstTag(r *repo) string {
	v1, _ := r.View().Refs.Get("refs/tags/v1")
	return v1.OID.String()
}

func TestUploadPackHasLimits(t *testing.T) {
	r, commits := tiny(t)
	tip := commits[2].String()
	many := func(n int, line string) io.Reader {
		one := pkts(line)
		return io.LimitReader(&endless{text: one}, int64(n*len(one)))
	}
	tests := []struct {
		name string
		in   io.Reader
		want string
	}{
		{"wants", many(600_000, "want "+tip), "more than 524288 wants"},
		{"haves", many(300_000, "have "+tip), "more than 262144 haves"},
		{"shallow", many(140_000, "shallow "+tip), "more than 131072 shallow"},
		{"deepen-not", many(300, "deepen-not old"), "more than 256 deepen-not"},
		{"bytes", many(8_000_000, "thin-pack"), "request has more than 33554432 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			in := io.MultiReader(strings.NewReader(pkts("command=fetch", "0001")), tt.in, strings.NewReader("0000"))
			err := protocol.UploadPack(t.Context(), r.View(), in, &out, protocol.UploadOptions{Version: protocol.V2, Stateless: true})
			if !errors.Is(err, errkind.TooLarge) || !strings.Contains(out.String(), tt.want) {
				t.Errorf("UploadPack() = %v, told %q; want %q", err, out.String(), tt.want)
			}
		})
	}
	t.Run("prefixes", func(t *testing.T) {
		var out bytes.Buffer
		in := io.MultiReader(strings.NewReader(pkts("command=ls-refs", "0001")), many(70_000, "ref-prefix refs/none"), strings.NewReader("0000"))
		err := protocol.UploadPack(t.Context(), r.View(), in, &out, protocol.UploadOptions{Version: protocol.V2, Stateless: true})
		if err != nil || !strings.Contains(out.String(), "refs/heads/main") {
			t.Errorf("UploadPack() = %v, %q; want all references", err, out.String())
		}
	})
}

// endless repeats a text.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	return n, nil
}

func TestUnreachableObjectsAreNotServed(t *testing.T) {
	r, commits := tiny(t)
	tree := func(c git.OID) git.OID {
		o, err := r.View().Objects.Read(c)
		if err != nil {
			t.Fatal(err)
		}
		info, err := git.ParseCommit(o.Data)
		if err != nil {
			t.Fatal(err)
		}
		return info.Tree
	}
	// Given that main was moved back, so that the last commit and its tree belong to nothing …
	r.move("refs/heads/main", commits[1])
	views := map[string]protocol.View{"remembering": r.View()}
	v := r.View()
	v.Memo = nil
	views["forgetful"] = v
	// … also where the store does not know its roots.
	s := odb.NewStore(v.Objects.Packs(), nil, odb.NewCache(1<<20))
	v.Objects = s
	v.Graph = func() (*revwalk.Graph, error) { return revwalk.NewGraph(s, nil) }
	views["without roots"] = v
	for name, v := range views {
		t.Run(name, func(t *testing.T) {
			for range 20 { // past the point where a map of the references is made
				for _, o := range []git.OID{commits[2], tree(commits[2]), git.Hash(git.Blob, []byte("none"))} {
					out, err := ask(t, v, nil, "command=fetch", "0001", "want "+commits[0].String(), "want "+o.String(), "done", "0000")
					if !errors.Is(err, errkind.NotFound) || !strings.Contains(out, "ERR upload-pack: not our ref "+o.String()) {
						t.Fatalf("want %s: %v, %q", o, err, out)
					}
				}
				for _, o := range []git.OID{commits[1], commits[0], tree(commits[0])} {
					if _, err := ask(t, v, nil, "command=fetch", "0001", "want "+o.String(), "done", "0000"); err != nil {
						t.Fatalf("want %s: %v", o, err)
					}
				}
				out, err := ask(t, v, nil, "command=object-info", "0001", "size", "oid "+commits[2].String(), "0000")
				if want := fmt.Sprintf("%s \n0000", commits[2]); err != nil || !strings.HasSuffix(out, want) {
					t.Fatalf("object-info: %v, %q; want %q", err, out, want)
				}
			}
		})
	}
}

func TestLsRefsIsTheSameWhenItIsKept(t *testing.T) {
	r, commits := tiny(t)
	list := make([]git.Ref, 5000)
	for i := range list {
		list[i] = git.Ref{Name: git.RefName(fmt.Sprintf("refs/heads/b%05d", i)), OID: commits[i%3]}
	}
	r.set(git.NewRefs("refs/heads/b00007", list), r.view.Objects)
	for _, args := range [][]string{{"peel"}, {"peel", "symrefs"}, {"symrefs", "ref-prefix refs/heads/b0", "ref-prefix HEAD"}} {
		request := append(append([]string{"command=ls-refs", "0001"}, args...), "0000")
		first, err := ask(t, r.View(), nil, request...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if again, err := ask(t, r.View(), nil, request...); err != nil || again != first {
				t.Errorf("%v: answer %d differs, %v", args, i+2, err)
			}
		}
		if n := strings.Count(first, "refs/heads/b0"); n < 5000 {
			t.Errorf("%v: %d references, want 5000", args, n)
		}
	}
}

// brokenCache fails after some of the answer.
type brokenCache struct{ after int }

func (b brokenCache) Pack(ctx context.Context, _ [32]byte, w io.Writer, produce func(context.Context, io.Writer) error) error {
	var buf bytes.Buffer
	if err := produce(ctx, &buf); err != nil {
		return err
	}
	w.Write(buf.Bytes()[:b.after])
	return errors.New("read /var/lib/secret: input/output error")
}

func TestAFailureInThePackIsTold(t *testing.T) {
	r, commits := tiny(t)
	for _, args := range [][]string{{}, {"deepen 1"}} {
		for _, after := range []int{0, 3, 100} {
			request := append([]string{"command=fetch", "0001", "no-progress", "want " + commits[2].String(), "done"}, append(args, "0000")...)
			out, err := ask(t, r.View(), brokenCache{after}, request...)
			if err == nil || strings.Contains(out, "secret") || !strings.Contains(out, "internal error") {
				t.Errorf("%v, broken after %d: %v, told %q", args, after, err, out)
			}
			if strings.HasSuffix(out, "0000") {
				t.Errorf("%v, broken after %d: the answer ends as if it were whole: %q", args, after, out)
			}
		}
	}
}
