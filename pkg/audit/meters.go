package audit

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// meters are what an operator watches of the recorder; refused or lost above zero deserves an alarm.
type meters struct {
	batch   prometheus.Observer
	commit  prometheus.Observer
	queue   prometheus.Gauge
	refused prometheus.Counter
	lost    prometheus.Counter
}

func newMeters(r *metric.Registry) meters {
	return meters{
		batch: r.Histogram("sallyport_audit_batch_decisions", "Decisions in one commit.",
			prometheus.ExponentialBuckets(1, 2, 10)).WithLabelValues(),
		commit: r.Histogram("sallyport_audit_commit_seconds", "How long a commit of records took.",
			prometheus.ExponentialBuckets(0.0002, 2, 16)).WithLabelValues(),
		queue: r.Gauge("sallyport_audit_queue_decisions", "Decisions that waited when the last commit began.").WithLabelValues(),
		refused: r.Counter("sallyport_audit_refused_decisions_total",
			"Decisions that could not be recorded, so that their requests were refused.").WithLabelValues(),
		lost: r.Counter("sallyport_audit_lost_outcomes_total", "Outcomes that will never be on record.").WithLabelValues(),
	}
}
