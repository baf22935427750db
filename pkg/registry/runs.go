package registry

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// A process that has been replaced never comes back under its old instance id, so an instance that returns after another
// one has joined means that two machines hold one key. The first return within returnWindow is an alarm, the second one
// freezes the connector: one alone may be a process that hung while it was being replaced.
const (
	returnWindow = time.Hour
	returnLimit  = 2
	maxInstances = 16
)

// Alarm says that a connector's key is in use by two processes.
type Alarm struct {
	Tenant    id.Tenant
	Site      id.Site
	Connector id.Connector
	// Frozen is true when the connector's links were closed and no new one is taken until Thaw.
	Frozen bool
	// Why is in plain words, for the operator.
	Why string
}

// runs is what is remembered of one connector's processes.
type runs struct {
	issue sync.Mutex // one Generation at a time, so that all links of one process get one number; never under Registry.mu

	// Below is guarded by Registry.mu.
	seen    []run // oldest first, the last is the newest process
	returns []time.Time
	frozen  string
	used    time.Time
}

type run struct {
	instance   string
	generation uint64
}

// Who names the process that asks for a generation.
type Who struct {
	Tenant    id.Tenant
	Site      id.Site
	Connector id.Connector
	Instance  string
}

// Generation returns the generation that a link of this process joins: the one its earlier links have or, for a process
// not seen before or replaced since, a new one from next. A frozen connector gets fault.Denied.
func (r *Registry) Generation(ctx context.Context, w Who, next func(context.Context) (uint64, error)) (uint64, error) {
	known := r.runsOf(w.Connector)
	known.issue.Lock()
	defer known.issue.Unlock()
	generation, alarm, err := r.current(known, w)
	if alarm != nil {
		r.raise(*alarm)
	}
	if err != nil || generation != 0 {
		return generation, err
	}
	if generation, err = next(ctx); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known.seen = append(slices.DeleteFunc(known.seen, func(o run) bool { return o.instance == w.Instance }), run{w.Instance, generation})
	if len(known.seen) > maxInstances {
		known.seen = known.seen[1:]
	}
	return generation, nil
}

func (r *Registry) runsOf(c id.Connector) *runs {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	if now.Sub(r.swept) > time.Minute {
		r.swept = now
		for key, old := range r.runs {
			if old.frozen == "" && now.Sub(old.used) > 24*time.Hour && !r.connected(key) {
				delete(r.runs, key)
			}
		}
	}
	if r.runs[c] == nil {
		r.runs[c] = &runs{}
	}
	r.runs[c].used = now
	return r.runs[c]
}

func (r *Registry) connected(c id.Connector) bool {
	for _, s := range r.sites {
		if slices.ContainsFunc(s.members, func(m *member) bool { return m.Connector == c }) {
			return true
		}
	}
	return false
}

// current returns the generation of a process that is the newest, 0 for one that needs a new number.
func (r *Registry) current(known *runs, w Who) (uint64, *Alarm, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.IndexFunc(known.seen, func(o run) bool { return o.instance == w.Instance })
	switch {
	case known.frozen != "":
		return 0, nil, frozenFault(known.frozen)
	case at >= 0 && at == len(known.seen)-1:
		return known.seen[at].generation, nil, nil
	case at < 0:
		return 0, nil, nil
	}
	now := r.cfg.Now()
	known.returns = append(slices.DeleteFunc(known.returns, func(t time.Time) bool { return now.Sub(t) > returnWindow }), now)
	alarm := &Alarm{Tenant: w.Tenant, Site: w.Site, Connector: w.Connector, Why: "two processes use this connector's key"}
	if len(known.returns) < returnLimit {
		return 0, alarm, nil
	}
	alarm.Frozen, known.frozen = true, alarm.Why
	return 0, alarm, frozenFault(known.frozen)
}

func frozenFault(why string) error {
	return fault.New(fault.Denied, "this connector is frozen: %s; the operator can find out which is the copy, and thaw or revoke it", why)
}

func (r *Registry) raise(a Alarm) {
	action := "alarm"
	if a.Frozen {
		action = "freeze"
		r.CloseConnector(a.Connector, tunnel.Reason{Code: tunnel.ReasonRefused, Message: "frozen: " + a.Why, RetryAfter: time.Minute})
	}
	r.twice.WithLabelValues(action).Inc()
	r.cfg.Logger.Error("copied connector key", log.Tenant(a.Tenant), log.Site(a.Site), log.Connector(a.Connector),
		zap.Bool("frozen", a.Frozen), zap.String("why", a.Why))
	if r.cfg.Alarm != nil {
		r.cfg.Alarm(a)
	}
}

// Thaw lets a frozen connector join again; one that is not frozen is left as it is.
func (r *Registry) Thaw(c id.Connector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.runs[c]; known != nil && known.frozen != "" {
		delete(r.runs, c)
	}
}
