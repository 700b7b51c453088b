package bus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skep-dev/skep/internal/bus"
	"github.com/skep-dev/skep/internal/bus/bustest"
	"github.com/skep-dev/skep/internal/errkind"
)

func connect(t *testing.T, opts bus.Options) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// awaitState waits until a connection is there, or gone.
func awaitState(t *testing.T, c *bus.Conn, connected bool) {
	t.Helper()
	for {
		changed := c.Changed()
		if c.Status().Connected == connected {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
	}
}

func subscribe(t *testing.T, c *bus.Conn, subject string) *bus.Subscription {
	t.Helper()
	sub, err := c.Subscribe(subject)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	return sub
}

// serve answers what is asked on a subject, until the test ends.
func serve(t *testing.T, c *bus.Conn, subject string, answer func(question []byte) []byte) {
	t.Helper()
	sub := subscribe(t, c, subject)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			m, err := sub.Next(ctx)
			if err != nil {
				return
			}
			_ = m.Answer(answer(m.Data)) // the line may be cut
		}
	})
	t.Cleanup(func() { stop(); wg.Wait() })
}

func TestMessagesComeToWhoListens(t *testing.T) {
	s := bustest.New(t, nil)
	a, b := connect(t, bus.Options{URL: s.URL()}), connect(t, bus.Options{URL: s.URL()})
	sub := subscribe(t, b, "skep.news")
	if err := a.Publish("skep.other", []byte("not this")); err != nil {
		t.Fatal(err)
	}
	if err := a.Publish("skep.news", []byte("this")); err != nil {
		t.Fatal(err)
	}
	m, err := sub.Next(t.Context())
	if err != nil || string(m.Data) != "this" {
		t.Fatalf("got %v, %v", m, err)
	}
	if err := m.Answer(nil); !errors.Is(err, errkind.Invalid) {
		t.Errorf("answer to what nobody asked: %v", err)
	}
	if err := a.Publish("skep.news", make([]byte, bus.MaxMessage+1)); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("a message over the limit: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sub.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("next: %v", err)
	}
}

// An answer may be larger than a message: it comes in parts.
func TestAnswers(t *testing.T) {
	s := bustest.New(t, nil)
	a, b := connect(t, bus.Options{URL: s.URL()}), connect(t, bus.Options{URL: s.URL()})
	serve(t, b, "skep.ask", func(q []byte) []byte { return bytes.Repeat(q, 1<<20) })
	for _, q := range []string{"", "x", "123", "12345678"} {
		answer, err := a.Ask(t.Context(), "skep.ask", []byte(q))
		if err != nil || !bytes.Equal(answer, bytes.Repeat([]byte(q), 1<<20)) {
			t.Errorf("%q: %d bytes, %v", q, len(answer), err)
		}
	}
	if _, err := a.Ask(t.Context(), "skep.nobody", nil); !errors.Is(err, errkind.Unavailable) || !strings.Contains(err.Error(), "nobody listens") {
		t.Errorf("nobody listens: %v", err)
	}
	subscribe(t, b, "skep.silent")
	ended, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := a.Ask(ended, "skep.silent", nil); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("no answer: %v", err)
	}
}

// Who is slow holds no more than the limit; what comes above it is dropped, and counted.
func TestSlowConsumer(t *testing.T) {
	s := bustest.New(t, nil)
	a, b := connect(t, bus.Options{URL: s.URL()}), connect(t, bus.Options{URL: s.URL()})
	serve(t, b, "skep.ask", func([]byte) []byte { return nil })
	slow := subscribe(t, b, "skep.news")
	for i := range 3000 {
		if err := a.Publish("skep.news", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	// The servers keep the order of one connection: what was said before this question has come, too.
	if _, err := a.Ask(t.Context(), "skep.ask", nil); err != nil {
		t.Fatal(err)
	}
	n := b.Status().Dropped
	if n != 3000-1024 {
		t.Errorf("%d are dropped, want all above 1024", n)
	}
	for i := range 1024 {
		if m, err := slow.Next(t.Context()); err != nil || string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("message %d is %v, %v", i, m, err)
		}
	}
	slow.Close()
	slow.Close()
	if after := b.Status().Dropped; after != n {
		t.Errorf("%d are dropped when it is closed, and %d were", after, n)
	}
}

// A connection comes back by itself, and nothing is kept for when it does.
func TestReconnect(t *testing.T) {
	s := bustest.New(t, nil)
	line := bustest.NewLine(t, s.URL())
	line.Cut()
	a := connect(t, bus.Options{URL: line.URL()})
	if a.Status().Connected {
		t.Fatal("it is connected over a line that is cut")
	}
	sub := subscribe(t, a, "skep.news")
	for range 2 {
		if err := a.Publish("skep.news", []byte("old")); !errors.Is(err, errkind.Unavailable) {
			t.Errorf("publish without a connection: %v", err)
		}
		line.Mend()
		awaitState(t, a, true)
		if _, err := a.Ask(t.Context(), "skep.nobody", nil); err == nil { // the servers know the subscription now
			t.Error("nobody answered")
		}
		if err := a.Publish("skep.news", []byte("new")); err != nil {
			t.Error(err)
		}
		if m, err := sub.Next(t.Context()); err != nil || string(m.Data) != "new" {
			t.Errorf("%v, %v", m, err)
		}
		line.Cut()
		awaitState(t, a, false)
	}
	if n := a.Status().Lost; n != 2 {
		t.Errorf("it says that the connection was lost %d times, want 2", n)
	}
}

// As long as one of the operator's servers is there, nodes reach each other.
func TestClusterOfWhichServersAreKilled(t *testing.T) {
	servers := bustest.Cluster(t, 3)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.URL())
	}
	a, b := connect(t, bus.Options{URL: strings.Join(urls, ",")}), connect(t, bus.Options{URL: strings.Join(urls, ", ")})
	serve(t, b, "skep.ask", func(q []byte) []byte { return append([]byte("answer to "), q...) })
	for i := range servers {
		for tries := 0; ; tries++ {
			awaitState(t, a, true)
			awaitState(t, b, true)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // what was under way when a server was killed is lost
			answer, err := a.Ask(ctx, "skep.ask", fmt.Append(nil, i))
			cancel()
			if err == nil {
				if string(answer) != fmt.Sprintf("answer to %d", i) {
					t.Errorf("the answer is %q", answer)
				}
				break
			}
			if !errors.Is(err, errkind.Unavailable) {
				t.Fatal(err)
			}
		}
		if i < len(servers)-1 {
			servers[i].Stop()
		}
	}
}

func TestCredentials(t *testing.T) {
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "bus.secret")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	byPassword := bustest.New(t, func(o *server.Options) { o.Username, o.Password = "skep", "hush-hush" })
	byToken := bustest.New(t, func(o *server.Options) { o.Authorization = "hush-hush" })
	for _, tt := range []struct {
		name, url, text string
	}{{"a password", byPassword.URL(), "skep:hush-hush\n"}, {"a token", byToken.URL(), "hush-hush"}} {
		t.Run(tt.name, func(t *testing.T) {
			right := connect(t, bus.Options{URL: tt.url, CredentialsFile: file(tt.text), Log: log})
			awaitState(t, right, true)
			// What is wrong is tried again, with what the file says then.
			name := file(strings.ReplaceAll(tt.text, "hush-hush", "wrong-hush"))
			c := connect(t, bus.Options{URL: tt.url, CredentialsFile: name, Log: log})
			if c.Status().Connected {
				t.Error("it is connected with what is wrong")
			}
			if err := os.WriteFile(name, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			awaitState(t, c, true)
		})
	}
	if strings.Contains(logged.String(), "hush") {
		t.Errorf("the log has a secret:\n%s", logged.String())
	}
}

func TestTLS(t *testing.T) {
	ca, certificate := bustest.Certificate(t)
	s := bustest.New(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		o.TLS = true
	})
	url := strings.Replace(s.URL(), "nats:", "tls:", 1)
	awaitState(t, connect(t, bus.Options{URL: url, CAFile: ca}), true)
	c := connect(t, bus.Options{URL: url})
	if s := c.Status(); s.Connected {
		t.Errorf("it is connected to a server that nobody vouches for")
	}
	// Who wants TLS does not take less.
	plain := bustest.New(t, nil)
	if s := connect(t, bus.Options{URL: plain.URL(), CAFile: ca}).Status(); s.Connected {
		t.Errorf("it is connected without TLS")
	}
}

func TestBadOptions(t *testing.T) {
	text := func(s string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const url = "nats://127.0.0.1:1"
	for _, tt := range []struct {
		name string
		opts bus.Options
		want string
	}{
		{"no address", bus.Options{}, "is not of the form nats://HOST:PORT"},
		{"another scheme", bus.Options{URL: "http://127.0.0.1"}, "is not of the form"},
		{"a path", bus.Options{URL: url + "/x"}, "is not of the form"},
		{"no host", bus.Options{URL: url + ",nats://"}, "is not of the form"},
		{"a password", bus.Options{URL: "nats://skep:hush@127.0.0.1:1"}, "they belong in a file"},
		{"an address that is none", bus.Options{URL: "nats://skep:hush@[1"}, "server 1 cannot be read"},
		{"many servers", bus.Options{URL: strings.Repeat(url+",", 16) + url}, "17 servers"},
		{"no credentials", bus.Options{URL: url, CredentialsFile: "/none/of/these"}, "read credentials"},
		{"empty credentials", bus.Options{URL: url, CredentialsFile: text("\n")}, "one line"},
		{"two lines", bus.Options{URL: url, CredentialsFile: text("hush\nhush")}, "one line"},
		{"large credentials", bus.Options{URL: url, CredentialsFile: text(strings.Repeat("x", 70_000))}, "more than"},
		{"no authority", bus.Options{URL: url, CAFile: "/none/of/these"}, "rootCA"},
		{"an authority that is none", bus.Options{URL: url, CAFile: text("x")}, "root certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := bus.Connect(t.Context(), tt.opts)
			if err == nil {
				c.Close()
				t.Fatal("it is taken")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("the error is %q, want one with %q", err, tt.want)
			}
		})
	}
}
