package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/login"
)

const (
	// ticketLife is how long somebody may take at the provider.
	ticketLife = 10 * time.Minute
	// maxForm bounds what a form sends: a code and an answer.
	maxForm = 4 << 10

	loginPath  = "/login"
	donePath   = "/login/done"
	devicePath = "/login/device"
)

var (
	errNoLogin    = denial{errkind.NotFound, "this server has no login for people: use a token, or ask its operator to name an OpenID Connect provider"}
	errNoPage     = denial{errkind.NotFound, "there is no such page"}
	errNoProvider = denial{errkind.NotFound, "there is no such provider"}
	errNoTicket   = denial{errkind.Invalid, "this login was not begun in this browser, or took longer than ten minutes, or is done already"}
	errProvider   = denial{errkind.Unavailable, "the login provider does not answer: try again in a while"}
)

// serveLogin serves the pages by which people log in, and the terminals that wait for them.
func (s *Server) serveLogin(c *call, r *http.Request) {
	path := r.URL.Path
	c.route = routeLogin
	if path == devicePath+"/code" || path == devicePath+"/token" {
		c.route = routeDevice
	}
	if path == "/login/style.css" {
		h := c.w.Header()
		h["Content-Type"], h["Cache-Control"] = cssText, cacheHour
		_, _ = c.w.Write(pageStyle) // the client may be gone
		return
	}
	if err := s.beforeLogin(c, r); err != nil {
		s.refuse(c, r, err)
		return
	}
	c.body.limit = maxForm
	c.body.ahead()
	err := s.enter(c, r, s.calls, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		return s.loginPage(c, r.WithContext(audit.With(ctx, c.origin())))
	})
	if err != nil {
		s.refuse(c, r, err)
	}
}

func (s *Server) beforeLogin(c *call, r *http.Request) error {
	switch {
	case len(s.opts.Logins) == 0:
		return errNoLogin
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
		return denial{errkind.Unsupported, "this page has no such method"}
	case s.sites.own.Check(r) != nil:
		return errCrossOrigin
	}
	return s.mayLogin(c, r)
}

// loginPage finds the page.
func (s *Server) loginPage(c *call, r *http.Request) error {
	path := r.URL.Path
	if r.Method == http.MethodPost {
		switch path {
		case "/logout":
			return s.logout(c, r)
		case devicePath:
			return s.answerDevice(c, r)
		case devicePath + "/code":
			return s.beginDevice(c, r)
		case devicePath + "/token":
			return s.collectDevice(c, r)
		}
		return errNoPage
	}
	switch path {
	case loginPath:
		s.chooseProvider(c, r)
		return nil
	case donePath:
		return s.loginDone(c, r)
	case devicePath:
		return s.confirmDevice(c, r)
	}
	if provider, ok := strings.CutPrefix(path, "/login/start/"); ok {
		return s.startLogin(c, r, provider)
	}
	if provider, ok := strings.CutPrefix(path, "/login/callback/"); ok {
		return s.finishLogin(c, r, provider)
	}
	return errNoPage
}

func (s *Server) chooseProvider(c *call, r *http.Request) {
	if c.principal.Session != "" {
		redirect(c, donePath)
		return
	}
	p := page{Title: "Log in", Providers: s.opts.Logins, To: login.LocalPath(r.URL.Query().Get("to"))}
	if strings.HasPrefix(p.To, devicePath) {
		p.Note = "Log in first; then you confirm what your terminal asks."
	}
	s.show(c, r, http.StatusOK, "choose", p)
}

func (s *Server) loginDone(c *call, r *http.Request) error {
	if c.principal.Session == "" {
		redirect(c, loginPath)
		return nil
	}
	s.show(c, r, http.StatusOK, "done", page{Title: "You are logged in", Note: "You can close this page, or use the API of this server in this browser."})
	return nil
}

func (s *Server) provider(id string) (*login.Provider, error) {
	for _, p := range s.opts.Logins {
		if p.ID() == id {
			return p, nil
		}
	}
	return nil, errNoProvider
}

// callback is where a provider sends browsers back to. Each has its own, so that none can give out another's answers as its own
// (RFC 9700 section 4.4).
func (s *Server) callback(c *call, r *http.Request, p *login.Provider) string {
	return strings.TrimSuffix(s.publicURL(c, r), "/") + "/login/callback/" + p.ID()
}

// journey is what a browser keeps while its person is at the provider.
type journey struct {
	login.Ticket
	Provider string `json:"p"`
	To       string `json:"t"`
	Began    int64  `json:"b"` // seconds since 1970
}

// startLogin sends the browser to a provider.
func (s *Server) startLogin(c *call, r *http.Request, id string) error {
	if err := s.rates.take(c, rateLogin, c.addressKey()); err != nil {
		return err
	}
	p, err := s.provider(id)
	if err != nil {
		return err
	}
	to, ticket, err := p.Begin(r.Context(), s.callback(c, r, p))
	if err != nil {
		s.log.WarnContext(r.Context(), "login provider cannot be used", "request_id", c.id, "provider", p.ID(), "error", err)
		return errProvider
	}
	text, err := json.Marshal(journey{ticket, p.ID(), login.LocalPath(r.URL.Query().Get("to")), time.Now().Unix()})
	if err != nil {
		panic("bug: a journey does not encode: " + err.Error())
	}
	s.setCookie(c, ticketCookie, base64.RawURLEncoding.EncodeToString(text), ticketLife)
	redirect(c, to)
	return nil
}

// finishLogin takes a browser back, finds its person's principal, and begins a session.
func (s *Server) finishLogin(c *call, r *http.Request, id string) error {
	if err := s.rates.take(c, rateLogin, c.addressKey()); err != nil {
		return err
	}
	p, err := s.provider(id)
	if err != nil {
		return err
	}
	j, ok := readJourney(s.cookie(c, r, ticketCookie), time.Now())
	s.setCookie(c, ticketCookie, "", 0) // good for one answer, whatever it is
	if !ok || j.Provider != p.ID() {
		return errNoTicket
	}
	who, err := p.Finish(r.Context(), j.Ticket, s.callback(c, r, p), r.URL.Query())
	if err != nil {
		s.log.InfoContext(r.Context(), "login refused", "request_id", c.id, "provider", p.ID(), "error", err)
		if errkind.Of(err) == errkind.Unavailable {
			return errProvider
		}
		return err
	}
	name := ""
	if p.Create() {
		name = who.Name
	}
	principal, err := s.control.Login(r.Context(), who.Issuer, who.Subject, name)
	if err != nil {
		return s.unlinked(c, r, who, err)
	}
	if c.principal.Session != "" {
		if err := s.control.RevokeSession(r.Context(), c.principal.Session); err != nil && errkind.Of(err) != errkind.NotFound {
			return err
		}
	}
	_, secret, err := s.control.CreateSession(r.Context(), control.Session{Principal: principal.ID, Address: c.peerText(), Agent: r.UserAgent()})
	if err != nil {
		return err
	}
	s.setCookie(c, sessionCookie, secret, control.SessionLife)
	if j.To == "/" {
		j.To = donePath
	}
	redirect(c, j.To)
	return nil
}

// peerText is the caller's address for people.
func (c *call) peerText() string {
	if !c.peer.IsValid() {
		return ""
	}
	return c.peer.String()
}

func readJourney(cookie string, now time.Time) (j journey, ok bool) {
	text, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil || json.Unmarshal(text, &j) != nil {
		return journey{}, false
	}
	j.To = login.LocalPath(j.To)
	age := now.Sub(time.Unix(j.Began, 0))
	return j, age >= 0 && age < ticketLife
}

// unlinked tells somebody whom the provider knows, but this server does not, what to do.
func (s *Server) unlinked(c *call, r *http.Request, who login.Person, err error) error {
	p := page{Title: "Not known here yet", Issuer: shellWord(who.Issuer), Subject: shellWord(who.Subject)}
	switch kind := errkind.Of(err); {
	case errors.Is(err, control.ErrUnlinked):
		p.Note = "The provider knows you, but this server does not."
	case kind == errkind.Exists:
		p.Note = "The provider calls you " + who.Name + ". Somebody here has that name already, or had it, and this server does not take your word that it is you."
	case kind == errkind.Invalid:
		p.Note = "The provider calls you by a name that nobody can have here."
	default:
		return err
	}
	s.show(c, r, http.StatusForbidden, "unlinked", p)
	return nil
}

// shellWord makes s one word of a shell's command line: an administrator will paste it.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// logout ends the browser's session.
func (s *Server) logout(c *call, r *http.Request) error {
	if c.principal.Session != "" {
		if err := s.control.RevokeSession(r.Context(), c.principal.Session); err != nil && errkind.Of(err) != errkind.NotFound {
			return err
		}
	}
	c.principal.Name = ""
	s.setCookie(c, sessionCookie, "", 0)
	s.show(c, r, http.StatusOK, "done", page{Title: "You are logged out", Note: "The session of this browser is over. At the provider you may still be logged in."})
	return nil
}

// form reads what a form or a terminal has sent.
func form(r *http.Request) (url.Values, error) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/x-www-form-urlencoded" {
		return nil, denial{errkind.Invalid, "the content type is not application/x-www-form-urlencoded"}
	}
	if r.Body == nil {
		return url.Values{}, nil
	}
	if err := r.ParseForm(); err != nil {
		if errors.Is(err, errkind.TooLarge) {
			return nil, err //nolint:wrapcheck // it is body's
		}
		return nil, denial{errkind.Invalid, "the form cannot be read"}
	}
	return r.PostForm, nil
}
