package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type daemonKey struct{}

// daemon is one skep config daemon process.
type daemon struct {
	env []string
	cmd *exec.Cmd
	out *lockedBuffer
}

var daemonAt = regexp.MustCompile(`^(REST|gRPC) of document \S+ on https?://(127\.0\.0\.1:\d+)`)

// daemonCommand: daemon start DIR [FLAG…] | stop | log FILE. After start, $REST and $GRPC are where it serves, and curl finds it at
// localhost:9400 and 9401, where it would be without a test.
func daemonCommand(ts *testscript.TestScript, neg bool, args []string) {
	d := ts.Value(daemonKey{}).(*daemon)
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: daemon start DIR [FLAG...] | stop | log FILE")
	case args[0] == "start" && len(args) > 1:
		at, err := d.start(ts, ts.MkAbs(args[1]), args[2:])
		ts.Check(err)
		ts.Setenv("REST", at["REST"])
		ts.Setenv("GRPC", at["gRPC"])
		curl := fmt.Sprintf("connect-to = \"localhost:9400:%s\"\nconnect-to = \"localhost:9401:%s\"\nsilent\nshow-error\n", at["REST"], at["gRPC"])
		ts.Check(os.WriteFile(filepath.Join(ts.Getenv("HOME"), ".curlrc"), []byte(curl), 0o600))
	case args[0] == "stop":
		ts.Check(d.cmd.Process.Signal(syscall.SIGTERM))
		err := d.cmd.Wait()
		d.cmd = nil
		ts.Check(err)
	case args[0] == "log" && len(args) == 2:
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(d.out.String()), 0o600))
	default:
		ts.Fatalf("daemon %s: unknown", args[0])
	}
}

// start runs a daemon on free ports and waits until it says where it serves.
func (d *daemon) start(ts *testscript.TestScript, dir string, flags []string) (map[string]string, error) {
	d.cmd = exec.Command(binary, append([]string{"config", "daemon", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, flags...)...)
	d.cmd.Dir, d.cmd.Env = dir, d.env
	d.out = &lockedBuffer{}
	d.cmd.Stderr = d.out
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	at := map[string]string{}
	found := make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if m := daemonAt.FindStringSubmatch(lines.Text()); m != nil {
				if at[m[1]] = m[2]; len(at) == 2 {
					found <- nil
					return
				}
			}
		}
		found <- net.ErrClosed
	}()
	select {
	case err = <-found:
	case <-time.After(30 * time.Second):
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		d.kill()
		return nil, fmt.Errorf("skep config daemon does not say where it is: %w:\n%s", err, d.out)
	}
	return at, nil
}

func (d *daemon) kill() {
	if d.cmd != nil {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		d.cmd = nil
	}
}
