package fec

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// Metrics count repair packets that were sent, and packets that were made good by those that came.
type Metrics struct{ sent, repaired prometheus.Counter }

// NewMetrics registers them.
func NewMetrics(r *metric.Registry) *Metrics {
	c := r.Counter("sallyport_link_repairs_total",
		"Repair packets that were sent over QUIC because the line loses packets (sent), and lost packets that those of peers made good (repaired).", "what")
	return &Metrics{sent: c.WithLabelValues("sent"), repaired: c.WithLabelValues("repaired")}
}

func (m *Metrics) noteSent() {
	if m != nil {
		m.sent.Inc()
	}
}

func (m *Metrics) noteRepaired() {
	if m != nil {
		m.repaired.Inc()
	}
}
