// Package postgrestest starts a real PostgreSQL server for a package's tests.
//
//	func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }
//
//	func TestX(t *testing.T) {
//		db, err := postgres.Open(t.Context(), postgrestest.New(t), …)
//
// The server starts with the first New, in a temporary folder, as a user without rights, and listens on a socket in that
// folder only. Its default collation sorts unlike bytes, so that a column that forgot to say COLLATE "C" is noticed.
//
// A shell stands between the tests and the server and waits for the end of its standard input. However the test process
// ends, even killed, the shell then ends the server by its process ID and removes the folder.
package postgrestest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Missing says how to get what these tests need; scripts/test says the same at its end.
const Missing = "PostgreSQL is not installed; on Debian: apt-get install postgresql"

const (
	superuser = "skep"
	// Locked is a role that New does not make; who makes it needs its password.
	Locked = "locked"
	port   = "5432" // the socket's name has it; there is no network
	// startTimeout is for a machine that does a lot besides.
	startTimeout = time.Minute
	// stopTimeout is how long the shell may take to end the server.
	stopTimeout = 30 * time.Second
)

// access: everybody may come in but Locked.
const access = `
local all ` + Locked + ` scram-sha-256
local all all trust
`

// server is the process's server, started at need.
var server struct {
	once sync.Once
	bin  string // "": not installed
	dir  string
	end  func() error
	err  error

	databases atomic.Int64
}

// Main runs a package's tests and ends the server that they started.
func Main(m *testing.M) int {
	code := m.Run()
	if server.end != nil {
		if err := server.end(); err != nil {
			fmt.Fprintln(os.Stderr, "end PostgreSQL:", err)
			return max(code, 1)
		}
	}
	return code
}

// New makes an empty database, which goes with the test, and returns its address. Without PostgreSQL the test is left out;
// with SKEP_TEST_ALL=1 it fails.
func New(tb testing.TB) string {
	tb.Helper()
	server.once.Do(start)
	switch {
	case server.err != nil:
		tb.Fatal("start PostgreSQL: ", server.err)
	case server.bin == "" && os.Getenv("SKEP_TEST_ALL") == "1":
		tb.Fatal(Missing)
	case server.bin == "":
		tb.Skip(Missing)
	}
	name := fmt.Sprintf("test%d", server.databases.Add(1))
	if err := Exec(tb.Context(), Address("postgres"), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx := context.WithoutCancel(tb.Context())
		if err := Exec(ctx, Address("postgres"), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Error(err)
		}
	})
	return Address(name)
}

// Address is where a database is, after New.
func Address(database string) string {
	q := url.Values{"host": {server.dir}, "port": {port}, "user": {superuser}, "sslmode": {"disable"}}
	return "postgres:///" + database + "?" + q.Encode()
}

// Socket is the path of the server's socket, after New.
func Socket() string { return filepath.Join(server.dir, ".s.PGSQL."+port) }

// Exec runs statements on a connection of their own.
func Exec(ctx context.Context, address, script string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, script).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

func start() {
	if server.bin = findBinaries(); server.bin == "" {
		return
	}
	server.err = startIn(server.bin)
}

// findBinaries looks for the folder with initdb: in PATH, and where Debian has it; the newest version there.
func findBinaries() string {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is well-formed
	if len(found) == 0 {
		return ""
	}
	version := func(p string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p)))) // 0 for what is no version
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

func startIn(bin string) (err error) {
	if server.dir, err = os.MkdirTemp("", "skep-pg-"); err != nil {
		return err
	}
	defer func() {
		if err != nil && server.end == nil {
			err = errors.Join(err, os.RemoveAll(server.dir))
		}
	}()
	who, err := unprivileged(server.dir)
	if err != nil {
		return err
	}
	data := filepath.Join(server.dir, "data")
	initdb := func(locale ...string) error {
		args := append([]string{"-D", data, "-U", superuser, "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"}, locale...)
		cmd := exec.Command(filepath.Join(bin, "initdb"), args...)
		cmd.SysProcAttr, cmd.Dir = who, server.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("initdb: %w: %s", err, out)
		}
		return nil
	}
	if err := initdb("--locale=C", "--locale-provider=icu", "--icu-locale=en-US"); err != nil { // built without ICU, or before 15
		if err := initdb("--locale=C"); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(access), 0o600); err != nil {
		return err
	}
	return run(bin, data, who)
}

// watch starts the server with what follows its three first arguments (log file, folder, PostgreSQL's program), then waits for
// the end of the standard input.
const watch = `log=$1 dir=$2 postgres=$3; shift 3
"$postgres" "$@" </dev/null >"$log" 2>&1 &
pid=$!
cat >/dev/null
kill -INT $pid
wait $pid
rm -rf "$dir"`

func run(bin, data string, who *syscall.SysProcAttr) error {
	log := filepath.Join(server.dir, "log")
	args := []string{
		"-c", watch, "sh", log, server.dir, filepath.Join(bin, "postgres"),
		"-D", data, "-k", server.dir, "-c", "listen_addresses=", "-p", port, "-c", "max_connections=200",
	}
	if f := flag.Lookup("test.bench"); f == nil || f.Value.String() == "" { // a benchmark without fsync says nothing
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	cmd := exec.Command("sh", args...)
	cmd.SysProcAttr, cmd.Dir = who, "/"
	// In a group of its own: Ctrl-C at the tests' terminal shall reach the server by way of the shell only.
	cmd.SysProcAttr.Setpgid = true
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	server.end = func() error { return end(cmd, lifeline) }
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := Exec(ctx, Address("postgres"), "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			text, _ := os.ReadFile(log) // it may not be there; then there is nothing to add
			return errors.Join(fmt.Errorf("wait for the server: %w\n%s", err, text), server.end())
		}
	}
}

// end lets go of the lifeline and waits until the shell has ended the server.
func end(cmd *exec.Cmd, lifeline io.Closer) error {
	timer := time.AfterFunc(stopTimeout, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := errors.Join(lifeline.Close(), cmd.Wait())
	if _, statErr := os.Stat(server.dir); statErr == nil { // the folder above it is not the unprivileged user's
		err = errors.Join(err, os.RemoveAll(server.dir))
	}
	return err
}

// unprivileged gives the folder to another user if this process is root's, as whom PostgreSQL refuses to run, and returns
// how to run as that user.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
			return nil, err
		}
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return nil, errors.New("root may not run PostgreSQL, and there is no user postgres or nobody")
}
