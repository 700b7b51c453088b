package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/usage"
)

// route is a class of requests. Metrics are labelled by it and never by repository or tenant: their number is not bounded,
// and their names are nobody else's business.
type route uint8

const (
	routeOther route = iota
	routeSystem
	routeInfoRefs
	routeUploadPack
	routeReceivePack
	routeAPIRead
	routeAPIWrite
	routeLogin  // pages
	routeDevice // terminals that log in
	routeStreamUpload
	routeStreamReceive
	routeStreamArchive
	routes // how many there are
)

var routeNames = [routes]string{
	routeOther:       "other",
	routeSystem:      "system",
	routeInfoRefs:    "git_info_refs",
	routeUploadPack:  "git_upload_pack",
	routeReceivePack: "git_receive_pack",
	routeAPIRead:     "api_read",
	routeAPIWrite:    "api_write",
	routeLogin:       "login",
	routeDevice:      "device",

	routeStreamUpload:  "ssh_upload_pack",
	routeStreamReceive: "ssh_receive_pack",
	routeStreamArchive: "ssh_upload_archive",
}

func (r route) String() string { return routeNames[r] }

// metrics count requests. The counters are looked up once, at the start.
type metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	served   [routes][6]prometheus.Counter // by the status's first digit; 0: none was sent
	took     [routes]prometheus.Observer
	in, out  [routes]prometheus.Counter
	refused  prometheus.Counter
	panics   prometheus.Counter

	operations map[usage.Kind]prometheus.Counter
	overQuota  map[control.Quota]prometheus.Counter
	denied     map[int]prometheus.Counter // by status
}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "skep_http_requests_total", Help: "Requests served, by route and class of status.",
	}, []string{"route", "status"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "skep_http_request_duration_seconds", Help: "Time from a request's headers to the end of its answer.",
		Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30, 120, 600},
	}, []string{"route"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "skep_http_bytes_total", Help: "Bytes of request bodies (in) and answers (out).",
	}, []string{"route", "direction"})
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "skep_http_refused_total", Help: "Requests answered 503 because too many were running and waiting.",
	})
	m.panics = prometheus.NewCounter(prometheus.CounterOpts{Name: "skep_http_panics_total", Help: "Handlers that panicked."})
	for r := range routes {
		for i := range m.served[r] {
			m.served[r][i] = requests.WithLabelValues(r.String(), strconv.Itoa(i)+"xx")
		}
		m.took[r] = took.WithLabelValues(r.String())
		m.in[r], m.out[r] = bytes.WithLabelValues(r.String(), "in"), bytes.WithLabelValues(r.String(), "out")
	}
	m.registry.MustRegister(m.events(s)...)
	m.registry.MustRegister(requests, took, bytes, m.refused, m.panics, s.rates.collector(),
		inFlight("transfers", s.transfers), inFlight("calls", s.calls), inFlight("guests", s.guests), inFlight("heavy", s.heavy),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "skep_cells_open", Help: "Repositories open."},
			func() float64 { return float64(s.router.OpenCells()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	return m
}

// events are the counters of what an operator looks for first.
func (m *metrics) events(s *Server) []prometheus.Collector {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	operations := vec("skep_operations_total", "Fetches, pushes, archives and other calls about tenants and repositories that were let in.", "operation")
	m.operations = map[usage.Kind]prometheus.Counter{}
	for _, k := range []usage.Kind{usage.Fetch, usage.Push, usage.Archive, usage.APIRead, usage.APIWrite} {
		m.operations[k] = operations.WithLabelValues(k.String())
	}
	overQuota := vec("skep_quota_refused_total", "Requests refused because a tenant's quota is used up, by the quota.", "quota")
	m.overQuota = map[control.Quota]prometheus.Counter{}
	for _, q := range control.AllQuotas() {
		m.overQuota[q] = overQuota.WithLabelValues(string(q))
	}
	denied := vec("skep_http_denied_total", "Requests denied: without a credential that is good, not allowed, or about what is missing or hidden.", "reason")
	m.denied = map[int]prometheus.Counter{
		http.StatusUnauthorized: denied.WithLabelValues("unauthorized"),
		http.StatusForbidden:    denied.WithLabelValues("forbidden"),
		http.StatusNotFound:     denied.WithLabelValues("not_found"),
	}
	count := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	list := []prometheus.Collector{
		operations, overQuota, denied,
		count("skep_answers_shared_total", "Fetches that got an answer which was kept or just being made.", func() int64 { n, _ := s.router.Answers(); return n }),
		count("skep_answers_made_total", "Fetches whose answer was made for them.", func() int64 { _, n := s.router.Answers(); return n }),
	}
	if meter := s.opts.Meter; meter != nil {
		list = append(list,
			count("skep_usage_flush_failures_total", "Batches of counted usage that the control plane did not take at once. They are tried again.", meter.Failures),
			count("skep_usage_lost_total", "Requests whose usage was counted for nobody, because too much waited to be stored.", meter.Lost))
	}
	return list
}

func inFlight(name string, p *pool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "skep_http_in_flight", Help: "Requests running.", ConstLabels: prometheus.Labels{"pool": name},
	}, func() float64 { return float64(p.running()) })
}

// done counts a finished request.
func (m *metrics) done(c *call, took time.Duration) {
	class := c.w.status / 100
	if class < 0 || class >= len(m.served[0]) {
		class = 0
	}
	m.served[c.route][class].Inc()
	if d := m.denied[c.w.status]; d != nil {
		d.Inc()
	}
	m.took[c.route].Observe(took.Seconds())
	if c.w.bytes > 0 {
		m.out[c.route].Add(float64(c.w.bytes))
	}
	if c.body.bytes > 0 {
		m.in[c.route].Add(float64(c.body.bytes))
	}
}
