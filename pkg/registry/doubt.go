package registry

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// A process that was killed says nothing on its QUIC links, which are found dead seconds later, while its kernel closes its TCP
// connections at once. So a link that breaks off without a word puts the others of its process in doubt. Who is in doubt takes no
// exchange until a probe has come back: a round trip later if all is well. Meanwhile exchanges go elsewhere or wait, not a byte
// of them sent, so that nothing has to be sent twice.
//
// A machine that lost its power, and a line that was cut, end no TCP connection. A link on which exchanges run and none has been
// answered for a while is probed when the next one comes; if the probe is not back soon the link is quiet. That may be the line, or
// a busy machine, so a quiet link still takes exchanges: those that nobody else takes. A run of which every fast link is quiet is told
// to other edges as quiet.

const (
	// waited is how long no exchange of a link that has some must have been answered for it to be probed.
	waited = 500 * time.Millisecond
	// doubtWait is how long an exchange that another edge sends for one run waits for the run to prove itself; it goes elsewhere then.
	doubtWait = 250 * time.Millisecond
	// unproved is how long a run that a newer one has replaced may stay in doubt: it was killed.
	unproved = 3 * time.Second
)

// brokeOff reports a link that ended without a word of its peer.
func brokeOff(link tunnel.Link) bool {
	var closed *tunnel.ClosedError
	return errors.As(link.Cause(), &closed) && (closed.Reason.Code == tunnel.ReasonLost || closed.Reason.Code == tunnel.ReasonTimeout)
}

// sure reports a link that is in no doubt.
func (m *member) sure() bool { return m.doubted.IsZero() }

// suspectRest puts the other links of a process in doubt, one of which has broken off; it is called under mu.
func (r *Registry) suspectRest(where place, s *site, broken *member) {
	now, count := r.cfg.Now(), 0
	for _, m := range s.members {
		if m.Connector != broken.Connector || m.Instance != broken.Instance || m.Prove == nil || !m.alive() {
			continue
		}
		count++
		m.doubted = now
		m.Prove()
		r.giveUp(m)
	}
	if count > 0 {
		r.stir(where, broken.Connector)
		r.cfg.Logger.Info("a link broke off: the process's others have to prove that it lives", log.Tenant(where.tenant), log.Site(where.site),
			log.Connector(broken.Connector), zap.Uint64("generation", broken.Generation), zap.Int("links", count))
	}
}

// giveUp closes a link that stays in doubt although a newer run has joined, so that what waits for its answers is told; it is called
// under mu.
func (r *Registry) giveUp(m *member) {
	if m.sure() || m.superseded == nil {
		return
	}
	since := m.doubted
	time.AfterFunc(max(since.Add(unproved).Sub(r.cfg.Now()), 0), func() {
		r.mu.Lock()
		gone := m.doubted.Equal(since)
		r.mu.Unlock()
		if gone {
			_ = m.Link.Close(tunnel.Reason{Code: tunnel.ReasonLost, Message: "a newer run has taken over, and this one does not answer"})
		}
	})
}

// Doubted reports whether a link has to prove that it works before it takes another exchange.
func (r *Registry) Doubted(tenant id.Tenant, siteID id.Site, link tunnel.Link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.find(tenant, siteID, link)
	return m != nil && !m.sure()
}

// settle ends the doubt about a link of which a probe that was sent at asked has come back; it is called under mu.
func (r *Registry) settle(where place, m *member, asked time.Time) {
	if m.sure() || asked.Before(m.doubted) {
		return
	}
	m.doubted = time.Time{}
	if s := r.sites[where]; s != nil {
		s.stirred()
	}
	r.stir(where, m.Connector)
}

// stirred wakes who waits for a link.
func (s *site) stirred() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// surely narrows to links in no doubt.
func surely(members []*member) []*member {
	return those(members, (*member).sure)
}

// listen has a link probed on which exchanges wait; it is called under mu when it is to get another.
func (r *Registry) listen(m *member) {
	now := r.cfg.Now()
	if m.Prove == nil || m.use.running.Load() == 0 || now.Sub(m.tripped()) < waited || now.Sub(m.asked) < waited {
		return
	}
	m.asked = now
	m.Prove()
}

// Late notes that a probe of a link has been out for so long and is not back: if nothing else came back meanwhile, the link is quiet.
func (r *Registry) Late(tenant id.Tenant, siteID id.Site, link tunnel.Link, out time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	where := place{tenant, siteID}
	if m := r.find(tenant, siteID, link); m != nil && m.tripped().Before(r.cfg.Now().Add(-out)) && !m.use.quiet.Swap(true) {
		r.stir(where, m.Connector)
		r.askRest(r.sites[where], m)
	}
}

// askRest has the other fast links of a process probed of which one is quiet: it may stand still; it is called under mu.
func (r *Registry) askRest(s *site, quiet *member) {
	now := r.cfg.Now()
	for _, m := range s.members {
		if m.Connector == quiet.Connector && m.Instance == quiet.Instance && m.fast() && !m.Quiet() && m.Prove != nil && m.alive() && now.Sub(m.asked) >= waited {
			m.asked = now
			m.Prove()
		}
	}
}

// Quiet reports a link that has not answered a probe in good time: another one is better.
func (m *Member) Quiet() bool { return m.use != nil && m.use.quiet.Load() }

// loud narrows to links that are not quiet, unless all are.
func loud(members []*member) []*member {
	return prefer(members, func(m *member) bool { return !m.Quiet() })
}
