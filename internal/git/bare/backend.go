package bare

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// Backend answers one request of a web server by CGI (RFC 3875), as git-http-backend(1) does: smart HTTP, and the files that clients of dumb
// HTTP read. Its environment says what is asked: GIT_PROJECT_ROOT and PATH_INFO, or PATH_TRANSLATED, name the file; GIT_HTTP_EXPORT_ALL or
// a file git-daemon-export-ok in the repository lets it be read; REMOTE_USER is who the web server has let in, without whom nobody pushes.
type Backend struct {
	In       io.Reader
	Out, Err io.Writer
	Agent    string
}

// httpService is one kind of address below a repository's.
type httpService struct {
	method  string
	pattern *regexp.Regexp
	serve   func(*exchange) error
}

var httpServices = []httpService{
	{http.MethodGet, regexp.MustCompile(`/HEAD$`), (*exchange).text},
	{http.MethodGet, regexp.MustCompile(`/info/refs$`), (*exchange).infoRefs},
	{http.MethodGet, regexp.MustCompile(`/objects/info/alternates$`), (*exchange).text},
	{http.MethodGet, regexp.MustCompile(`/objects/info/http-alternates$`), (*exchange).text},
	{http.MethodGet, regexp.MustCompile(`/objects/info/packs$`), (*exchange).infoPacks},
	{http.MethodGet, regexp.MustCompile(`/objects/[0-9a-f]{2}/[0-9a-f]{38}$`), file("application/x-git-loose-object")},
	{http.MethodGet, regexp.MustCompile(`/objects/pack/pack-[0-9a-f]{40}\.pack$`), file("application/x-git-packed-objects")},
	{http.MethodGet, regexp.MustCompile(`/objects/pack/pack-[0-9a-f]{40}\.idx$`), file("application/x-git-packed-objects-toc")},
	{http.MethodPost, regexp.MustCompile(`/git-upload-pack$`), (*exchange).post},
	{http.MethodPost, regexp.MustCompile(`/git-receive-pack$`), (*exchange).post},
}

// exchange is one request with its answer.
type exchange struct {
	Backend
	ctx  context.Context //nolint:containedctx // it lives as long as the one request does
	out  *bufio.Writer
	repo *Repo
	name string // what is asked for, below the repository
	said bool   // the header is written
}

// httpError is a refusal with its status.
type httpError struct {
	code int
	text string
}

func (e httpError) Error() string { return e.text }

// Serve reads the request and writes the answer. Its error is for the process's exit status; the client has been told.
func (b Backend) Serve(ctx context.Context) error {
	x := &exchange{Backend: b, ctx: ctx, out: bufio.NewWriter(b.Out)}
	err := x.serve()
	if refusal, ok := errors.AsType[httpError](err); ok {
		if refusal.text != "" {
			_, _ = fmt.Fprintln(b.Err, refusal.text)
		}
		x.status(refusal.code)
		x.endHeader()
		err = nil
	} else if err != nil && !x.said {
		_, _ = fmt.Fprintln(b.Err, "fatal:", err)
		x.status(http.StatusInternalServerError)
		x.endHeader()
		err = nil // it is told
	}
	return errors.Join(err, x.out.Flush())
}

func (x *exchange) serve() error {
	path, err := requestPath()
	if err != nil {
		return err
	}
	method := os.Getenv("REQUEST_METHOD")
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, s := range httpServices {
		at := s.pattern.FindStringIndex(path)
		if at == nil {
			continue
		}
		if method != s.method {
			return x.wrongMethod(s.method)
		}
		x.name = path[at[0]+1:]
		if err := x.open(path[:at[0]]); err != nil {
			return err
		}
		return s.serve(x)
	}
	return httpError{http.StatusNotFound, fmt.Sprintf("Request not supported: '%s'", path)}
}

func (x *exchange) wrongMethod(allowed string) error {
	if os.Getenv("SERVER_PROTOCOL") != "HTTP/1.1" {
		return httpError{http.StatusBadRequest, ""}
	}
	if allowed == http.MethodGet {
		allowed = "GET, HEAD"
	}
	x.status(http.StatusMethodNotAllowed)
	x.header("Allow", allowed)
	x.endHeader()
	return nil
}

// requestPath is the file that is asked for.
func requestPath() (string, error) {
	root, info := os.Getenv("GIT_PROJECT_ROOT"), os.Getenv("PATH_INFO")
	if root == "" {
		if path := os.Getenv("PATH_TRANSLATED"); path != "" {
			return path, nil
		}
		return "", fmt.Errorf("no GIT_PROJECT_ROOT or PATH_TRANSLATED from server: %w", errkind.Invalid)
	}
	if info == "" {
		return "", fmt.Errorf("GIT_PROJECT_ROOT is set but PATH_INFO is not: %w", errkind.Invalid)
	}
	for part := range strings.SplitSeq(info, "/") {
		if part == ".." || part == "." {
			return "", fmt.Errorf("'%s': aliased: %w", info, errkind.Invalid)
		}
	}
	return strings.TrimRight(root, "/") + "/" + strings.TrimLeft(info, "/"), nil
}

func (x *exchange) open(dir string) error {
	repo, err := Open(dir, false)
	switch {
	case errors.Is(err, errkind.NotFound):
		return httpError{http.StatusNotFound, fmt.Sprintf("Not a git repository: '%s'", dir)}
	case err != nil:
		return err
	}
	if _, all := os.LookupEnv("GIT_HTTP_EXPORT_ALL"); !all && !exists(filepath.Join(repo.dir, "git-daemon-export-ok")) {
		return httpError{http.StatusNotFound, fmt.Sprintf("Repository not exported: '%s'", dir)}
	}
	x.repo = repo
	return nil
}

// allowed says whether the configuration lets a service be used.
func (x *exchange) allowed(service string) error {
	_, known := os.LookupEnv("REMOTE_USER")
	on := false
	switch service {
	case "git-upload-pack":
		on = x.repo.config.Bool("http.uploadpack", true)
	case "git-receive-pack":
		on = x.repo.config.Bool("http.receivepack", known && os.Getenv("REMOTE_USER") != "")
	default:
		return httpError{http.StatusForbidden, fmt.Sprintf("Unsupported service: '%s'", service)}
	}
	if !on {
		return httpError{http.StatusForbidden, fmt.Sprintf("Service not enabled: '%s'", service)}
	}
	return nil
}

func (x *exchange) status(code int) {
	_, _ = fmt.Fprintf(x.out, "Status: %d %s\r\n", code, http.StatusText(code)) // Flush has the error
}

func (x *exchange) header(name, value string) { _, _ = fmt.Fprintf(x.out, "%s: %s\r\n", name, value) }

func (x *exchange) endHeader() {
	x.said = true
	_, _ = x.out.WriteString("\r\n")
}

func (x *exchange) noCache() {
	x.header("Expires", "Fri, 01 Jan 1980 00:00:00 GMT")
	x.header("Pragma", "no-cache")
	x.header("Cache-Control", "no-cache, max-age=0, must-revalidate")
}

// mayGetFiles says whether clients may read files at all.
func (x *exchange) mayGetFiles() error {
	if !x.repo.config.Bool("http.getanyfile", true) {
		return httpError{http.StatusForbidden, "Unsupported service: getanyfile"}
	}
	return nil
}

func (x *exchange) text() error {
	if err := x.mayGetFiles(); err != nil {
		return err
	}
	x.noCache()
	return x.sendFile("text/plain")
}

// file answers with a file that never changes.
func file(contentType string) func(*exchange) error {
	return func(x *exchange) error {
		if err := x.mayGetFiles(); err != nil {
			return err
		}
		now := time.Now().UTC()
		x.header("Date", now.Format(http.TimeFormat))
		x.header("Expires", now.AddDate(1, 0, 0).Format(http.TimeFormat))
		x.header("Cache-Control", "public, max-age=31536000")
		return x.sendFile(contentType)
	}
}

func (x *exchange) sendFile(contentType string) error {
	dir := x.repo.common
	if x.name == "HEAD" {
		dir = x.repo.dir
	}
	f, err := openRegular(filepath.Join(dir, filepath.FromSlash(x.name))) // a name that one of the patterns allows
	if err != nil {
		return httpError{http.StatusNotFound, fmt.Sprintf("Cannot open '%s': %v", x.name, err)}
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	x.header("Content-Length", strconv.FormatInt(info.Size(), 10))
	x.header("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
	x.header("Content-Type", contentType)
	x.endHeader()
	if os.Getenv("REQUEST_METHOD") == http.MethodHead {
		return nil
	}
	_, err = io.Copy(x.out, f)
	return err
}

func (x *exchange) infoPacks() error {
	if err := x.mayGetFiles(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(escapeGlob(x.repo.objectsDir()), "pack", "pack-*.pack"))
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, name := range names {
		b.WriteString("P " + filepath.Base(name) + "\n")
	}
	b.WriteByte('\n')
	return x.sendText(b.String())
}

func (x *exchange) sendText(text string) error {
	x.noCache()
	x.header("Content-Type", "text/plain; charset=utf-8")
	x.header("Content-Length", strconv.Itoa(len(text)))
	x.endHeader()
	_, err := x.out.WriteString(text)
	return err
}

// service is how this request came.
func (x *exchange) service() Service {
	version, ok := os.LookupEnv("GIT_PROTOCOL")
	if !ok {
		version = os.Getenv("HTTP_GIT_PROTOCOL")
	}
	return Service{Protocol: version, Stateless: true, Agent: x.Agent}
}

func (x *exchange) infoRefs() error {
	name := ""
	for pair := range strings.SplitSeq(os.Getenv("QUERY_STRING"), "&") {
		if v, ok := strings.CutPrefix(pair, "service="); ok {
			name = v
		}
	}
	if name == "" {
		return x.dumbRefs()
	}
	if err := x.allowed(name); err != nil {
		return err
	}
	x.noCache()
	x.header("Content-Type", "application/x-"+name+"-advertisement")
	x.endHeader()
	if name == "git-upload-pack" {
		return x.repo.AdvertiseUpload(x.ctx, x.out, true, x.service())
	}
	return x.repo.AdvertiseReceive(x.ctx, x.out, true, x.service())
}

func (x *exchange) dumbRefs() error {
	if err := x.mayGetFiles(); err != nil {
		return err
	}
	st, err := x.repo.load(x.ctx, Service{})
	if err != nil {
		return err
	}
	defer st.close()
	var b strings.Builder
	for _, ref := range st.view.Refs.List() {
		fmt.Fprintf(&b, "%s\t%s\n", ref.OID, ref.Name)
		if !ref.Peeled.IsZero() {
			fmt.Fprintf(&b, "%s\t%s^{}\n", ref.Peeled, ref.Name)
		}
	}
	return x.sendText(b.String())
}

func (x *exchange) post() error {
	if err := x.allowed(x.name); err != nil {
		return err
	}
	if want, got := "application/x-"+x.name+"-request", os.Getenv("CONTENT_TYPE"); got != want {
		x.status(http.StatusUnsupportedMediaType)
		x.endHeader()
		_, _ = fmt.Fprintf(x.out, "Expected POST with Content-Type '%s', but received '%s' instead.\n", want, got)
		return nil
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	x.noCache()
	x.header("Content-Type", "application/x-"+x.name+"-result")
	x.endHeader()
	if x.name == "git-upload-pack" {
		return x.repo.UploadPack(x.ctx, body, flusher{x.out}, x.service())
	}
	user, host := os.Getenv("REMOTE_USER"), os.Getenv("REMOTE_ADDR")
	if user == "" {
		user = "anonymous"
	}
	if host == "" {
		host = "(none)"
	}
	for name, value := range map[string]string{"GIT_COMMITTER_NAME": user, "GIT_COMMITTER_EMAIL": user + "@http." + host} {
		if _, said := os.LookupEnv(name); !said {
			if err := os.Setenv(name, value); err != nil { // hooks see it too
				return err
			}
		}
	}
	return x.repo.ReceivePack(x.ctx, body, flusher{x.out}, x.Err, x.service())
}

// body is the request's body: up to its length, inflated.
func (x *exchange) body() (io.Reader, error) {
	body := x.In
	if v := os.Getenv("CONTENT_LENGTH"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("failed to parse CONTENT_LENGTH: %s: %w", v, errkind.Invalid)
		}
		body = &exactReader{r: body, left: n}
	}
	if first := bufio.NewReader(body); true {
		if _, err := first.Peek(1); err != nil {
			return nil, fmt.Errorf("the remote end hung up unexpectedly: %w", errkind.Invalid)
		}
		body = first
	}
	switch os.Getenv("HTTP_CONTENT_ENCODING") {
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("request ended in the middle of the gzip stream: %w", err)
		}
		return z, nil
	}
	return body, nil
}

// exactReader reads as many bytes as were announced; fewer are an error.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// flusher lets the engine say when somebody may be waiting.
type flusher struct{ *bufio.Writer }

// Flush passes on what is buffered.
func (f flusher) Flush() { _ = f.Writer.Flush() } // the last one has the error
