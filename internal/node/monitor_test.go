package node_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/node"
)

var update = flag.Bool("update", false, "rewrite what is generated: the table of metrics in docs/guide/operate.md")

const (
	rulesFile     = "../../deploy/prometheus/skep.rules.yml"
	dashboardFile = "../../deploy/grafana/skep.json"
	operatePage   = "../../docs/guide/operate.md"
)

// tool finds a program of Prometheus'. Without it the test is left out; with SKEP_TEST_ALL=1 it fails.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	missing := name + " is not installed (on Debian: apt-get install prometheus)"
	switch {
	case err != nil && os.Getenv("SKEP_TEST_ALL") == "1":
		t.Fatal(missing)
	case err != nil:
		t.Skip(missing)
	}
	return path
}

// busy runs a node that has served a push, fetches, calls and denials.
func busy(t *testing.T) *node.Node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	n, _ := startWith(t, node.Options{DataDir: dir, SSHAddr: "127.0.0.1:0"})
	token, err := adminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	traffic(t, n, token, "one")
	return n
}

func traffic(t *testing.T, n *node.Node, token, name string) {
	t.Helper()
	src := t.TempDir()
	runGit(t, src, "init", "-q", "-b", "main")
	runGit(t, src, "commit", "-q", "--allow-empty", "-m", "first")
	remote := strings.Replace(n.URL(), "://", "://any:"+token+"@", 1) + "/default/" + name + ".git"
	runGit(t, src, "push", "-q", remote, "main")
	for _, copied := range []string{"a", "b"} {
		runGit(t, t.TempDir(), "clone", "-q", remote, copied)
	}
	if _, err := api(t, n, token).Repo(t.Context(), "default/"+name); err != nil {
		t.Fatal(err)
	}
	if _, err := api(t, n, "wrong").Repos(t.Context(), "", "", 1); err == nil {
		t.Fatal("a wrong token is good")
	}
}

func scrape(t *testing.T, n *node.Node) string {
	t.Helper()
	return fetch(t, n.URL()+"/metrics")
}

func fetch(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v: %s", address, resp.Status, err, b)
	}
	return string(b)
}

var (
	seriesLine = regexp.MustCompile(`(?m)^(skep_[a-z_]+)(\{[^}]*\})? `)
	helpLine   = regexp.MustCompile(`(?m)^# HELP (skep_[a-z_]+) (.*)\n# TYPE \S+ (\S+)$`)
	labelName  = regexp.MustCompile(`([a-z_]+)="`)
)

func series(text string) (names []string) {
	for _, m := range seriesLine.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1]+m[2])
	}
	slices.Sort(names)
	return names
}

// TestMetricsAreDocumented: the guide's table has all that there is, and nothing else.
func TestMetricsAreDocumented(t *testing.T) {
	text := scrape(t, busy(t))
	labels := map[string][]string{}
	for _, s := range series(text) {
		name, rest, _ := strings.Cut(s, "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		for _, m := range labelName.FindAllStringSubmatch(rest, -1) {
			if m[1] != "le" && !slices.Contains(labels[name], "`"+m[1]+"`") {
				labels[name] = append(labels[name], "`"+m[1]+"`")
			}
		}
	}
	table := "| Metric | Type | Labels | What |\n|---|---|---|---|\n"
	for _, m := range helpLine.FindAllStringSubmatch(text, -1) {
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", m[1], m[3], strings.Join(labels[m[1]], ", "), m[2])
	}
	page, err := os.ReadFile(operatePage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- The table is generated: go test ./internal/node -update -->\n\n", "<!-- end of the table -->"
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatal("the page has no place for the table")
	}
	want := head + begin + table + "\n" + end + tail
	if *update {
		if err := os.WriteFile(operatePage, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(page), want); diff != "" {
		t.Errorf("docs/guide/operate.md differs; run go test ./internal/node -update (-page +metrics):\n%s", diff)
	}
}

// TestMetricsDoNotGrow: more repositories, principals and requests make no more series.
func TestMetricsDoNotGrow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n, _ := startWith(t, node.Options{DataDir: dir})
	token, err := adminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := series(scrape(t, n))
	for i := range 3 {
		traffic(t, n, token, fmt.Sprint("repo-", i))
	}
	if diff := cmp.Diff(before, series(scrape(t, n))); diff != "" {
		t.Errorf("series (-before +after):\n%s", diff)
	}
}

func TestAlertRulesAreValid(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), tool(t, "promtool"), "check", "rules", rulesFile).CombinedOutput()
	if err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestDashboardAndAlertsFindData: a real Prometheus that scrapes a real node has data for each query of the dashboard, and for what
// each alert looks at.
func TestDashboardAndAlertsFindData(t *testing.T) {
	program := tool(t, "prometheus")
	n := busy(t)
	p := startPrometheus(t, program, n)
	p.until(`count_over_time(skep_cells_open{job="skep"}[1m]) >= 3`)
	for name, query := range queries(t) {
		if n := len(p.query(query)); n == 0 {
			t.Errorf("%s: no data for %s", name, query)
		}
	}
	// And the figures are those of what was done.
	for query, want := range map[string]string{
		`skep_operations_total{operation="push"}`: "1", `skep_operations_total{operation="fetch"}`: "2",
		`skep_answers_made_total + skep_answers_shared_total`: "2", `skep_http_denied_total{reason="unauthorized"} > bool 0`: "1",
	} {
		got := p.query(query)
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s = %v, want %s", query, got, want)
		}
	}
}

// queries are those of the dashboard's panels, and of the alerts without the comparison at their end.
func queries(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	b, err := os.ReadFile(dashboardFile)
	if err == nil {
		err = json.Unmarshal(b, &dashboard)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, p := range dashboard.Panels {
		for i, q := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$job", "skep").Replace(q.Expr)
			all[fmt.Sprintf("panel %s, query %d", p.Title, i+1)] = expr
		}
	}
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`- alert: (\w+)\n +expr: (.*) (>|==) [0-9.]+\n`).FindAllStringSubmatch(string(rules), -1) {
		all["alert "+m[1]] = m[2]
	}
	if want := strings.Count(string(rules), "- alert: ") + strings.Count(string(b), `"expr": `); len(all) != want || len(all) < 30 {
		t.Fatalf("there are %d queries, and %d were found", want, len(all))
	}
	return all
}

// prometheus is a server that scrapes a node.
type prometheus struct {
	t    *testing.T
	url  string
	done chan struct{} // closed when it has ended
	log  string
}

func startPrometheus(t *testing.T, program string, n *node.Node) *prometheus {
	t.Helper()
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close() // it takes no listener, and does not say which port it took
	config := fmt.Sprintf("global: {scrape_interval: 100ms, scrape_timeout: 100ms}\nscrape_configs: [{job_name: skep, static_configs: [{targets: [%q]}]}]\n", n.Addr().String())
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t, url: "http://" + address, done: make(chan struct{}), log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // how it ended does not matter
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-p.done
		_ = log.Close()
	})
	return p
}

// until asks until a query has a result.
func (p *prometheus) until(query string) {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			text, _ := os.ReadFile(p.log)
			p.t.Fatalf("prometheus has ended:\n%s", text)
		case <-p.t.Context().Done():
			p.t.Fatal("prometheus does not answer")
		case <-tick.C:
		}
		if resp, err := http.Get(p.url + "/-/ready"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK && len(p.query(query)) > 0 {
				return
			}
		}
	}
}

// query returns the values of a query's result.
func (p *prometheus) query(query string) (values []string) {
	p.t.Helper()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal([]byte(fetch(p.t, p.url+"/api/v1/query?query="+url.QueryEscape(query))), &answer); err != nil {
		p.t.Fatal(err)
	}
	for _, r := range answer.Data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values
}
