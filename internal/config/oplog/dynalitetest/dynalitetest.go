// Package dynalitetest gives tests a server with DynamoDB's protocol.
package dynalitetest

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// missing says how to get what these tests need; scripts/test says the same at its end.
const missing = "dynalite is not installed; with Node: scripts/dynalite"

// serve runs dynalite until its standard input ends, however this process does. It keeps everything in memory.
const serve = `const server = require(process.argv[1])({createTableMs: 0}).listen(0, "127.0.0.1", () => console.log(server.address().port))
process.stdin.on("end", () => process.exit()).resume()`

// New starts a server, which goes with the test, and returns its address. Without dynalite the test is left out; with SKEP_TEST_ALL=1 it
// fails.
func New(tb testing.TB) (endpoint string) {
	tb.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	dir := filepath.Join(cache, "skep", "dynalite", "node_modules", "dynalite")
	node, err := exec.LookPath("node")
	if _, statErr := os.Stat(dir); err != nil || statErr != nil {
		if os.Getenv("SKEP_TEST_ALL") == "1" {
			tb.Fatal(missing)
		}
		tb.Skip(missing)
	}
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), node, "-e", serve, dir)
	cmd.Stderr = os.Stderr
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = lifeline.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			tb.Errorf("end dynalite: %v", err)
		}
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatalf("start dynalite: %v", err)
	}
	tb.Setenv("AWS_ACCESS_KEY_ID", "test")
	tb.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	return "http://" + net.JoinHostPort("127.0.0.1", strings.TrimSpace(port))
}
