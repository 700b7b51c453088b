package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestACME gets a certificate from a real authority, Pebble, which checks that the server answers for its name; git trusts it;
// and after a restart it is still there, with the authority gone.
func TestACME(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gitconfig"), []byte(gitConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	const name = "git.skep.test"
	at := func(port string) string { return "127.0.0.1:" + port }
	skepPort, caPort, rootsPort, dnsPort := freePort(t), freePort(t), freePort(t), freePort(t)

	// The authority: a name server that has 127.0.0.1 for every name, and Pebble with a certificate of its own.
	cert := selfSigned(t, dir)
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": at(caPort), "managementListenAddress": at(rootsPort),
		"certificate": filepath.Join(dir, "ca-cert.pem"), "privateKey": filepath.Join(dir, "ca-key.pem"),
		"tlsPort": json.Number(skepPort),
	}}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pebble.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	tools := buildTools(t, "pebble", "pebble-challtestsrv")
	background(t, nil, filepath.Join(tools, "pebble-challtestsrv"), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", at(dnsPort),
		"-management", at(freePort(t)), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	stopCA := background(t, []string{"PEBBLE_VA_NOSLEEP=1"}, filepath.Join(tools, "pebble"), "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", at(dnsPort))
	rootFile := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(rootFile, fetchRoot(t, cert, "https://"+at(rootsPort)+"/roots/0"), 0o600); err != nil {
		t.Fatal(err)
	}

	env := append(environment(dir), "SSL_CERT_FILE="+filepath.Join(dir, "ca-cert.pem"))
	serve := func() (stop func()) {
		return background(t, env, binary, "serve", "--data", filepath.Join(dir, "data"), "--http", at(skepPort), "--ssh", "off",
			"--acme-domain", name, "--acme-directory", "https://"+at(caPort)+"/dir")
	}
	stop := serve()
	roots := x509.NewCertPool()
	pemRoot, err := os.ReadFile(rootFile)
	if err != nil || !roots.AppendCertsFromPEM(pemRoot) {
		t.Fatalf("the authority's root: %v", err)
	}
	first := shakeHands(t, at(skepPort), &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12})

	token, err := (&server{dir: filepath.Join(dir, "data")}).adminToken()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "http.curloptResolve=" + name + ":" + skepPort + ":127.0.0.1"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(slices.Clone(env), "GIT_SSL_CAINFO="+rootFile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
	remote := "https://any:" + token + "@" + name + ":" + skepPort + "/default/demo.git"
	run("init", "-q", "demo")
	run("-C", "demo", "commit", "-q", "--allow-empty", "-m", "first")
	run("-C", "demo", "push", "-q", remote, "main")
	run("clone", "-q", remote, "copy")

	stop()
	stopCA()
	serve()
	again := shakeHands(t, at(skepPort), &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12})
	if first.SerialNumber.Cmp(again.SerialNumber) != 0 {
		t.Error("after a restart there is another certificate")
	}
}

// buildTools builds programs of Pebble's from the modules of the development tools.
func buildTools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools/go.mod", "-o", filepath.Join(dir, name), "github.com/letsencrypt/pebble/v2/cmd/"+name)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// background runs a program until the test, or stop, ends it.
func background(t *testing.T, env []string, program string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), out)
		}
	}
	t.Cleanup(stop)
	return stop
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := strings.Cut(ln.Addr().String(), ":")
	return port
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"ca-cert.pem": {Type: "CERTIFICATE", Bytes: der}, "ca-key.pem": {Type: "EC PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// patience is for programs that start, and for a certificate that is being made.
const patience = 30 * time.Second

// fetchRoot asks Pebble for its root, which it makes when it starts.
func fetchRoot(t *testing.T, trust *x509.Certificate, url string) []byte {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(trust)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	defer c.CloseIdleConnections()
	var err error
	for late := time.Now().Add(patience); time.Now().Before(late); {
		var resp *http.Response
		if resp, err = c.Get(url); err == nil {
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("the authority's root: %s %v", resp.Status, err)
			}
			return b
		}
	}
	t.Fatalf("the authority does not answer: %v", err)
	return nil
}

// shakeHands connects until the server has a certificate that config trusts.
func shakeHands(t *testing.T, addr string, config *tls.Config) *x509.Certificate {
	t.Helper()
	err := fmt.Errorf("never tried")
	for late := time.Now().Add(patience); time.Now().Before(late); {
		var c *tls.Conn
		if c, err = tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, config); err == nil {
			defer c.Close()
			return c.ConnectionState().PeerCertificates[0]
		}
	}
	t.Fatalf("no certificate: %v", err)
	return nil
}
