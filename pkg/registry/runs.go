package registry

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// A process that has been replaced never comes back under its old instance id, so an instance that returns after another
// one has joined, on whichever edge, means that two machines hold one key. The first return within enroll.ReturnWindow is an
// alarm, the second one freezes the connector: one alone may be a process that hung while it was being replaced.
const returnLimit = 2

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
	instance   string // the newest process that this edge knows; empty: the store is asked
	generation uint64
	frozen     string
	used       time.Time
}

// forget has the store asked again, because a newer generation is known.
func (k *runs) forget(newer uint64) {
	if k.generation < newer {
		k.instance = ""
	}
}

// Who names the process that asks for a generation.
type Who struct {
	Tenant    id.Tenant
	Site      id.Site
	Connector id.Connector
	Instance  string
}

// Generation returns the generation that a link of this process joins: the one its earlier links here have or, for a process
// that is not the newest that this edge knows, what join says, which asks the store. A frozen connector gets fault.Denied.
func (r *Registry) Generation(ctx context.Context, w Who, join func(context.Context) (enroll.Run, error)) (uint64, error) {
	known := r.runsOf(w.Connector)
	known.issue.Lock()
	defer known.issue.Unlock()
	generation, err := r.current(known, w)
	if err != nil || generation != 0 {
		return generation, err
	}
	run, err := join(ctx)
	if err != nil {
		return 0, err
	}
	if run.Returns > 0 {
		alarm := Alarm{
			Tenant: w.Tenant, Site: w.Site, Connector: w.Connector, Why: "two processes use this connector's key",
			Frozen: run.Returns >= returnLimit,
		}
		if alarm.Frozen {
			r.mu.Lock()
			known.frozen = alarm.Why
			r.mu.Unlock()
		}
		r.raise(alarm)
		if alarm.Frozen {
			return 0, frozenFault(alarm.Why)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known.instance, known.generation = w.Instance, run.Generation
	return run.Generation, nil
}

func (r *Registry) runsOf(c id.Connector) *runs {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	if now.Sub(r.swept) > time.Minute {
		r.swept = now
		for key, old := range r.runs {
			if old.frozen == "" && now.Sub(old.used) > 24*time.Hour && r.count.of[key] == 0 {
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

// current returns the generation of a process that is the newest, 0 for one that the store must be asked about.
func (r *Registry) current(known *runs, w Who) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case known.frozen != "":
		return 0, frozenFault(known.frozen)
	case known.instance == w.Instance:
		return known.generation, nil
	}
	return 0, nil
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
