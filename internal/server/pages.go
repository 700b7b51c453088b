package server

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"strconv"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/login"
	"github.com/skep-dev/skep/internal/problem"
)

// The pages for people: plain HTML and one style sheet, which work without JavaScript.
//
//go:embed pages
var pageFiles embed.FS

var pageTemplates = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

var pageStyle = func() []byte {
	b, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		panic("bug: " + err.Error())
	}
	return b
}()

// What a page may: show the style sheet, and send forms to this server. Nothing on it runs, and nobody frames it.
var (
	pageContent = []string{"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}
	// same-origin, not no-referrer: with that a browser calls the origin of a form null.
	pageReferrer = []string{"same-origin"}
	htmlText     = []string{"text/html; charset=utf-8"}
	cssText      = []string{"text/css; charset=utf-8"}
	cacheHour    = []string{"public, max-age=3600"}
)

// page is what the templates show.
type page struct {
	Title string
	Note  string
	Bad   bool
	Host  string
	Who   string // is logged in

	Providers       []*login.Provider
	To              string
	Device          control.Device
	Power, Life     string // of the token that a terminal asks for
	Issuer, Subject string // each as one word of a shell's command line
	Request         string
}

// show answers with a page.
func (s *Server) show(c *call, r *http.Request, status int, name string, p page) {
	p.Host, p.Who = r.Host, c.principal.Name
	var b bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&b, name, p); err != nil {
		panic("bug: page " + name + ": " + err.Error())
	}
	h := c.w.Header()
	h["Content-Type"], h["Content-Security-Policy"] = htmlText, pageContent
	h["Referrer-Policy"], h["Cache-Control"] = pageReferrer, noStore
	h["Content-Length"] = []string{strconv.Itoa(b.Len())}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(b.Bytes()) // the client may be gone
}

// showFailure answers with a page that says what went wrong, and what to do.
func (s *Server) showFailure(c *call, r *http.Request, status int, err error) {
	p := page{Title: "That did not work", Bad: true, Note: sentence(problem.Explain(err))}
	if d := (denial{}); !errors.As(err, &d) {
		p.Request = c.id
	}
	s.show(c, r, status, "failed", p)
}

// sentence makes one of an error's text.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if c := s[0]; 'a' <= c && c <= 'z' {
		s = string(c-'a'+'A') + s[1:]
	}
	return s + "."
}

// redirect sends a browser on, with GET.
func redirect(c *call, to string) {
	h := c.w.Header()
	h["Location"], h["Cache-Control"], h["Referrer-Policy"] = []string{to}, noStore, []string{"no-referrer"}
	c.w.WriteHeader(http.StatusSeeOther)
}
