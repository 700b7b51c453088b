package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// TestPool is a property: whatever comes in whatever order, nobody has more than its share, everybody who waits gets a place in
// the end or is refused, and nothing is kept afterwards.
func TestPool(t *testing.T) {
	const places, perCaller, perRepo = 6, 3, 2
	p := server.NewPool(places, perCaller, perRepo, 1000, time.Minute)
	var all atomic.Int64
	var callers, repos [4]atomic.Int64
	over := func(what string, n *atomic.Int64, most int64) {
		if v := n.Add(1); v > most {
			t.Errorf("%d of %s, want at most %d", v, what, most)
		}
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 50 {
				c, r := rand.IntN(len(callers)), rand.IntN(len(repos))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Millisecond)
				narrow, leave, err := p.Enter(ctx, limit.Key(c+1))
				if err == nil {
					if err = narrow(id.Repo(fmt.Sprint("repo", r))); err == nil {
						over("all", &all, places)
						over("a caller", &callers[c], perCaller)
						over("a repository", &repos[r], perRepo)
						if rand.IntN(4) == 0 {
							time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) // work
						}
						repos[r].Add(-1)
						callers[c].Add(-1)
						all.Add(-1)
					}
					leave()
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("neither a place nor the client's going away: %v", err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if running, waiting, kept := p.Taken(); running+waiting+kept != 0 {
		t.Errorf("afterwards %d run, %d wait, %d shares are kept", running, waiting, kept)
	}
}

// TestHotRepositoryWaitsOutside: requests that wait for their repository's share hold no place of all; when their time is
// over they are refused, and so is at once who finds the queue full.
func TestHotRepositoryWaitsOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := server.NewPool(3, 3, 1, 2, 15*time.Second)
		narrow, leave, err := p.Enter(t.Context(), 1)
		if err = errors.Join(err, narrow("hot")); err != nil {
			t.Fatal(err)
		}
		refused := make(chan error, 1)
		go func() {
			narrow, leave, err := p.Enter(t.Context(), 2)
			if err == nil {
				err = narrow("hot")
				leave()
			}
			refused <- err
		}()
		synctest.Wait()
		if running, waiting, _ := p.Taken(); running != 1 || waiting != 1 {
			t.Errorf("%d run, %d wait, want 1 and 1", running, waiting)
		}
		narrowFull, leaveFull, err := p.Enter(t.Context(), 3) // half of the queue is full
		if err = errors.Join(err, narrowFull("hot")); !errors.Is(err, errkind.Unavailable) {
			t.Errorf("with a full queue: %v, want errkind.Unavailable", err)
		}
		leaveFull()
		narrowCold, leaveCold, err := p.Enter(t.Context(), 1)
		if err = errors.Join(err, narrowCold("cold")); err != nil {
			t.Errorf("another repository: %v", err)
		}
		leaveCold()
		started := time.Now()
		if err := <-refused; !errors.Is(err, errkind.Unavailable) {
			t.Errorf("who waited = %v, want errkind.Unavailable", err)
		}
		if waited := time.Since(started); waited != 15*time.Second {
			t.Errorf("waited for %v, want 15s", waited)
		}
		leave()
		if running, waiting, kept := p.Taken(); running+waiting+kept != 0 {
			t.Errorf("afterwards %d run, %d wait, %d shares are kept", running, waiting, kept)
		}
	})
}

// holdAs is hold, for somebody, who need not be alone: it waits until n transfers run.
func (s *site) holdAs(token, repo string, n int) (release func()) {
	s.t.Helper()
	pr, pw := io.Pipe()
	req := result(http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/"+repo+".git/git-receive-pack", pr))(s.t)
	req.SetBasicAuth("any", token)
	req.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	})
	if _, err := io.WriteString(pw, "00a0"); err != nil {
		s.t.Fatal(err)
	}
	want := fmt.Sprintf("skep_http_in_flight{pool=\"transfers\"} %d\n", n)
	for {
		if _, text := s.do("GET", "/metrics", "", nil); strings.Contains(text, want) {
			break
		}
	}
	release = sync.OnceFunc(func() {
		_ = pw.CloseWithError(errors.New("the client goes away"))
		wg.Wait()
	})
	s.t.Cleanup(release)
	return release
}

// fetchStatus makes a transfer's request and says how it is answered.
func (s *site) fetchStatus(token, repo string) (int, string) {
	s.t.Helper()
	resp, _ := s.do("POST", "/"+repo+".git/git-upload-pack", token, strings.NewReader("0000"), "Content-Type", "application/x-git-upload-pack-request")
	return resp.StatusCode, resp.Header.Get("Retry-After")
}

// TestHotRepository is an attack: slow pushes to one repository. They do not keep anybody from another.
func TestHotRepository(t *testing.T) {
	s := startSite(t, server.Options{MaxTransfers: 4, MaxPerCaller: 4, MaxWaiting: -1})
	s.repo("default", "hot", client.Private)
	s.repo("default", "cold", client.Private)
	s.holdAs(s.admin, "default/hot", 1)
	release := s.holdAs(s.admin, "default/hot", 2)
	for after := ""; after == ""; { // until both have come to the repository
		_, after = s.fetchStatus(s.admin, "default/hot")
	}
	if status, after := s.fetchStatus(s.admin, "default/hot"); status != http.StatusServiceUnavailable || after == "" {
		t.Errorf("a third transfer = %d, Retry-After %q, want 503", status, after)
	}
	if _, err := s.api(s.admin).Fetch(t.Context(), "default/hot", client.FetchRequest{}); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("a third over REST: %v, want errkind.Unavailable", err)
	}
	if status, _ := s.fetchStatus(s.admin, "default/cold"); status != http.StatusOK {
		t.Errorf("a transfer of another repository = %d", status)
	}
	if resp, _ := s.do("GET", "/default/hot.git/info/refs?service=git-upload-pack", s.admin, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("what is no transfer = %d", resp.StatusCode)
	}
	release()
	for status := 0; status != http.StatusOK; { // until the place is free
		status, _ = s.fetchStatus(s.admin, "default/hot")
	}
}

// TestGreedyPrincipal is an attack: one principal's slow pushes to many repositories. They do not keep out another one.
func TestGreedyPrincipal(t *testing.T) {
	s := startSite(t, server.Options{MaxTransfers: 4, MaxWaiting: -1})
	d := result(s.control.TenantByPath(t.Context(), "default"))(t)
	for _, name := range []string{"a", "b", "c"} {
		s.repo("default", name, client.Private)
	}
	mallory, alice := s.member("mallory", d.ID, policy.Writer), s.member("alice", d.ID, policy.Reader)
	s.holdAs(mallory, "default/a", 1)
	s.holdAs(mallory, "default/b", 2)
	if status, after := s.fetchStatus(mallory, "default/c"); status != http.StatusServiceUnavailable || after == "" {
		t.Errorf("a third transfer = %d, Retry-After %q, want 503", status, after)
	}
	for _, repo := range []string{"default/a", "default/c"} {
		if status, _ := s.fetchStatus(alice, repo); status != http.StatusOK {
			t.Errorf("another principal's transfer of %s = %d", repo, status)
		}
	}
}

// TestGreedyAddress is an attack: slow requests without a credential from one address. They do not keep out guests elsewhere.
func TestGreedyAddress(t *testing.T) {
	s := startSite(t, server.Options{MaxGuests: 4, MaxWaiting: -1, RateExempt: []netip.Prefix{}})
	for _, name := range []string{"a", "b"} {
		s.repo("default", name, client.Public)
	}
	slow := pkt("command=fetch\n") + "0001" + strings.Repeat(pkt("have 1111111111111111111111111111111111111111\n"), 400)
	for i, name := range []string{"a", "b"} {
		c := s.dial()
		fmt.Fprintf(c, "POST /default/%s.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-git-upload-pack-request\r\nGit-Protocol: version=2\r\nContent-Length: 100000\r\n\r\n%s", name, slow)
		want := fmt.Sprintf("skep_http_in_flight{pool=\"guests\"} %d\n", i+1)
		for {
			if _, text := s.do("GET", "/metrics", "", nil); strings.Contains(text, want) {
				break
			}
		}
	}
	if resp, text := s.do("GET", "/default/a.git/info/refs?service=git-upload-pack", "", nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a third request from the same address = %d %s, want 503", resp.StatusCode, text)
	}
	if resp, text := s.from("127.0.0.2", "GET", "/default/a.git/info/refs?service=git-upload-pack", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("a request from elsewhere = %d %s", resp.StatusCode, text)
	}
	if status, _ := s.fetchStatus(s.admin, "default/a"); status != http.StatusOK {
		t.Errorf("a principal's request from there = %d", status)
	}
}
