// Package peer finds out who is behind the proxies through which a request or a connection comes.
//
//	proxies := peer.Proxies{Trusted: networks, Header: peer.XForwardedFor}
//	client, https := proxies.Client(remote, r.Header)
//	listener = proxies.Listen(listener)
//
// What a request says of itself counts only as far as it was said by a trusted proxy: of the addresses in a header, those
// that trusted proxies added stand last, and the first untrusted one from the end is the client. What stands before it is the
// client's own invention. Of the headers that exist for this, exactly one is read, since a proxy that writes one lets
// the others pass as they came. Where that cannot be understood, the client is nobody, the zero Addr: neither an address that
// it chose, nor the proxy's, which may be one that is let do more.
package peer

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Header is the header in which proxies say whom they speak for.
type Header string

// The headers that can be read.
const (
	XForwardedFor Header = "X-Forwarded-For"
	Forwarded     Header = "Forwarded" // RFC 7239
	None          Header = "none"      // the PROXY protocol says all
)

// ParseHeader reads a Header's name, in any case; "" is XForwardedFor.
func ParseHeader(s string) (Header, error) {
	for _, h := range []Header{XForwardedFor, Forwarded, None} {
		if strings.EqualFold(s, string(h)) {
			return h, nil
		}
	}
	if s == "" {
		return XForwardedFor, nil
	}
	return "", fmt.Errorf("header %q is none of %s, %s, %s: %w", s, XForwardedFor, Forwarded, None, errkind.Invalid)
}

// maxHops bounds how many proxies are looked through.
const maxHops = 32

// Proxies says which proxies are believed. The zero Proxies believes nobody.
type Proxies struct {
	Trusted  []netip.Prefix
	Header   Header // "": XForwardedFor
	Protocol bool   // trusted proxies begin each connection with the PROXY protocol
}

// Trusts reports whether an address is a trusted proxy's.
func (p Proxies) Trusts(a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(p.Trusted, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Client finds who made a request that came from remote, and whether it used HTTPS as far as a trusted proxy says. The zero
// Addr is somebody whom the proxies do not name.
func (p Proxies) Client(remote netip.Addr, h http.Header) (client netip.Addr, https bool) {
	if !p.Trusts(remote) {
		return remote, false
	}
	switch p.Header {
	case None:
		return remote, false
	case Forwarded:
		return p.forwarded(remote, h["Forwarded"])
	case XForwardedFor, "":
	}
	if proto := h["X-Forwarded-Proto"]; len(proto) > 0 {
		last := proto[len(proto)-1]
		last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
		https = strings.EqualFold(last, "https")
	}
	return p.walk(remote, backward(h["X-Forwarded-For"])), https
}

// backward yields what stands between the commas of a header's lines, the last first.
func backward(lines []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, line := range slices.Backward(lines) {
			for more := true; more; {
				i := strings.LastIndexByte(line, ',')
				if !yield(line[i+1:]) {
					return
				}
				if more = i >= 0; more {
					line = line[:i]
				}
			}
		}
	}
}

// walk goes from the connection's end towards the client, as long as it knows whom it hears.
func (p Proxies) walk(remote netip.Addr, hops func(yield func(string) bool)) netip.Addr {
	n := 0
	for hop := range hops {
		a, ok := parseAddr(strings.Trim(hop, " \t"))
		if n++; !ok || n > maxHops {
			return netip.Addr{}
		}
		if remote = a; !p.Trusts(a) {
			break
		}
	}
	return remote
}

// parseAddr reads an address as proxies write it: with or without a port, IPv6 with or without brackets.
func parseAddr(s string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if ok && !strings.Contains(inner, ":") {
			return netip.Addr{}, false
		}
		if ok {
			s = inner
		}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(s)
		a = ap.Addr()
	}
	return a.Unmap(), err == nil && a.Zone() == ""
}

// forwarded reads Forwarded (RFC 7239).
func (p Proxies) forwarded(remote netip.Addr, lines []string) (client netip.Addr, https bool) {
	if len(lines) == 0 {
		return remote, false
	}
	elements, ok := parseForwarded(strings.Join(lines, ","))
	if !ok {
		return netip.Addr{}, false
	}
	hops := func(yield func(string) bool) {
		for _, e := range slices.Backward(elements) {
			if !yield(e.by) {
				return
			}
		}
	}
	return p.walk(remote, hops), strings.EqualFold(elements[len(elements)-1].proto, "https")
}

// element is what one proxy said in Forwarded.
type element struct{ by, proto string }

// parseForwarded splits 1#( [ pair ] *( ";" [ pair ] ) ), with pair = token "=" ( token / quoted-string ).
func parseForwarded(s string) (elements []element, ok bool) {
	var e element
	for {
		s = strings.TrimLeft(s, " \t")
		if s != "" && s[0] != ',' && s[0] != ';' {
			name, rest, found := strings.Cut(s, "=")
			if !found || !isToken(name) {
				return nil, false
			}
			value, rest, found := cutValue(rest)
			if !found {
				return nil, false
			}
			switch strings.ToLower(name) {
			case "for":
				if e.by != "" {
					return nil, false // twice in one element
				}
				e.by = value
			case "proto":
				e.proto = value
			}
			s = strings.TrimLeft(rest, " \t")
		}
		switch {
		case s == "":
			return append(elements, e), true
		case s[0] == ',':
			elements, e = append(elements, e), element{}
		case s[0] != ';':
			return nil, false
		}
		s = s[1:]
	}
}

// cutValue cuts a token or a quoted string off the beginning of s.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, " \t,;")
		if end < 0 {
			end = len(s)
		}
		// Proxies write IPv4 addresses with a port unquoted, though a colon is not in a token.
		return s[:end], s[end:], end > 0 && isToken(strings.ReplaceAll(s[:end], ":", ""))
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

func isToken(s string) bool {
	const special = "!#$%&'*+-.^_`|~"
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(special, c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
