package ingress

import "github.com/prometheus/client_golang/prometheus"

// collector reads the origins when it is asked, so that the metrics follow whatever rules are in force.
type collector struct{ in *Ingress }

var _ prometheus.Collector = collector{}

// Describe implements prometheus.Collector; with nothing described, the registry does not check names beforehand.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, h := range c.in.Health() {
		if seen[h.Name] {
			continue // two rules may give one name; a name twice would fail the whole page
		}
		seen[h.Name] = true
		put := func(name, help string, value float64) {
			desc := prometheus.NewDesc("sallyport_origin_"+name, help, []string{"origin"}, nil)
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, h.Name)
		}
		put("healthy", "1 while the origin answers as its rule wants.", one(h.Healthy))
		put("circuit_open", "1 while exchanges are refused because the origin does not answer.", one(h.Circuit != "closed"))
		put("running", "Exchanges that the origin works on.", float64(h.Running))
		put("waiting", "Exchanges that wait for the origin.", float64(h.Waiting))
		put("check_seconds", "How long the last answered check took, in seconds; 0 without an answer.", h.Latency.Seconds())
		if !h.Expires.IsZero() {
			put("certificate_expires_seconds", "When the origin's certificate ends, in seconds since 1970.", float64(h.Expires.Unix()))
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
