package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// writeSSHConfig makes OpenSSH's client know the server, by the name of skep too, and nothing of the machine's own configuration.
func (s *server) writeSSHConfig(dir string) error {
	host, port, err := net.SplitHostPort(s.ssh)
	if err != nil {
		return err
	}
	var known strings.Builder
	for _, file := range []string{"ssh_host_ed25519_key.pub", "ssh_host_rsa_key.pub"} {
		key, err := os.ReadFile(filepath.Join(s.dir, file))
		if err != nil {
			return err
		}
		fmt.Fprintf(&known, "[%s]:%s %s", host, port, key)
	}
	config := fmt.Sprintf(`Host skep
	HostName %s
	Port %s
	User git
Host *
	UserKnownHostsFile %[3]s/known_hosts
	GlobalKnownHostsFile /dev/null
	StrictHostKeyChecking yes
	IdentitiesOnly yes
	IdentityAgent none
	BatchMode yes
	LogLevel INFO
`, host, port, dir)
	if err := os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(known.String()), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "ssh_config"), []byte(config), 0o600)
}

// sshCommand is how git reaches the server with a key of a directory.
func sshCommand(dir, key string, options ...string) string {
	return strings.Join(append([]string{"ssh -F", filepath.Join(dir, "ssh_config"), "-i", filepath.Join(dir, key)}, options...), " ")
}

// asCommand: as KEY [OPTION…] lets git come with the key of that file, and with ssh's options.
func asCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: as KEY [OPTION...]")
	}
	ts.Setenv("GIT_SSH_COMMAND", sshCommand(ts.Getenv("WORK"), args[0], args[1:]...))
}

// newSSHWorld is a world whose administrator has a key.
func newSSHWorld(t *testing.T) *world {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		if os.Getenv("SKEP_TEST_ALL") == "1" {
			t.Fatal("there is no ssh")
		}
		t.Skip("there is no ssh (on Debian: apt-get install openssh-client)")
	}
	w := newWorld(t, "--ssh", "127.0.0.1:0")
	if err := w.writeSSHConfig(w.work); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.path("admin")).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	if out, err := w.skep("key", "add", w.path("admin.pub")); err != nil {
		t.Fatalf("skep key add: %v\n%s", err, out)
	}
	w.env = append(w.env, "GIT_SSH_COMMAND="+sshCommand(w.work, "admin"))
	return w
}

func (w *world) overSSH(name string) string {
	return "ssh://git@" + w.ssh + "/default/" + name + ".git"
}

// TestSSHClonesAtOnce: many clones side by side are whole.
func TestSSHClonesAtOnce(t *testing.T) {
	w := newSSHWorld(t)
	w.noise("noise.git", 1<<20)
	w.git("noise.git", "push", "-q", "--mirror", w.overSSH("noise"))
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			clone := fmt.Sprint("clone", i)
			if out, err := w.try(".", nil, "clone", "-q", "--mirror", w.overSSH("noise"), clone); err != nil {
				t.Errorf("clone %d: %v\n%s", i, err, out)
			}
		})
	}
	wg.Wait()
	for i := range 6 {
		w.same("noise.git", fmt.Sprint("clone", i))
	}
}

// TestSSHServerKilledDuringPush: what a push had sent when the server was killed is as if it had not been sent.
func TestSSHServerKilledDuringPush(t *testing.T) {
	w := newSSHWorld(t)
	w.git(".", "init", "-q", "first")
	w.git("first", "commit", "-q", "--allow-empty", "-m", "first")
	w.git("first", "push", "-q", w.overSSH("demo"), "main")
	before := w.git(".", "ls-remote", w.overSSH("demo"))
	w.noise("noise.git", 24<<20)
	push := exec.CommandContext(t.Context(), "git", "push", "-q", w.overSSH("demo"), "+main", "topic")
	push.Dir, push.Env = w.path("noise.git"), w.env
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	for range time.Tick(5 * time.Millisecond) { // until a part of the pack has come
		files, err := os.ReadDir(filepath.Join(w.dir, "tmp"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 0 {
			break
		}
	}
	w.kill()
	if err := push.Wait(); err == nil {
		t.Fatal("the push went through before the server was killed")
	}
	if err := w.start("--ssh", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := w.writeSSHConfig(w.work); err != nil {
		t.Fatal(err)
	}
	if got := w.git(".", "ls-remote", w.overSSH("demo")); got != before {
		t.Errorf("after the restart there is\n%s\nwant\n%s", got, before)
	}
	w.git("noise.git", "push", "-q", "--mirror", w.overSSH("demo"))
	w.git(".", "clone", "-q", "--mirror", w.overSSH("demo"), "back")
	w.same("noise.git", "back")
}

// TestSSHKeyRemovedWhileConnected: OpenSSH's client loses its connection, in the middle of a command.
func TestSSHKeyRemovedWhileConnected(t *testing.T) {
	w := newSSHWorld(t)
	w.git(".", "init", "-q", "first")
	w.git("first", "commit", "-q", "--allow-empty", "-m", "first")
	w.git("first", "push", "-q", w.overSSH("demo"), "main")
	cmd := exec.CommandContext(t.Context(), "ssh", "-F", w.path("ssh_config"), "-i", w.path("admin"), "skep", "git-upload-pack '/default/demo.git'")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	list, err := w.skep("key", "list")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(list, "key_")
	id, _, _ := strings.Cut(rest, " ")
	if out, err := w.skep("key", "remove", "key_"+id); err != nil {
		t.Fatalf("skep key remove: %v\n%s", err, out)
	}
	_, _ = io.Copy(io.Discard, stdout) // to the end of the connection
	if err := cmd.Wait(); err == nil {
		t.Error("the command ended well")
	}
	if out, err := w.try(".", nil, "ls-remote", w.overSSH("demo")); err == nil || !strings.Contains(out, "Permission denied (publickey)") {
		t.Errorf("with the removed key: %v\n%s", err, out)
	}
}
