package access

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// follow subscribes to everything that can end what was allowed. Copies are dropped before leases are looked at, so that a
// request which comes in between reads what is true now.
func (a *Access) follow(f Follower) {
	kinds := []change.Kind{change.Session, change.Token, change.Service, change.User, change.App, change.Key}
	f.Subscribe("access", kinds, func(ctx context.Context, changes []change.Change) error {
		if slices.ContainsFunc(changes, change.Change.IsAnything) {
			return a.anythingChanged(ctx)
		}
		// All of them, whatever becomes of one: told again later, a revocation would wait for another clinic's app.
		var faults []error
		for _, c := range changes {
			faults = append(faults, a.changed(ctx, c))
		}
		return errors.Join(faults...)
	})
}

// Apply acts on a change that did not come by the follower: another edge says so, or the store cannot be told (Config.Revoked). What ctx
// leaves no time to look up does not hold.
func (a *Access) Apply(ctx context.Context, c change.Change) error { return a.changed(ctx, c) }

func (a *Access) changed(ctx context.Context, c change.Change) error {
	switch c.Kind {
	case change.Session:
		a.sessionChanged(ctx, c.Tenant, id.Session(c.ID))
	case change.User:
		a.userChanged(ctx, c.Tenant, id.User(c.ID))
	case change.Token:
		a.machineChanged(ctx, c.Tenant, func(m *machine) bool { return m.record.ID == id.Token(c.ID) })
	case change.Service:
		a.machineChanged(ctx, c.Tenant, func(m *machine) bool { return m.record.Service == id.Service(c.ID) })
	case change.App:
		return a.appChanged(ctx, c.Tenant, id.App(c.ID))
	case change.Key:
		a.KeysChanged()
	}
	return nil
}

// recheckers is how many leases are looked at beside each other when all are.
const recheckers = 4

// anythingChanged forgets every copy and judges again whatever runs. What cannot be looked up is not cut for that: the error has all
// asked again.
func (a *Access) anythingChanged(ctx context.Context) error {
	apps, err := a.cfg.Apps.Apps(ctx, "")
	if err != nil {
		return err
	}
	a.rules.replace(apps)
	a.KeysChanged()
	a.logins.drop(func(loginKey) bool { return true }, func(*login) bool { return true })
	var faults []error
	var mu sync.Mutex // guards faults
	all := make(chan *Lease)
	var working sync.WaitGroup
	for range recheckers {
		working.Go(func() {
			for l := range all {
				if err := a.rejudge(ctx, l); err != nil {
					mu.Lock()
					faults = append(faults, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, l := range a.leases.all() {
		all <- l
	}
	close(all)
	working.Wait()
	return errors.Join(faults...)
}

// rejudge ends a lease that is not allowed any more; the error says that this is not known.
func (a *Access) rejudge(ctx context.Context, l *Lease) error {
	err := a.recheck(ctx, l.question.Identity, l.question.Tenant)
	switch {
	case fault.Is(err, fault.Unavailable) || ctx.Err() != nil:
		return err
	case err != nil:
		a.withdraw(l, err)
	default:
		if d := policy.Evaluate(a.input(l.question)); d.Effect != policy.Allow {
			a.withdraw(l, fault.New(fault.Denied, "the rules changed: %s", d.Reason))
		}
	}
	return nil
}

// KeysChanged has everything checked again that a key signed: one may have been withdrawn. Call it when Keys have changed.
func (a *Access) KeysChanged() {
	a.logins.drop(func(loginKey) bool { return true }, func(l *login) bool { l.checked.Store(nil); return true })
	a.machines.drop(func(machineKey) bool { return true }, func(*machine) bool { return true })
	a.assertions.drop(func(assertionKey) bool { return true })
}

func (a *Access) sessionChanged(ctx context.Context, t id.Tenant, s id.Session) {
	a.logins.drop(func(k loginKey) bool { return k.tenant == t }, func(l *login) bool { return l.session.ID == s })
	a.assertions.drop(func(k assertionKey) bool { return k.tenant == t && k.session == s })
	a.recheckPeople(ctx, t, func(l *login) bool { return l.session.ID == s })
}

func (a *Access) userChanged(ctx context.Context, t id.Tenant, u id.User) {
	is := func(l *login) bool { return l.user.ID == u || l.user.Email == string(u) } // who cannot look up names an address
	a.logins.drop(func(k loginKey) bool { return k.tenant == t }, is)
	a.assertions.drop(func(k assertionKey) bool { return k.tenant == t && k.principal == string(u) })
	a.recheckPeople(ctx, t, is)
}

// recheckPeople ends the leases of matching logins that do not hold any more. What cannot be read does not hold.
func (a *Access) recheckPeople(ctx context.Context, t id.Tenant, match func(*login) bool) {
	for _, l := range a.leases.pick(t, func(l *Lease) bool {
		in := l.question.Identity.login
		return in != nil && match(in)
	}) {
		if err := a.recheck(ctx, l.question.Identity, l.question.Tenant); err != nil {
			a.withdraw(l, err)
		}
	}
}

func (a *Access) machineChanged(ctx context.Context, t id.Tenant, match func(*machine) bool) {
	a.machines.drop(func(k machineKey) bool { return k.tenant == t }, match)
	for _, l := range a.leases.pick(t, func(l *Lease) bool {
		m := l.question.Identity.machine
		return m != nil && match(m)
	}) {
		who := l.question.Identity
		a.assertions.drop(func(k assertionKey) bool { return k.tenant == t && k.token == who.machine.record.ID })
		if err := a.recheck(ctx, who, l.question.Tenant); err != nil {
			a.withdraw(l, err)
		}
	}
}

// appChanged judges again what runs on the app. Only when the store does not answer is the error returned: then nothing is
// known to have changed for the worse, and the follower asks again.
func (a *Access) appChanged(ctx context.Context, t id.Tenant, app id.App) error {
	apps, err := a.cfg.Apps.Apps(ctx, t)
	if err != nil {
		return err
	}
	var now *tenant.App
	for i := range apps {
		if apps[i].Tenant == t && apps[i].ID == app {
			now = &apps[i]
		}
	}
	a.rules.set(t, app, now)
	a.assertions.drop(func(k assertionKey) bool { return k.tenant == t && k.app == app })
	for _, l := range a.leases.pick(t, func(l *Lease) bool { return l.question.App.ID == app }) {
		if d := policy.Evaluate(a.input(l.question)); d.Effect != policy.Allow {
			a.withdraw(l, fault.New(fault.Denied, "the rules changed: %s", d.Reason))
		}
	}
	return nil
}

func (a *Access) withdraw(l *Lease, why error) {
	a.cfg.Logger.Info("exchange cut", log.Tenant(l.question.Tenant.ID), log.App(l.question.App.ID),
		log.RequestID(l.question.RequestID), zap.Error(why))
	l.end(ErrRevoked)
}
