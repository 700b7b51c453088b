package outbound

import (
	"net/netip"
	"syscall"
)

// rawConn is what a dialer shows of a connection before it connects. Nothing is done with it.
type rawConn = syscall.RawConn

// guard judges the addresses that are about to be connected to.
type guard struct {
	allow   []netip.Prefix
	setting string // by which operators allow networks
}

func (g guard) notPublic() error {
	return refusal("its address is not public: the operator may allow its network with " + g.setting)
}

func (g guard) notSecure() error {
	return refusal("it must be asked over https: plain http is for networks that the operator allows with " + g.setting)
}

// controlTLS is for connections with TLS.
func (g guard) controlTLS(network, address string) error {
	a, err := g.parse(network, address)
	if err != nil || g.allowed(a) || public(a) {
		return err
	}
	return g.notPublic()
}

// controlPlain is for those without.
func (g guard) controlPlain(network, address string) error {
	a, err := g.parse(network, address)
	switch {
	case err != nil || g.allowed(a):
		return err
	case public(a):
		return g.notSecure()
	}
	return g.notPublic()
}

// parse reads the address that a socket gets: the dialer has resolved it.
func (g guard) parse(network, address string) (netip.Addr, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return netip.Addr{}, g.notPublic()
	}
	a := at.Addr().Unmap() // ::ffff:127.0.0.1 is 127.0.0.1
	if a.Zone() != "" {
		return netip.Addr{}, g.notPublic() // of a link
	}
	return a, nil
}

func (g guard) allowed(a netip.Addr) bool {
	for _, p := range g.allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// special are the IPv4 networks that are not the public Internet
// (https://www.iana.org/assignments/iana-ipv4-special-registry/, and multicast). The metadata services of clouds are in
// 169.254.0.0/16 and 100.64.0.0/10.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)

// unicast is all that IPv6 has given out (https://www.iana.org/assignments/ipv6-address-space/). Loopback, mapped addresses,
// NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), unique local, link-local and multicast addresses are outside.
var unicast = netip.MustParsePrefix("2000::/3")

// special6 are the networks in it that are special
// (https://www.iana.org/assignments/iana-ipv6-special-registry/): protocols' own with Teredo, examples, and 6to4, which has an
// IPv4 address in it.
var special6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

// public reports whether an address is one of the public Internet.
func public(a netip.Addr) bool {
	list := special
	if !a.Is4() {
		if !unicast.Contains(a) {
			return false
		}
		list = special6
	}
	for _, p := range list {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}
