package daemon_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/wire"
)

// watch follows a stream: its lines, without heartbeats. The first heartbeat has come when it returns.
func (c *client) watch(path string) <-chan string {
	c.tb.Helper()
	r, err := http.NewRequestWithContext(c.tb.Context(), http.MethodGet, c.url+path, nil)
	if err != nil {
		c.tb.Fatal(err)
	}
	maps.Copy(r.Header, c.header)
	resp, err := c.http.Do(r)
	if err != nil {
		c.tb.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		c.tb.Fatalf("GET %s: %d", path, resp.StatusCode)
	}
	lines := make(chan string, 10_000)
	began := make(chan struct{})
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		first := true
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			if text := s.Text(); !strings.Contains(text, "heartbeat") && text != "" {
				lines <- text
			}
			if first {
				close(began)
				first = false
			}
		}
	}()
	<-began
	return lines
}

func TestStreams(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	lines := c.watch("/v1/watch?entity=service&env=staging")
	events := c.as("Accept", "text/event-stream").watch("/v1/watch?field=replicas")
	if id := <-events; id != "id: 1" { // the first heartbeat has it
		t.Errorf("a stream begins with %q", id)
	}
	c.ok("POST", "/v1/ops", set("service.api", "replicas", "3"))
	var e wire.Event
	if err := json.Unmarshal([]byte(<-lines), &e); err != nil || e.Cursor != 2 {
		t.Fatalf("the event is %d, %v", e.Cursor, err)
	}
	found := false
	for _, ch := range e.Changes {
		if ch.Environment != "staging" && ch.Environment != "" {
			t.Errorf("there is a change of %s", ch.Environment)
		}
		found = found || ch.Field == "replicas" && ch.Value.Any == int64(3)
	}
	if !found {
		t.Errorf("the changes are %v", e.Changes)
	}
	if id, kind, data := <-events, <-events, <-events; id != "id: 2" || kind != "event: change" || !strings.HasPrefix(data, `data: {"cursor":2,`) {
		t.Errorf("the event is %q %q %q", id, kind, data)
	}
}

// A watcher that is cut off again and again, and goes on by its cursor, gets everything once.
func TestReconnect(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	const all = 100
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range all {
			c.ok("POST", "/v1/ops", set("service.api", "image", strconv.Quote(fmt.Sprint("a:", i))))
		}
	}()
	var got []any
	cursor := "1"
	for len(got) < all {
		path := "/v1/watch?cursor=" + cursor + "&field=image&env=production"
		if len(got)%2 == 0 {
			for _, e := range c.ok("GET", path+"&wait=20s", "")["events"].([]any) {
				got = append(got, imageOf(t, e.(map[string]any)))
				cursor = fmt.Sprint(e.(map[string]any)["cursor"])
			}
			continue
		}
		// The stream is left after a few events, and whatever it had on the way is lost.
		lines := c.watch(path)
		for range min(3, all-len(got)) {
			var e map[string]any
			if err := json.Unmarshal([]byte(<-lines), &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, imageOf(t, e))
			cursor = fmt.Sprint(e["cursor"])
		}
	}
	<-done
	for i, v := range got {
		if v != fmt.Sprint("a:", i) {
			t.Fatalf("event %d of %d is %v", i, len(got), v)
		}
	}
}

// imageOf is what the operation of an event wrote.
func imageOf(t *testing.T, e map[string]any) any {
	t.Helper()
	for _, w := range e["operation"].(map[string]any)["writes"].([]any) {
		if w := w.(map[string]any); w["field"] == "image" {
			return w["value"]
		}
	}
	t.Fatalf("no image in %v", e)
	return nil
}

// A watcher that reads nothing holds up nobody, and gets everything when it reads.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/v1/watch?cursor=1&field=image&env=production", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	// More than the sockets between them hold.
	long := strings.Repeat("x", 200_000)
	const all, together = 64, 8
	for i := 0; i < all; i += together {
		var ops []string
		for k := range together {
			ops = append(ops, set("service.api", "image", strconv.Quote(fmt.Sprint(i+k, long))))
		}
		c.ok("POST", "/v1/ops/batch", `{"operations": [`+strings.Join(ops, ",")+`]}`)
	}
	lines := bufio.NewReader(resp.Body)
	for next := 0; next < all; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, `{"heartbeat":true`) {
			continue // the first line, and then as time passes
		}
		if !strings.Contains(line, fmt.Sprintf(`"value":"%dx`, next)) {
			t.Fatalf("event %d is %.300s", next, line)
		}
		next++
	}
}
