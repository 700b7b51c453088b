// Command config-load measures skep config daemon as its clients see it.
//
//	config-load --url http://127.0.0.1:9400 ops      single operations, from 64 clients
//	config-load batch                                batches of 100
//	config-load get                                  reads of one entity
//	config-load --rate 2000 get                      the same at a fixed rate
//	config-load watch                                how long an operation takes to 1,000 watchers
//
// The document must have a type service with image (string, lww). It prints one line: what came out, and the times that half and 99 of 100
// requests took at most.
//
// Without a rate each client sends its next request when it has the answer to the one before. That finds how much the daemon can do; the times
// are those of a full queue. With a rate requests arise at even intervals, and the time of each counts from then, also while it waits for a
// client that is free.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	base    = flag.String("url", "http://127.0.0.1:9400", "the daemon")
	clients = flag.Int("clients", 64, "clients at once")
	seconds = flag.Int("seconds", 5, "for how long")
	size    = flag.Int("batch", 100, "operations of a batch")
	readers = flag.Int("watchers", 1000, "watchers")
	rate    = flag.Int("rate", 0, "requests a second; 0: as many as there are answers, of watch 10")
)

func main() {
	flag.Parse()
	debug.SetGCPercent(1000) // what the clients' collector takes of the machine is no time of the daemon's
	ctx := context.Background()
	l := &load{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *clients + *readers, DisableCompression: true}}}
	run := map[string]func(context.Context) error{"ops": l.ops, "batch": l.batches, "get": l.gets, "watch": l.watch}[flag.Arg(0)]
	if run == nil {
		fmt.Fprintln(os.Stderr, "usage: config-load [flags] ops | batch | get | watch")
		os.Exit(2)
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "config-load:", err)
		os.Exit(1)
	}
}

type load struct{ http *http.Client }

func operation(client, i int) string {
	return fmt.Sprintf(`{"type":"set_field","entity_id":"service.s%d","field":"image","value":"registry.example/app:%d.%d"}`, client, client, i)
}

func (l *load) ops(ctx context.Context) error {
	return l.all(ctx, 1, func(ctx context.Context, client, i int) error { return l.post(ctx, "/v1/ops", operation(client, i)) })
}

func (l *load) batches(ctx context.Context) error {
	return l.all(ctx, *size, func(ctx context.Context, client, i int) error {
		var b strings.Builder
		b.WriteString(`{"operations":[`)
		for j := range *size {
			if j > 0 {
				b.WriteByte(',')
			}
			b.WriteString(operation(client*1000+j, i))
		}
		b.WriteString(`]}`)
		return l.post(ctx, "/v1/ops/batch", b.String())
	})
}

func (l *load) gets(ctx context.Context) error {
	if err := l.post(ctx, "/v1/ops", operation(0, 0)); err != nil {
		return err
	}
	return l.all(ctx, 1, func(ctx context.Context, _, _ int) error {
		return l.do(ctx, http.MethodGet, "/v1/state/service.s0", "")
	})
}

// all has all clients do something again and again, and prints how often that was in a second, times each.
func (l *load) all(ctx context.Context, each int, do func(ctx context.Context, client, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var wg sync.WaitGroup
	last := time.Duration(*seconds) * time.Second
	start := time.Now()
	next := func(i int) (due, bool) { return due{time.Now(), i}, time.Since(start) < last }
	if *rate > 0 {
		list := arrivals(ctx, *rate, last)
		next = func(int) (due, bool) { d, ok := <-list; return d, ok }
	}
	for c := range *clients {
		wg.Go(func() {
			var mine []time.Duration
			var err error
			for i := 0; err == nil; i++ {
				d, ok := next(i)
				if !ok {
					break
				}
				err = do(ctx, c, d.i)
				mine = append(mine, time.Since(d.at))
			}
			mu.Lock()
			defer mu.Unlock()
			took, failed = append(took, mine...), errors.Join(failed, err)
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	report(float64(len(took)*each)/time.Since(start).Seconds(), took)
	return nil
}

func report(perSecond float64, took []time.Duration) {
	slices.Sort(took)
	fmt.Printf("%.0f/s, half within %s, 99 %% within %s\n", perSecond, took[len(took)/2].Round(10*time.Microsecond), took[len(took)*99/100].Round(10*time.Microsecond))
}

func (l *load) post(ctx context.Context, path, body string) error {
	return l.do(ctx, http.MethodPost, path, body)
}

func (l *load) do(ctx context.Context, method, path, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, *base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := l.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return err
}

// watch measures from before an operation is sent to when a watcher has its event, for all watchers.
func (l *load) watch(ctx context.Context) error {
	if *rate == 0 {
		*rate = 10
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	sent := map[string]time.Time{}
	var took []time.Duration
	var began, done sync.WaitGroup
	operations := *rate * *seconds
	began.Add(*readers)
	for range *readers {
		done.Go(func() {
			lines, closer, err := l.stream(ctx)
			began.Done()
			if err != nil {
				fmt.Fprintln(os.Stderr, "config-load:", err)
				return
			}
			defer closer.Close()
			for range operations {
				value, err := next(lines)
				at := time.Now()
				if err != nil {
					fmt.Fprintln(os.Stderr, "config-load:", err)
					return
				}
				mu.Lock()
				took = append(took, at.Sub(sent[value]))
				mu.Unlock()
			}
		})
	}
	began.Wait()
	tick := time.NewTicker(time.Second / time.Duration(*rate))
	defer tick.Stop()
	for i := range operations {
		<-tick.C
		value := fmt.Sprint("watched:", time.Now().UnixNano())
		mu.Lock()
		sent[value] = time.Now()
		mu.Unlock()
		if err := l.post(ctx, "/v1/ops", fmt.Sprintf(`{"type":"set_field","entity_id":"service.w%d","field":"image","value":%q}`, i%100, value)); err != nil {
			return err
		}
	}
	done.Wait()
	report(float64(len(took))/float64(*seconds), took)
	return nil
}

// stream begins to watch. Its first line, the heartbeat, has come.
func (l *load) stream(ctx context.Context) (*bufio.Reader, io.Closer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, *base+"/v1/watch?field=image&env=production", nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := l.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	lines := bufio.NewReader(resp.Body)
	_, err = lines.ReadBytes('\n')
	return lines, resp.Body, err
}

// next returns what the next event's operation wrote.
func next(lines *bufio.Reader) (string, error) {
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return "", err
		}
		if bytes.HasPrefix(line, []byte(`{"heartbeat"`)) {
			continue
		}
		var e struct {
			Changes []struct {
				Field string `json:"field"`
				Value string `json:"value"`
			} `json:"changes"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return "", err
		}
		for _, c := range e.Changes {
			if c.Field == "image" {
				return c.Value, nil
			}
		}
	}
}
