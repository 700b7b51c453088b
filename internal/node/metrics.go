package node

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skep-dev/skep/internal/errkind"
)

// transactions are the control plane's, for /metrics.
type transactions struct {
	took   *prometheus.HistogramVec
	failed *prometheus.CounterVec
	of     [2]struct {
		took   prometheus.Observer
		failed prometheus.Counter
	}
}

func newTransactions() *transactions {
	t := &transactions{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "skep_control_duration_seconds", Help: "Time that transactions on the control plane's database took.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5},
		}, []string{"access"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skep_control_errors_total", Help: "Transactions on the control plane's database that failed. What it refuses, such as a name that is taken, is no failure.",
		}, []string{"access"}),
	}
	for i, access := range [...]string{"read", "write"} {
		t.of[i].took, t.of[i].failed = t.took.WithLabelValues(access), t.failed.WithLabelValues(access)
	}
	return t
}

func (t *transactions) observe(write bool, took time.Duration, err error) {
	one := &t.of[0]
	if write {
		one = &t.of[1]
	}
	one.took.Observe(took.Seconds())
	if k := errkind.Of(err); err != nil && (k == errkind.Internal || k == errkind.Unavailable) && !errors.Is(err, context.Canceled) {
		one.failed.Inc()
	}
}
