package ingress

import (
	"fmt"
	"time"
)

// grace is how much later than its interval an answer still counts as lately.
const grace = 15 * time.Second

// OriginHealth is how one origin fares, for /ready, metrics and heartbeats.
type OriginHealth struct {
	// Name is the rule's name for it, or origin-1, origin-2, … in the order of the rules.
	Name string
	// Origin is scheme and authority as the rule has it.
	Origin string
	// Healthy means that it answered lately, a check or a user's request, and that the last check found what the rule wants.
	Healthy bool
	// State is one of the State… words.
	State string
	// Circuit is closed, open or testing.
	Circuit string
	// Answered is the last answer, Probed the last check; zero for none.
	Answered, Probed time.Time
	// Status and Problem are what the last check got, Problem empty when it was content; Latency is how long it took from the
	// dial to the head of the answer.
	Status  int
	Problem string
	Latency time.Duration
	// Expires is the end of the certificate that it showed last; zero for http. Warning is set when that is near and the
	// connector checks dates, which it does unless the rule has a pin alone.
	Expires time.Time
	Warning string
	// Running and Waiting are how many exchanges it works on and how many queue for it.
	Running, Waiting int
}

// health is what is known of an origin; the origin's mutex guards it.
type health struct {
	answeredAt, when time.Time
	status           int
	state, problem   string
	latency          time.Duration
	unfit            int // checks in a row that were answered, but not as the rule wants
	warned           int // which warning of the certificate's end is in the log
}

// Health reports each origin once, in the order of the rules.
func (in *Ingress) Health() []OriginHealth {
	origins := in.current.Load().origins
	all := make([]OriginHealth, 0, len(origins))
	for _, o := range origins {
		all = append(all, o.report())
	}
	return all
}

// Serving reports whether every rule has an origin that is healthy.
func (in *Ingress) Serving() bool {
	for _, g := range in.current.Load().groups {
		if g != nil && !g.serving() {
			return false
		}
	}
	return true
}

func (g *group) serving() bool {
	for _, o := range g.origins {
		if o.report().Healthy {
			return true
		}
	}
	return false
}

func (o *origin) report() OriginHealth {
	running, waiting := o.queue.load()
	o.mu.Lock()
	defer o.mu.Unlock()
	h, now := &o.health, o.now()
	lately := now.Sub(h.answeredAt) <= o.probe.Interval+grace
	r := OriginHealth{
		Name: o.name, Origin: o.url.String(), Healthy: lately && h.problem == "" && o.circuit.state == circuitClosed,
		State: h.state, Circuit: o.circuit.state.String(), Answered: h.answeredAt, Probed: h.when, Status: h.status, Problem: h.problem,
		Latency: h.latency, Running: running, Waiting: waiting,
	}
	if at := o.dialer.expires.Load(); at != 0 {
		r.Expires = time.Unix(at, 0)
		r.Warning = o.warning(r.Expires, now)
	}
	switch {
	case r.Healthy && waiting > 0:
		r.State = StateBusy
	case r.Healthy:
		r.State = StateOK
	case r.State == "" && h.when.IsZero():
		r.State = StateUnchecked
	case r.State == "" || r.State == StateOK:
		r.State = StateTimeout // it was well, and nothing has been heard of it since
	}
	return r
}

// The days before a certificate's end at which the log warns; then once more when it is over.
const (
	firstWarning = 30
	lastWarning  = 7
)

// urgency is 0 while the end is far, and rises with each warning.
func urgency(left time.Duration) int {
	const day = 24 * time.Hour
	switch {
	case left <= 0:
		return 3
	case left <= lastWarning*day:
		return 2
	case left <= firstWarning*day:
		return 1
	}
	return 0
}

func (o *origin) warning(expires, now time.Time) string {
	if len(o.tls.Pin) > 0 && o.tls.Roots == nil {
		return ""
	}
	left := expires.Sub(now)
	switch urgency(left) {
	case 0:
		return ""
	case 3:
		return "its certificate has expired"
	}
	return fmt.Sprintf("its certificate expires in %d days", int(left.Hours()/24))
}
