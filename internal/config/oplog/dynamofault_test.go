package oplog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/dynalitetest"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
	"github.com/skep-dev/skep/internal/errkind"
)

// faulty stands between a store and the server, and decides about each request: pass it on and its answer back, or break the
// connection before or after the server has done it.
type faulty struct {
	endpoint string
	url      string
	mu       sync.Mutex
	fate     func(action, body string) fate // guarded by mu; nil: all pass
}

type fate int

const (
	pass fate = iota
	refuse
	loseAnswer
)

func newFaulty(t *testing.T, endpoint string) *faulty {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{endpoint: endpoint}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		switch f.decide(r.Header.Get("X-Amz-Target"), string(body)) {
		case refuse:
			panic(http.ErrAbortHandler)
		case loseAnswer:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case pass:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *faulty) decide(target, body string) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fate == nil {
		return pass
	}
	_, action, _ := strings.Cut(target, ".")
	return f.fate(action, body)
}

func (f *faulty) set(fate func(action, body string) fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fate = fate
}

// loseOne loses the answer to the first request of a kind.
func (f *faulty) loseOne(action, with string) (lost func() bool) {
	done := false
	f.set(func(a, body string) fate {
		if done || a != action || !strings.Contains(body, with) {
			return pass
		}
		done = true
		return loseAnswer
	})
	return func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return done
	}
}

func dynamo(t *testing.T, table, endpoint string) oplog.Store {
	t.Helper()
	s, err := oplog.OpenDynamo(t.Context(), oplog.DynamoOptions{Table: table, Region: "eu-central-1", Endpoint: endpoint, CreateTable: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDynamoLostAnswers: what an attempt has done whose answer was lost is not done twice, and not taken for another one's work.
func TestDynamoLostAnswers(t *testing.T) {
	ctx := t.Context()
	f := newFaulty(t, dynalitetest.New(t))
	s := dynamo(t, "lost", f.url)
	wantLost := func(what string, lost func() bool, err error) {
		t.Helper()
		if err != nil || !lost() {
			t.Errorf("%s: %v, lost: %v", what, err, lost())
		}
	}
	lost := f.loseOne("PutItem", `"documents"`)
	wantLost("create", lost, s.Create(ctx, "shop"))
	log, err := s.Open(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	var want []oplog.Record
	for _, size := range []int{300, 300, 2 * oplog.ItemBytes} {
		var head oplog.Head
		if len(want) > 0 {
			head = oplogtest.After(want)
		}
		records := oplogtest.Chain(head, 2, func(int) int { return size })
		lost = f.loseOne("PutItem", `"head"`)
		wantLost("append", lost, log.Append(ctx, head, records))
		want = append(want, records...)
	}
	lost = f.loseOne("PutItem", `"m#k"`)
	wantLost("swap", lost, log.SwapMeta(ctx, "k", nil, []byte("v")))
	lost = f.loseOne("PutItem", `"attribute_not_exists(s) OR n <= :n"`)
	wantLost("snapshot", lost, log.SaveSnapshot(ctx, 6, []byte("state")))
	lost = f.loseOne("DeleteItem", `"m#k"`)
	if err := log.SwapMeta(ctx, "k", []byte("v"), nil); errkind.Of(err) != errkind.Unavailable || !lost() {
		t.Errorf("swap away: %v, want Unavailable: nobody can say", err)
	}
	f.set(nil)
	if _, data, err := log.Snapshot(ctx); err != nil || string(data) != "state" {
		t.Errorf("snapshot: %q, %v", data, err)
	}
	got := readAll(t, log)
	if len(got) != len(want) || oplogtest.After(got) != oplogtest.After(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
}

func readAll(t *testing.T, log oplog.Log) (out []oplog.Record) {
	t.Helper()
	err := log.Read(t.Context(), 1, 0, func(r oplog.Record) error {
		out = append(out, oplog.Record{Seq: r.Seq, Hash: r.Hash, Data: bytes.Clone(r.Data)})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

// TestDynamoStops: a process that stops after any number of requests leaves all of an Append or nothing, and the log goes on.
func TestDynamoStops(t *testing.T) {
	endpoint := dynalitetest.New(t)
	f := newFaulty(t, endpoint)
	stopping, other := dynamo(t, "stops", f.url), dynamo(t, "stops", endpoint)
	for _, size := range []int{300, 2 * oplog.ItemBytes} {
		whole := false
		for requests := 0; !whole; requests++ {
			f.set(nil)
			doc := "doc-" + strings.Repeat("x", requests) + map[bool]string{true: "-big"}[size > 300]
			whole = stopAfter(t, f, stopping, other, doc, size, requests)
			if requests > 20 {
				t.Fatal("an Append never ends")
			}
		}
	}
}

// stopAfter appends until so many requests are made. It reports whether they were enough.
func stopAfter(t *testing.T, f *faulty, stopping, other oplog.Store, doc string, size, requests int) (acked bool) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(other.Create(t.Context(), doc))
	log, err := stopping.Open(t.Context(), doc)
	must(err)
	first := oplogtest.Chain(oplog.Head{}, 2, func(int) int { return size })
	must(log.Append(t.Context(), oplog.Head{}, first))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	made := 0
	f.set(func(string, string) fate {
		if made == requests {
			stop()
			return refuse
		}
		made++
		return pass
	})
	second := oplogtest.Chain(oplogtest.After(first), 2, func(int) int { return size })
	err = log.Append(ctx, oplogtest.After(first), second)
	acked = err == nil
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("stopped after %d requests: %v", requests, err)
	}

	now, err := other.Open(t.Context(), doc)
	must(err)
	head, err := now.Head(t.Context())
	must(err)
	switch got := readAll(t, now); {
	case head == oplogtest.After(first) && len(got) == 2 && !acked:
	case head == oplogtest.After(second) && len(got) == 4:
	default:
		t.Errorf("stopped after %d requests: head is %d with %d records, acknowledged: %v", requests, head.Seq, len(got), acked)
	}
	must(now.Append(t.Context(), head, oplogtest.Chain(head, 1, func(int) int { return size })))
	if got := readAll(t, now); uint64(len(got)) != head.Seq+1 {
		t.Errorf("after one more, %d records, want %d", len(got), head.Seq+1)
	}
	return acked
}

// TestDynamoDelete: nothing is left of a document, and of one whose removal was left off the name can be used again.
func TestDynamoDelete(t *testing.T) {
	ctx, endpoint := t.Context(), dynalitetest.New(t)
	s := dynamo(t, "gone", endpoint)
	client := dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	items := func() int {
		t.Helper()
		out, err := client.Scan(ctx, &dynamodb.ScanInput{TableName: aws.String("gone"), ProjectionExpression: aws.String("p, s")})
		if err != nil {
			t.Fatal(err)
		}
		return int(out.Count)
	}
	log := filled(t, s, "shop", 3)
	head, err := log.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{3, 5, 5} { // the last one is all that is kept
		if err := log.SaveSnapshot(ctx, seq, make([]byte, oplog.ItemBytes+1)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		if err := log.SetMeta(ctx, strings.Repeat("k", i+1), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	// The name, the head, two blocks before its own, the snapshot with two parts, and the values.
	if got, want := items(), 1+1+2+3+40; got != want {
		t.Errorf("%d items, want %d", got, want)
	}
	// Whoever appends meanwhile loses.
	if err := s.Delete(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	if got := items(); got != 0 {
		t.Errorf("%d items are left", got)
	}
	if err := log.Append(ctx, head, oplogtest.Chain(head, 1, func(int) int { return 10 })); errkind.Of(err) != errkind.NotFound {
		t.Errorf("append: %v", err)
	}

	f := newFaulty(t, endpoint)
	stopping := dynamo(t, "gone", f.url)
	for requests := range 4 {
		f.set(nil)
		if err := s.Create(ctx, "fair"); err != nil && errkind.Of(err) != errkind.Exists {
			t.Fatal(err)
		}
		left, stop := context.WithCancel(ctx)
		made := 0
		f.set(func(string, string) fate {
			if made == requests {
				stop()
				return refuse
			}
			made++
			return pass
		})
		if err := stopping.Delete(left, "fair"); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped after %d requests: %v", requests, err)
		}
		stop()
		_, openErr := s.Open(ctx, "fair")
		createErr := s.Create(ctx, "fair")
		if (openErr == nil) != (errkind.Of(createErr) == errkind.Exists) || (createErr != nil && openErr != nil) {
			t.Errorf("stopped after %d requests: open: %v, create: %v", requests, openErr, createErr)
		}
	}
}

func TestDynamoNoTable(t *testing.T) {
	endpoint := dynalitetest.New(t)
	opts := oplog.DynamoOptions{Table: "missing", Region: "eu-central-1", Endpoint: endpoint}
	if _, err := oplog.OpenDynamo(t.Context(), opts); errkind.Of(err) != errkind.NotFound {
		t.Errorf("open: %v", err)
	}
	opts.Endpoint = "http://127.0.0.1:1"
	if _, err := oplog.OpenDynamo(t.Context(), opts); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("open where nobody answers: %v", err)
	}
}

// TestDynamoContainer: in a container the credentials come from where its environment says, with the token that is in a file.
func TestDynamoContainer(t *testing.T) {
	endpoint := dynalitetest.New(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("let-me-in"), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked []string
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Authorization"))
		_ = json.NewEncoder(w).Encode(map[string]string{
			"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "token", "Expiration": "2100-01-01T00:00:00Z",
		})
	}))
	defer source.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", source.URL)
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)
	s := dynamo(t, "container", endpoint)
	if err := s.Create(t.Context(), "shop"); err != nil {
		t.Error(err)
	}
	if strings.Join(asked, " ") != "let-me-in" {
		t.Errorf("asked with %q", asked)
	}
	for _, elsewhere := range []string{"http://192.0.2.1/", "http://localhost.example.com/", "ftp://127.0.0.1/", "127.0.0.1", "http:///x"} {
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", elsewhere)
		_, err := oplog.OpenDynamo(t.Context(), oplog.DynamoOptions{Table: "container", Region: "eu-central-1", Endpoint: endpoint})
		if errkind.Of(err) != errkind.Invalid {
			t.Errorf("credentials from %s: %v, want Invalid", elsewhere, err)
		}
	}
}
