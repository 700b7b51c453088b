package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/archive"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
)

const (
	// maxInline bounds a file that is put into JSON: it takes a few times as much memory. Larger ones are streamed raw.
	maxInline = 8 << 20
	// maxDirEntries bounds a directory in contents; the tree call has pages.
	maxDirEntries = 10_000
)

// RevParams say where in a repository to read.
type RevParams struct {
	RepoParam
	Ref  string `query:"ref" maxLength:"1100" doc:"A branch, tag, commit or other revision, as git understands it. Default: HEAD"`
	Path string `query:"path" maxLength:"4096" doc:"From the repository's root. Default: the root"`
}

func (a *restAPI) registerContent() {
	const tag = "content"
	o := op(http.MethodGet, "/repos/{repo}/contents", "get-contents", tag, "Read a file or a directory")
	o.Description = "Raw bytes come with raw=true, or when application/octet-stream is accepted; JSON holds a file in base64."
	o.Responses = a.bodyOf(reflect.TypeFor[client.Contents](), "application/octet-stream")
	handle(a, o, a.getContents)
	handle(a, op(http.MethodGet, "/repos/{repo}/tree", "list-tree", tag, "List a directory, or with recursive=true all below it"), a.listTree)
	o = op(http.MethodGet, "/repos/{repo}/archive", "get-archive", tag, "Download a tree as an archive")
	o.Responses = a.bodyOf(nil, "application/gzip", "application/zip")
	handle(a, o, a.getArchive)
}

// bodyOf describes an answer that is streamed: JSON of a type, unless nil, or bytes of other media types.
func (a *restAPI) bodyOf(t reflect.Type, binary ...string) map[string]*huma.Response {
	content := map[string]*huma.MediaType{}
	if t != nil {
		content["application/json"] = &huma.MediaType{Schema: a.OpenAPI().Components.Schemas.Schema(t, true, "")}
	}
	for _, b := range binary {
		content[b] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	return map[string]*huma.Response{"200": {Description: "OK", Content: content}}
}

// stream is an answer that is written while it is made. The function runs after the operation has returned, so that it
// releases what it uses. Until its first byte it may still fail with a problem document.
func (a *restAPI) stream(ctx context.Context, write func(w *answer) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		c := callOf(ctx)
		err := write(&c.w)
		switch {
		case err == nil:
		case c.w.status == 0:
			a.logFailure(ctx, c, err)
			clearHeaders(c.w.Header())
			problem.Write(&c.w, a.refusalHeaders(c, err), err)
		default:
			a.logFailure(ctx, c, err)
			panic(http.ErrAbortHandler) // the client must not take what it got for the whole
		}
	}}
}

// clearHeaders takes back what was said of an answer that does not come.
func clearHeaders(h http.Header) {
	for _, k := range []string{"Content-Type", "Content-Length", "Content-Disposition", "Content-Security-Policy", "Etag", "Cache-Control"} {
		h.Del(k)
	}
}

func (a *restAPI) getContents(ctx context.Context, p policy.Principal, in *struct {
	RevParams
	Raw    bool   `query:"raw" doc:"Only the file's bytes"`
	Accept string `header:"Accept" hidden:"true"`
	Match  string `header:"If-None-Match" doc:"With raw: the ETag that you have"`
},
) (*huma.StreamResponse, error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	return a.stream(ctx, func(w *answer) error {
		defer s.Release()
		path := cleanPath(in.Path)
		at, tree, err := s.root(ctx, in.Ref)
		if err != nil {
			return err
		}
		e, err := s.find(tree, path)
		if err != nil {
			return err
		}
		if in.Raw || strings.HasPrefix(in.Accept, "application/octet-stream") {
			return s.writeRaw(ctx, w, path, e, in.Match)
		}
		c, err := s.contents(path, e)
		if err != nil {
			return err
		}
		c.Commit = at
		w.Header().Set("Content-Type", "application/json")
		return huma.DefaultJSONFormat.Marshal(w, c)
	}), nil
}

// writeRaw streams a file of any size.
func (s *snapshot) writeRaw(ctx context.Context, w *answer, path string, e git.Entry, match string) error {
	if e.Mode == git.ModeDir || e.Mode == git.ModeGitlink {
		return fmt.Errorf("path %q is a directory, not a file: %w", clip(path), errkind.Invalid)
	}
	etag := `"` + e.OID.String() + `"`
	h := w.Header()
	h.Set("Etag", etag)
	h.Set("Cache-Control", "private, no-cache")
	if match != "" && strings.Contains(match, etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	_, size, r, err := s.view.Objects.Open(ctx, e.OID)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	attachment(h, "application/octet-stream", "")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	w.WriteHeader(http.StatusOK)
	_, err = io.Copy(struct{ io.Writer }{w}, r)
	return err
}

// contents makes the JSON of a path.
func (s *snapshot) contents(path string, e git.Entry) (client.Contents, error) {
	out, err := s.entryOut(path, e)
	c := client.Contents{Entry: out}
	if err != nil || e.Mode == git.ModeGitlink {
		return c, err
	}
	if e.Mode != git.ModeDir && *out.Size > maxInline {
		return c, fmt.Errorf("path %q has %d bytes, and JSON holds at most %d: ask with raw=true: %w", clip(path), *out.Size, maxInline, errkind.TooLarge)
	}
	obj, err := s.view.Objects.Read(e.OID)
	if err != nil {
		return c, err
	}
	if e.Mode != git.ModeDir {
		c.Encoding, c.Content = "base64", base64.StdEncoding.EncodeToString(obj.Data)
		return c, nil
	}
	c.Entries = []client.Entry{}
	for e, err := range git.TreeEntries(obj.Data) {
		if err != nil {
			return c, err
		}
		if len(c.Entries) == maxDirEntries {
			return c, fmt.Errorf("path %q has more than %d entries: list it with the tree call: %w", clip(path), maxDirEntries, errkind.TooLarge)
		}
		out, err := s.entryOut(join(path, string(e.Name)), e)
		if err != nil {
			return c, err
		}
		c.Entries = append(c.Entries, out)
	}
	return c, nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func base64Std(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (a *restAPI) listTree(ctx context.Context, p policy.Principal, in *struct {
	RevParams
	Recursive bool   `query:"recursive" doc:"Everything below as well"`
	Cursor    string `query:"cursor" maxLength:"6000" doc:"Where the page starts: the next_cursor of the page before. It keeps to the state of the first page"`
	Limit     int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"How many at most"`
},
) (*out[client.Tree], error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	rev := in.Ref
	if after != "" { // the object the first page was of, and the last path
		var ok bool
		if rev, after, ok = strings.Cut(after, ":"); !ok {
			return nil, errCursor
		}
		if _, err := git.ParseOID(rev); err != nil {
			return nil, errCursor
		}
	}
	at, tree, err := s.root(ctx, rev)
	if err != nil {
		return nil, err
	}
	path := cleanPath(in.Path)
	e, err := s.find(tree, path)
	if err != nil {
		return nil, err
	}
	if e.Mode != git.ModeDir {
		return nil, fmt.Errorf("path %q is not a directory: %w", clip(path), errkind.Invalid)
	}
	l := treeLister{s: s, recursive: in.Recursive, limit: in.Limit, after: after, items: []client.Entry{}}
	if err := l.walk(ctx, e.OID, path); err != nil {
		return nil, err
	}
	t := client.Tree{SHA: e.OID, Commit: at, Items: l.items}
	if l.more {
		t.NextCursor = makeCursor(at.String() + ":" + l.last)
	}
	return &out[client.Tree]{t}, nil
}

// maxTreeDepth bounds a walk: deeper trees cannot be checked out anywhere.
const maxTreeDepth = 2048

// treeLister collects a page of a tree in order, after a path.
type treeLister struct {
	s         *snapshot
	recursive bool
	limit     int
	after     string // still to be skipped; "" once passed
	items     []client.Entry
	last      string
	more      bool
	depth     int
}

func (l *treeLister) walk(ctx context.Context, tree git.OID, dir string) error {
	if l.depth++; l.depth > maxTreeDepth {
		return fmt.Errorf("tree is deeper than %d: %w", maxTreeDepth, errkind.TooLarge)
	}
	defer func() { l.depth-- }()
	if err := ctx.Err(); err != nil {
		return err
	}
	obj, err := l.s.view.Objects.Read(tree)
	if err != nil {
		return err
	}
	for e, err := range git.TreeEntries(obj.Data) {
		if err != nil {
			return err
		}
		path := join(dir, string(e.Name))
		show, descend := true, l.recursive && e.Mode == git.ModeDir
		switch {
		case l.after == "":
		case path == l.after:
			show, l.after = false, "" // the last of the page before; what is below it comes now
		case strings.HasPrefix(l.after, path+"/"):
			show = false
		default:
			continue
		}
		if show {
			if len(l.items) == l.limit {
				l.more = true
				return nil
			}
			out, err := l.s.entryOut(path, e)
			if err != nil {
				return err
			}
			l.items, l.last = append(l.items, out), path
		}
		if descend {
			if err := l.walk(ctx, e.OID, path); err != nil || l.more {
				return err
			}
		}
	}
	return nil
}

func (a *restAPI) getArchive(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Ref    string         `query:"ref" maxLength:"1100" doc:"A revision. Default: HEAD"`
	Format archive.Format `query:"format" enum:"tar.gz,zip" default:"tar.gz"`
},
) (*huma.StreamResponse, error) {
	s, err := a.read(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	return a.stream(ctx, func(w *answer) error {
		defer s.Release()
		at, kind, err := s.resolve(ctx, in.Ref)
		if err != nil {
			return err
		}
		tree, err := s.treeOf(at, kind)
		if err != nil {
			return err
		}
		opts := archive.Options{When: time.Unix(0, 0).UTC()}
		if kind == git.Commit {
			c, err := s.readCommit(at)
			if err != nil {
				return err
			}
			opts.Commit, opts.When = at, c.Committer.When
		}
		name := s.repo.Name + "-" + archiveRev(in.Ref, at)
		opts.Prefix = name + "/"
		contentType := "application/gzip"
		if in.Format == archive.Zip {
			contentType = "application/zip"
		}
		attachment(w.Header(), contentType, name+"."+string(in.Format))
		return archive.Write(ctx, w, s.view.Objects, tree, in.Format, opts)
	}), nil
}

// archiveRev is a revision as a part of a file's name.
func archiveRev(rev string, at git.OID) string {
	const most = 60
	short := git.RefName(rev).Short()
	if short == "" || len(short) > most {
		return at.String()[:12]
	}
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, short)
}
