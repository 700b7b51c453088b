package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/bus/bustest"
)

// busCopy is a folder with a copy of a document, its daemon, and its line to the bus.
type busCopy struct {
	t    *testing.T
	dir  string
	line *bustest.Line
	cmd  *exec.Cmd
	url  string
}

// Three daemons take writes while one of them is killed, and while one's line to the bus is cut; every write that was acknowledged is on all of them in the
// end, and they have the same state.
func TestCopiesOnABus(t *testing.T) {
	t.Parallel()
	server := bustest.New(t, nil)
	var copies []*busCopy
	for i := range 3 {
		c := &busCopy{t: t, dir: t.TempDir(), line: bustest.NewLine(t, server.URL())}
		t.Cleanup(c.kill)
		if i == 0 {
			c.skep("config", "init", "--name", "shop")
		} else {
			c.skep("config", "init", "--copy-of", copies[0].url)
		}
		c.joinBus()
		c.start()
		copies = append(copies, c)
	}
	var mu sync.Mutex
	var written []string // what was acknowledged
	write := func(round string, victim *busCopy, list ...*busCopy) {
		var wg sync.WaitGroup
		for _, c := range list {
			wg.Go(func() {
				for i := range 50 {
					if c == victim && i == 10 {
						wg.Go(c.kill) // while it is written to
					}
					if value := fmt.Sprint(round, "-", filepath.Base(c.dir), "-", i); c.set(value) {
						mu.Lock()
						written = append(written, value)
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
	}
	write("together", nil, copies...)
	same := func() string {
		t.Helper()
		for {
			var states []string
			for _, c := range copies {
				states = append(states, c.state())
			}
			if states[0] == states[1] && states[0] == states[2] {
				return states[0]
			}
			select {
			case <-t.Context().Done():
				t.Fatalf("the copies differ:\n%s", strings.Join(states, "\n"))
			case <-time.After(20 * time.Millisecond): // they greet each other now and then
			}
		}
	}
	same()

	copies[2].line.Cut()
	write("parted", copies[1], copies...)
	copies[1].start()
	copies[2].line.Mend()
	write("again", nil, copies...)
	same()
	if len(written) < 3*50+2*50+10+3*50 {
		t.Errorf("%d writes were acknowledged", len(written))
	}
	for _, c := range copies {
		log := c.skep("config", "audit", "export")
		for _, value := range written {
			if !strings.Contains(log, `"value":"`+value+`"`) {
				t.Errorf("a copy lacks %s, which was acknowledged", value)
			}
		}
		c.skep("config", "audit", "verify")
	}
}

func (c *busCopy) skep(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), binary, args...)
	cmd.Dir, cmd.Env = c.dir, environment(c.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("skep %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// joinBus writes what an operator would write into config.toml.
func (c *busCopy) joinBus() {
	c.t.Helper()
	name := filepath.Join(c.dir, ".conflux", "config.toml")
	text, err := os.ReadFile(name)
	if err != nil {
		c.t.Fatal(err)
	}
	for setting, value := range map[string]string{
		"peers": "[]", "bus": `"` + c.line.URL() + `"`, "bus_key_file": `".conflux/bus.pem"`,
	} {
		text = regexp.MustCompile(`(?m)^`+setting+` = .*$`).ReplaceAll(text, []byte(setting+" = "+value))
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, ".conflux", "bus.pem"), []byte(strings.Repeat("k", 40)), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// start starts the daemon on free ports.
func (c *busCopy) start() {
	c.t.Helper()
	c.cmd = exec.Command(binary, "config", "daemon", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
	c.cmd.Dir, c.cmd.Env = c.dir, environment(c.dir)
	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if m := daemonAt.FindStringSubmatch(lines.Text()); m != nil && m[1] == "REST" {
			c.url = "http://" + m[2]
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return
		}
	}
	c.t.Fatal("the daemon does not say where it is")
}

// kill ends the daemon as a crash does.
func (c *busCopy) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

func (c *busCopy) do(method, path, text string) ([]byte, bool) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(text))
	if err != nil {
		c.t.Error(err)
		return nil, false
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return body, err == nil && resp.StatusCode/100 == 2
}

// set writes a value and reports whether that was acknowledged.
func (c *busCopy) set(value string) bool {
	_, ok := c.do("POST", "/v1/ops", `{"type":"set_field","entity_id":"service.api","field":"image","value":"`+value+`"}`)
	return ok
}

// state is what the document says, and the operations that it has.
func (c *busCopy) state() string {
	c.t.Helper()
	state, ok := c.do("GET", "/v1/state", "")
	var status struct {
		Version string `json:"version"`
	}
	text, _ := c.do("GET", "/v1/status", "")
	if err := json.Unmarshal(text, &status); err != nil || !ok || status.Version == "" {
		c.t.Fatalf("status: %v, %s\n%s", err, text, state)
	}
	return status.Version + "\n" + string(state)
}
