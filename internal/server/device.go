package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
)

// The device flow (RFC 8628): a terminal asks for a code, its person confirms it in a browser, and the terminal gets a token. This
// server is the authorisation server, so that it works with any provider.

// deviceInterval is how often a terminal may ask whether somebody has answered.
const deviceInterval = 3 * time.Second

// devicePolls leaves room for clocks and networks that are not exact.
var devicePolls = limit.Quota{Events: 1, Per: deviceInterval - time.Second}

// deviceGuesses is how many codes a person may try. It holds for everybody, from wherever, whatever --rate-exempt says: who
// guesses another's code would give that terminal an own token to work with.
var deviceGuesses = limit.Quota{Events: 20, Per: 10 * time.Minute}

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

var errCode = denial{errkind.NotFound, "no terminal waits with this code: look at it again. A code is good for ten minutes, and once"}

// beginDevice gives a terminal a code.
func (s *Server) beginDevice(c *call, r *http.Request) error {
	if err := s.rates.take(c, rateLogin, c.addressKey()); err != nil {
		return err
	}
	f, err := form(r)
	if err != nil {
		return err
	}
	ask := control.Device{Name: f.Get("device_name"), Address: c.peerText(), Scope: policy.Scope(f.Get("scope"))}
	if ask.Scope == "" {
		ask.Scope = policy.ScopeWrite
	}
	d, secret, err := s.control.BeginDevice(r.Context(), ask)
	if err != nil {
		return err
	}
	at := strings.TrimSuffix(s.publicURL(c, r), "/") + devicePath
	writeJSON(c, http.StatusOK, client.DeviceCode{
		DeviceCode: secret, UserCode: d.Code, VerificationURI: at, VerificationURIComplete: at + "?user_code=" + d.Code,
		ExpiresIn: int(control.DeviceLife / time.Second), Interval: int(deviceInterval / time.Second),
	})
	return nil
}

// collectDevice gives a terminal its token, or says why not in the words of RFC 8628 section 3.5.
func (s *Server) collectDevice(c *call, r *http.Request) error {
	f, err := form(r)
	if err != nil {
		return err
	}
	if f.Get("grant_type") != deviceGrant {
		s.deviceFailure(c, http.StatusBadRequest, "unsupported_grant_type", "grant_type is not "+deviceGrant)
		return nil
	}
	h, ok := auth.SessionHash(f.Get("device_code"))
	if !ok {
		s.deviceFailure(c, http.StatusBadRequest, "expired_token", control.ErrDeviceLate.Error())
		return nil
	}
	if !s.polls.Take(limit.KeyOf(h)).Allowed {
		s.deviceFailure(c, http.StatusBadRequest, "slow_down", fmt.Sprintf("ask every %d s at most", int(deviceInterval/time.Second)))
		return nil
	}
	t, secret, err := s.control.CollectDevice(r.Context(), h, s.opts.TokenTTL)
	for _, known := range [...]struct {
		err  error
		word string
	}{{control.ErrDeviceWaits, "authorization_pending"}, {control.ErrDeviceDenied, "access_denied"}, {control.ErrDeviceLate, "expired_token"}} {
		if errors.Is(err, known.err) {
			s.deviceFailure(c, http.StatusBadRequest, known.word, problem.Explain(known.err))
			return nil
		}
	}
	if err != nil {
		return err
	}
	writeJSON(c, http.StatusOK, client.DeviceToken{
		AccessToken: secret, TokenType: "Bearer", ExpiresIn: int(s.opts.TokenTTL / time.Second), Scope: string(t.Scope),
	})
	return nil
}

// deviceFailure tells a terminal what is wrong, as RFC 6749 section 5.2 wants it.
func (s *Server) deviceFailure(c *call, status int, word, text string) {
	writeJSON(c, status, client.DeviceError{Code: word, Description: text})
}

func writeJSON(c *call, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("bug: an answer does not encode: " + err.Error())
	}
	h := c.w.Header()
	h["Content-Type"], h["Cache-Control"] = []string{"application/json"}, noStore
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(b, '\n')) // the client may be gone
}

// confirmDevice shows a person what terminal asks, or asks for its code.
func (s *Server) confirmDevice(c *call, r *http.Request) error {
	typed := r.URL.Query().Get("user_code")
	if c.principal.Session == "" {
		back := devicePath
		if code, err := control.ParseUserCode(typed); err == nil {
			back += "?user_code=" + code
		}
		redirect(c, loginPath+"?to="+url.QueryEscape(back))
		return nil
	}
	if typed == "" {
		s.show(c, r, http.StatusOK, "code", page{Title: "Log a terminal in"})
		return nil
	}
	d, err := s.guessDevice(c, r, typed)
	if errors.Is(err, errCode) {
		s.show(c, r, http.StatusNotFound, "code", page{Title: "Log a terminal in", Bad: true, Note: sentence(errCode.text)})
		return nil
	}
	if err != nil {
		return err
	}
	s.show(c, r, http.StatusOK, "confirm", page{Title: "Log this terminal in as you?", Device: d, Power: powers[d.Scope], Life: days(s.opts.TokenTTL)})
	return nil
}

// powers say what a scope means.
var powers = map[policy.Scope]string{
	policy.ScopeRead:  "it can read what you can read",
	policy.ScopeWrite: "it can read and push as you",
	policy.ScopeAdmin: "it can do everything that you can, also make tokens and keys",
}

// guessDevice finds a terminal by what a person typed, and counts that.
func (s *Server) guessDevice(c *call, r *http.Request, typed string) (control.Device, error) {
	if v := s.guesses.Take(limit.KeyOf(c.principal.ID)); !v.Allowed {
		return control.Device{}, denial{errkind.RateLimited, fmt.Sprintf("too many codes: try again in %d minutes", int(v.Retry.Minutes())+1)}
	}
	code, err := control.ParseUserCode(typed)
	if err != nil {
		return control.Device{}, errCode
	}
	d, err := s.control.DeviceByCode(r.Context(), code)
	if errkind.Of(err) == errkind.NotFound && err != nil {
		return control.Device{}, errCode
	}
	return d, err
}

// answerDevice takes a person's yes or no.
func (s *Server) answerDevice(c *call, r *http.Request) error {
	if c.principal.Session == "" {
		redirect(c, loginPath+"?to="+url.QueryEscape(devicePath))
		return nil
	}
	f, err := form(r)
	if err != nil {
		return err
	}
	answer := f.Get("answer")
	if answer != "allow" && answer != "deny" {
		return denial{errkind.Invalid, "the answer is neither allow nor deny"}
	}
	d, err := s.guessDevice(c, r, f.Get("user_code"))
	if err != nil {
		return err
	}
	if err := s.control.AnswerDevice(r.Context(), d.Code, c.principal.ID, answer == "allow"); err != nil {
		if errkind.Of(err) == errkind.NotFound {
			return errCode
		}
		return err
	}
	p := page{Title: "Denied", Note: "The terminal gets nothing. If you did not start it, somebody tried to get your access."}
	if answer == "allow" {
		p = page{Title: "Your terminal is logged in", Note: "It takes a few seconds to notice. You can close this page."}
	}
	s.show(c, r, http.StatusOK, "done", p)
	return nil
}

// days says a time for people.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}
