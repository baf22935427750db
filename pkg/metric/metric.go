// Package metric owns the Prometheus registry of a process and the rules for names: sallyport_<noun>_<what>[_<unit>], labels
// from small fixed sets only, never a tenant's data. Serving it is for a loopback listener alone.
package metric

import (
	"fmt"
	"net/http"
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var name = regexp.MustCompile(`^sallyport(_[a-z0-9]+){2,}$`)

// Registry makes and gathers the metrics of one process.
type Registry struct{ *prometheus.Registry }

// New returns a registry with the Go runtime's and the process's own metrics in it.
func New() *Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{r}
}

// Counter registers a counter. It panics on a name outside the rules or one that is taken: both are mistakes of the
// program, found at start.
func (r *Registry) Counter(metric, help string, labels ...string) *prometheus.CounterVec {
	return register(r, metric, prometheus.NewCounterVec(prometheus.CounterOpts{Name: metric, Help: help}, labels))
}

// Gauge registers a gauge; it panics like Counter.
func (r *Registry) Gauge(metric, help string, labels ...string) *prometheus.GaugeVec {
	return register(r, metric, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: metric, Help: help}, labels))
}

// Histogram registers a histogram with upper bounds in the metric's unit; it panics like Counter.
func (r *Registry) Histogram(metric, help string, bounds []float64, labels ...string) *prometheus.HistogramVec {
	opts := prometheus.HistogramOpts{Name: metric, Help: help, Buckets: bounds}
	return register(r, metric, prometheus.NewHistogramVec(opts, labels))
}

// Handler serves the metrics in Prometheus' text format.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.Registry, promhttp.HandlerOpts{Registry: r.Registry})
}

func register[C prometheus.Collector](r *Registry, metric string, c C) C {
	if !name.MatchString(metric) {
		panic(fmt.Sprintf("metric %q: want sallyport_<noun>_<what>", metric))
	}
	r.MustRegister(c)
	return c
}
