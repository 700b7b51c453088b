package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// The PROXY protocol (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt): a header before all that a connection
// carries, as text (version 1) or binary (version 2).
const (
	signature1  = "PROXY "
	signature2  = "\r\n\r\n\x00\r\nQUIT\n"
	maxHeader1  = 107
	maxHeader2  = 2048            // of addresses and additions; those that exist take some hundred bytes
	headerLimit = 5 * time.Second // in which the header must have come: proxies send it at once
)

// Listen makes a listener whose connections are those of the clients behind trusted proxies. Without Protocol it is ln.
// A trusted proxy must send the header; from others one is not expected, and not understood.
func (p Proxies) Listen(ln net.Listener) net.Listener {
	if !p.Protocol {
		return ln
	}
	return &listener{ln, p}
}

type listener struct {
	net.Listener
	proxies Proxies
}

// Accept does not wait for the header: that is for whoever uses the connection.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // net/http looks at it
	}
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !l.proxies.Trusts(a.AddrPort().Addr()) {
		return c, nil
	}
	return &conn{Conn: c}, nil
}

// conn reads the header when somebody first wants to know who is there, or what was sent.
type conn struct {
	net.Conn
	once   sync.Once
	client net.Addr // nil: the proxy itself
	err    error
}

func (c *conn) header() {
	if c.err = c.SetReadDeadline(time.Now().Add(headerLimit)); c.err != nil {
		return
	}
	var from netip.AddrPort
	if from, c.err = ReadProxyHeader(c.Conn); c.err != nil {
		return
	}
	if from.IsValid() {
		c.client = net.TCPAddrFromAddrPort(from)
	}
	c.err = c.SetReadDeadline(time.Time{})
}

// RemoteAddr is the client's address.
func (c *conn) RemoteAddr() net.Addr {
	if c.once.Do(c.header); c.client != nil {
		return c.client
	}
	return c.Conn.RemoteAddr()
}

// Read reads what comes after the header.
func (c *conn) Read(b []byte) (int, error) {
	if c.once.Do(c.header); c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}

// CloseWrite lets net/http end its side first.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

var errNoHeader = fmt.Errorf("connection of a trusted proxy does not begin with the PROXY protocol: %w", errkind.Invalid)

// ReadProxyHeader reads a header and nothing of what comes after it. An invalid AddrPort without an error means that the
// proxy speaks for itself, or does not know for whom.
func ReadProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var head [16]byte
	n, err := io.ReadFull(r, head[:len(signature2)]) // version 1 is longer than that as well
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", noEOF(err))
	}
	switch {
	case string(head[:n]) == signature2:
		return readBinary(r, head[:])
	case strings.HasPrefix(string(head[:n]), signature1):
		return readText(r, head[:n])
	}
	return netip.AddrPort{}, errNoHeader
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readText reads the rest of PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n, byte by byte so as not to read too far.
func readText(r io.Reader, line []byte) (netip.AddrPort, error) {
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxHeader1 {
			return netip.AddrPort{}, fmt.Errorf("read PROXY header: longer than %d bytes: %w", maxHeader1, errkind.Invalid)
		}
		line = append(line, 0)
		if _, err := io.ReadFull(r, line[len(line)-1:]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", noEOF(err))
		}
	}
	parts := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if len(parts) >= 2 && parts[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(parts) == 6 && (parts[1] == "TCP4" || parts[1] == "TCP6") {
		from, ok1 := textAddr(parts[1], parts[2], parts[4])
		_, ok2 := textAddr(parts[1], parts[3], parts[5])
		if ok1 && ok2 {
			return from, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("read PROXY header: %q is not of version 1: %w", line, errkind.Invalid)
}

func textAddr(family, addr, port string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port != strconv.FormatUint(n, 10) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

// Version 2's fields.
const (
	version2    = 2
	commandSelf = 0 // the proxy's own connection, as a health check is
	commandFor  = 1
	streamIPv4  = 0x11
	streamIPv6  = 0x21
)

func readBinary(r io.Reader, head []byte) (from netip.AddrPort, err error) {
	rest := head[len(signature2):]
	if _, err := io.ReadFull(r, rest); err != nil {
		return from, fmt.Errorf("read PROXY header: %w", noEOF(err))
	}
	size := binary.BigEndian.Uint16(rest[2:])
	command := rest[0] & 15
	if rest[0]>>4 != version2 || command > commandFor || size > maxHeader2 {
		return from, fmt.Errorf("read PROXY header: version %d, command %d, %d bytes: %w", rest[0]>>4, command, size, errkind.Invalid)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return from, fmt.Errorf("read PROXY header: %w", noEOF(err))
	}
	if command == commandSelf {
		return from, nil
	}
	var addr int // bytes of an address
	switch rest[1] {
	case streamIPv4:
		addr = 4
	case streamIPv6:
		addr = 16
	default:
		return from, nil // a kind of connection that we do not accept ourselves: the header is skipped, as it says
	}
	if len(body) < 2*addr+4 {
		return from, fmt.Errorf("read PROXY header: %d bytes are no two addresses: %w", size, errkind.Invalid)
	}
	a, _ := netip.AddrFromSlice(body[:addr])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(body[2*addr:])), nil
}
