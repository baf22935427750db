package access

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Question is what is to be judged. Request holds the canonical values, the very ones that are recorded and forwarded.
type Question struct {
	Identity  Identity
	Tenant    tenant.Tenant
	App       tenant.App
	Request   policy.Request
	RequestID id.Request
}

// Grant is the answer to a Question.
type Grant struct {
	Decision policy.Decision
	// Sequence is the decision's number in the tenant's record; the outcome is concluded with it.
	Sequence int64
	// Lease is set when Decision allows; the caller releases it when the exchange is over.
	Lease *Lease
}

// Authorize judges q, records the judgement durably and only then answers. When it allows, the error is nil and the Grant
// holds a lease derived from ctx. Errors: fault.Denied (the Grant says why), fault.Unauthentic when nobody is asking or what
// proved them has just ended, fault.Unavailable when the decision cannot be recorded: what is not recorded does not happen.
func (a *Access) Authorize(ctx context.Context, q Question) (Grant, error) {
	var g Grant
	if !q.Identity.of(q.Tenant.ID, q.App) {
		g.Decision = policy.Decision{Reason: policy.ReasonNoPrincipal}
		a.stranger(q.Tenant.ID, "", policy.ReasonNoPrincipal)
		return g, errStranger
	}
	// The lease comes first: a change that happens from here on ends it, and one from before is seen by what follows.
	l := a.leases.open(ctx, a, q)
	if err := a.recheck(ctx, q.Identity, q.Tenant); err != nil {
		l.Release()
		return g, err
	}
	g.Decision = policy.Evaluate(a.input(q))
	sequence, err := a.cfg.Recorder.Decide(ctx, record(q, g.Decision, l.began))
	if err != nil {
		l.Release()
		g.Decision = policy.Decision{Reason: "not-recorded"}
		return g, fault.New(fault.Unavailable, "the decision cannot be recorded just now").Because(err)
	}
	g.Sequence = sequence
	a.metrics.decisions.WithLabelValues(g.Decision.Effect.String(), g.Decision.Reason).Inc()
	if g.Decision.Effect != policy.Allow {
		l.Release()
		return g, fault.New(fault.Denied, "you may not use this")
	}
	if cause := context.Cause(l.ctx); cause != nil {
		l.Release()
		return g, fault.New(fault.Denied, "this ended while it was being judged").Because(cause)
	}
	g.Lease = l
	return g, nil
}

// of reports whether the identity was established for this tenant and the app's host.
func (who Identity) of(t id.Tenant, app tenant.App) bool {
	switch {
	case app.Tenant != t:
		return false
	case who.login != nil:
		return who.login.key.tenant == t && who.login.key.host == app.Host
	default:
		return who.machine != nil && who.machine.key.tenant == t
	}
}

// input puts together what the rules look at, with the rules as they are now.
func (a *Access) input(q Question) policy.Input {
	return policy.Input{
		Tenant:         q.Tenant.ID,
		App:            q.App.ID,
		Site:           q.App.Site,
		Principal:      q.Identity.Principal,
		Authentication: q.Identity.Authentication,
		Request:        q.Request,
		Rules:          a.rules.of(q.App),
		Now:            a.cfg.Now(),
	}
}
