package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/sshd"
)

// sshPart is what a node has of SSH; the zero one is nothing.
type sshPart struct {
	listener net.Listener
	server   *sshd.Server
	keys     []ssh.Signer
	host     string // for users; "": that of the other address
	port     int    // 0: there is no SSH
}

// listenSSH opens the host keys and listens. Connections wait until Run.
func (n *Node) listenSSH(ctx context.Context) (err error) {
	if n.opts.SSHAddr == "" {
		return nil
	}
	p := &n.ssh
	if p.keys, err = sshd.OpenHostKeys(n.opts.DataDir); err != nil {
		return err
	}
	var lc net.ListenConfig
	if p.listener, err = lc.Listen(ctx, "tcp", n.opts.SSHAddr); err != nil {
		return fmt.Errorf("listen for SSH (another address, or off, is for --ssh to say): %w", err)
	}
	at, err := netip.ParseAddrPort(p.listener.Addr().String())
	if err != nil {
		return fmt.Errorf("listen for SSH: %w", err)
	}
	p.port = int(at.Port())
	if n.opts.SSHPublic == "" {
		return nil
	}
	p.host = n.opts.SSHPublic
	host, port, err := net.SplitHostPort(n.opts.SSHPublic)
	if err != nil { // no port, or an IPv6 address
		p.port = sshPort
		p.host = strings.Trim(p.host, "[]")
		return checkHost(p.host)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return fmt.Errorf("public address for SSH: %q is no port: %w", port, errkind.Invalid)
	}
	p.host, p.port = host, int(number)
	return checkHost(host)
}

// sshPort is the port that an address without one means.
const sshPort = 22

func checkHost(host string) error {
	if host == "" || strings.ContainsAny(host, "/@ []") {
		return fmt.Errorf("public address for SSH: %q is no HOST or HOST:PORT: %w", host, errkind.Invalid)
	}
	return nil
}

func (n *Node) makeSSH() {
	if n.ssh.listener != nil {
		n.ssh.server = sshd.New(n.server, sshd.Options{
			Log: n.opts.Log, HostKeys: n.ssh.keys, Proxies: n.opts.Proxies, DrainTimeout: n.opts.DrainTimeout,
		})
	}
}

func (p *sshPart) collectors() []prometheus.Collector {
	if p.server == nil {
		return nil
	}
	return p.server.Collectors()
}

// SSHAddr is where the node listens for SSH; nil: nowhere.
func (n *Node) SSHAddr() net.Addr {
	if n.ssh.listener == nil {
		return nil
	}
	return n.ssh.listener.Addr()
}

// HostKey is a key by which clients know the server.
type HostKey struct{ Kind, Fingerprint string }

// HostKeys are the SSH server's; none: there is no such server.
func (n *Node) HostKeys() (out []HostKey) {
	for _, k := range n.ssh.keys {
		out = append(out, HostKey{k.PublicKey().Type(), ssh.FingerprintSHA256(k.PublicKey())})
	}
	return out
}
