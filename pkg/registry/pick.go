package registry

import (
	"container/list"
	"context"
	"time"

	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Pick chooses the link for the next exchange with a site: of the connectors that have one, the one that served stick last
// (a browser's session stays with its connector while that lives), and of that connector the newest generation. An empty
// stick goes round. Without any link it waits, for at most Config.Wait and with at most Config.Waiters others; then, or
// when ctx ends, the error is fault.Unavailable.
func (r *Registry) Pick(ctx context.Context, tenant id.Tenant, siteID id.Site, stick string) (*Member, error) {
	where := place{tenant, siteID}
	m, changed, err := r.pickOrWait(where, stick)
	if m != nil || err != nil {
		return m, err
	}
	defer r.waited(where)
	timer := time.NewTimer(r.cfg.Wait)
	defer timer.Stop()
	for {
		select {
		case <-changed:
		case <-timer.C:
			return nil, unavailable()
		case <-ctx.Done():
			return nil, unavailable().Because(context.Cause(ctx))
		}
		if m, changed = r.pickNow(where, stick); m != nil {
			return m, nil
		}
	}
}

func unavailable() *fault.Error {
	return fault.New(fault.Unavailable, "no connector of this clinic is connected")
}

// pickOrWait returns a member, or counts the caller among the waiters.
func (r *Registry) pickOrWait(where place, stick string) (*Member, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where]
	if s == nil {
		s = &site{changed: make(chan struct{})}
		r.sites[where] = s
	}
	if m := r.choose(where, s, stick); m != nil {
		return m, nil, nil
	}
	if s.waiters >= r.cfg.Waiters {
		return nil, nil, unavailable()
	}
	s.waiters++
	return nil, s.changed, nil
}

func (r *Registry) pickNow(where place, stick string) (*Member, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where] // is there: it has this waiter
	return r.choose(where, s, stick), s.changed
}

func (r *Registry) waited(where place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where]
	s.waiters--
	r.forgetIfEmpty(where, s)
}

// choose is the rule of Pick over the members as they are.
func (r *Registry) choose(where place, s *site, stick string) *Member {
	able := takers(s.members)
	if len(able) == 0 {
		return nil
	}
	key := stickKey{where, stick}
	if stick != "" {
		if kept, ok := r.stick.get(key); ok {
			able = prefer(able, func(m *member) bool { return m.Connector == kept })
		}
	}
	able = prefer(able, func(m *member) bool { return m.Lane != tunnelv1.Lane_LANE_BULK })
	able = prefer(able, func(m *member) bool { return !suspect(m, able) })
	s.next++
	m := able[s.next%len(able)].Member
	if stick != "" {
		r.stick.put(key, m.Connector)
	}
	return m
}

func (m *member) takes() bool { return !m.leaving && m.alive() }

// takers are the living members of each connector's newest living generation.
func takers(members []*member) []*member {
	newest := make(map[id.Connector]uint64, 2)
	for _, m := range members {
		if m.takes() && m.Generation > newest[m.Connector] {
			newest[m.Connector] = m.Generation
		}
	}
	out := make([]*member, 0, len(members))
	for _, m := range members {
		if g, ok := newest[m.Connector]; ok && g == m.Generation && m.takes() {
			out = append(out, m)
		}
	}
	return out
}

// suspect reports a link that has not been heard since a sibling joined: a process whose network changed opens a new link at
// once, while the dead one is found only seconds later. A link that lives is cleared by its next heartbeat.
func suspect(m *member, others []*member) bool {
	for _, o := range others {
		if o.Connector == m.Connector && o.Lane == m.Lane && m.heard.Before(o.joined) {
			return true
		}
	}
	return false
}

// prefer narrows members to those that want, unless none does.
func prefer(members []*member, want func(*member) bool) []*member {
	var out []*member
	for _, m := range members {
		if want(m) {
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		return members
	}
	return out
}

type stickKey struct {
	place
	stick string
}

// sticky remembers the connector of each key, the least recently used ones forgotten first.
type sticky struct {
	limit int
	order *list.List // of *stuck, most recent first
	byKey map[stickKey]*list.Element
}

type stuck struct {
	key       stickKey
	connector id.Connector
}

func newSticky(limit int) *sticky {
	return &sticky{limit: limit, order: list.New(), byKey: map[stickKey]*list.Element{}}
}

func (s *sticky) get(key stickKey) (id.Connector, bool) {
	e, ok := s.byKey[key]
	if !ok {
		return "", false
	}
	s.order.MoveToFront(e)
	return e.Value.(*stuck).connector, true
}

func (s *sticky) put(key stickKey, connector id.Connector) {
	if e, ok := s.byKey[key]; ok {
		e.Value.(*stuck).connector = connector
		s.order.MoveToFront(e)
		return
	}
	s.byKey[key] = s.order.PushFront(&stuck{key, connector})
	if s.order.Len() > s.limit {
		last := s.order.Back()
		s.order.Remove(last)
		delete(s.byKey, last.Value.(*stuck).key)
	}
}
