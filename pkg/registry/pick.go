package registry

import (
	"container/list"
	"context"
	"slices"
	"time"

	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// bulkAlone is how long a bulk link may be a connector's only one before exchanges run on it: links come up in any order, and an
// exchange that began on a bulk link stays there, behind every large body.
const bulkAlone = 2 * time.Second

// Pick chooses the link for the next exchange with a site. The connector is the one that served stick last (a browser's session
// stays with its connector while that lives) or, for an empty or a new stick, the one with the fewest exchanges for each of its
// links; only links of a connector's newest generation count. Of its links it is the fast one with the fewest exchanges (Begin
// and End count them); a bulk link only if it has been the connector's only one for 2 s. Links that are in doubt do not count; a
// session does not leave its connector for good because of that. Without any link Pick waits, for at most Config.Wait and with at
// most Config.Waiters others; then, or when ctx ends, the error is fault.Unavailable.
func (r *Registry) Pick(ctx context.Context, tenant id.Tenant, siteID id.Site, stick string) (*Member, error) {
	where := place{tenant, siteID}
	m, next, err := r.pickOrWait(where, stick)
	if m != nil || err != nil {
		return m, err
	}
	defer r.waited(where)
	timer := time.NewTimer(r.cfg.Wait)
	defer timer.Stop()
	for {
		var alone <-chan time.Time // nil: no bulk link to wait for
		if next.in > 0 {
			alone = time.After(next.in)
		}
		select {
		case <-next.changed:
		case <-alone:
		case <-timer.C:
			return nil, unavailable()
		case <-ctx.Done():
			return nil, unavailable().Because(context.Cause(ctx))
		}
		if m, next = r.pickNow(where, stick); m != nil {
			return m, nil
		}
	}
}

// PickHere is Pick without waiting: nil where no link takes exchanges now.
func (r *Registry) PickHere(tenant id.Tenant, siteID id.Site, stick string) *Member {
	where := place{tenant, siteID}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where]
	if s == nil {
		return nil
	}
	m, _ := r.choose(where, s, stick)
	return m
}

// PickRun chooses among the links of one run of a connector alone, as Pick does. It waits for a fast link beside a bulk one, as Pick
// does, a quarter of a second for a run that is in doubt, and for nothing else. Another edge has chosen the run, so that an older one will do that finishes its work.
func (r *Registry) PickRun(ctx context.Context, tenant id.Tenant, siteID id.Site, connector id.Connector, generation uint64) (*Member, bool) {
	where := place{tenant, siteID}
	for {
		m, next := r.pickRunNow(where, connector, generation)
		if m != nil || next.in == 0 {
			return m, m != nil
		}
		select {
		case <-next.changed:
		case <-time.After(next.in):
		case <-ctx.Done():
			return nil, false
		}
	}
}

func (r *Registry) pickRunNow(where place, connector id.Connector, generation uint64) (*Member, next) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where]
	if s == nil {
		return nil, next{}
	}
	var able []*member
	for _, m := range s.members {
		if m.Connector == connector && m.Generation == generation && m.alive() {
			able = append(able, m)
		}
	}
	// One that is given up still serves what comes: better that than nothing, for who chose it knows no other yet.
	able = prefer(able, (*member).takes)
	if sure := surely(able); len(sure) > 0 || len(able) == 0 {
		m, in := r.best(s, sure)
		return m, next{s.changed, in}
	}
	now, in := r.cfg.Now(), time.Duration(0)
	for _, m := range able {
		in = max(in, m.doubted.Add(doubtWait).Sub(now))
	}
	return nil, next{s.changed, in}
}

// next is when to choose again: when a link has joined or, if in is not 0, after that time.
type next struct {
	changed <-chan struct{}
	in      time.Duration
}

func unavailable() *fault.Error {
	return fault.New(fault.Unavailable, "no connector of this clinic is connected")
}

// pickOrWait returns a member, or counts the caller among the waiters.
func (r *Registry) pickOrWait(where place, stick string) (*Member, next, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where]
	if s == nil {
		s = &site{changed: make(chan struct{})}
		r.sites[where] = s
	}
	m, in := r.choose(where, s, stick)
	switch {
	case m != nil:
		return m, next{}, nil
	case s.waiters >= r.cfg.Waiters:
		// One that is in doubt is better than none, for the many who cannot wait.
		if m, _ := r.best(s, takers(s.members)); m != nil {
			return m, next{}, nil
		}
		return nil, next{}, unavailable()
	}
	s.waiters++
	return nil, next{s.changed, in}, nil
}

func (r *Registry) pickNow(where place, stick string) (*Member, next) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where] // is there: it has this waiter
	m, in := r.choose(where, s, stick)
	return m, next{s.changed, in}
}

func (r *Registry) waited(where place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[where]
	s.waiters--
	r.forgetIfEmpty(where, s)
}

// choose is the rule of Pick over the members as they are. Without a member, in says when there is one although none joins: 0 for
// never.
func (r *Registry) choose(where place, s *site, stick string) (m *Member, in time.Duration) {
	all := takers(s.members)
	able := loud(surely(all))
	if len(able) == 0 {
		return nil, 0
	}
	key := stickKey{where, stick}
	lent := false // to another connector, while its own is in doubt or quiet
	if stick != "" {
		if kept, ok := r.stick.get(key); ok {
			its := func(m *member) bool { return m.Connector == kept }
			able = prefer(able, its)
			lent = !its(able[0]) && slices.ContainsFunc(all, its)
		}
	}
	if m, in = r.best(s, able); m != nil && stick != "" && !lent {
		r.stick.put(key, m.Connector)
	}
	return m, in
}

// best is the link among able that is best for an exchange, as choose says.
func (r *Registry) best(s *site, able []*member) (m *Member, in time.Duration) {
	if len(able) == 0 {
		return nil, 0
	}
	able = prefer(able, (*member).fast)
	if !able[0].fast() { // then none is
		if able, in = r.alone(able); len(able) == 0 {
			return nil, in
		}
	}
	now := r.cfg.Now()
	able = prefer(able, func(m *member) bool { return now.Sub(m.joined) <= FreshTrip || m.up(now) })
	able = prefer(able, func(m *member) bool { return !suspect(m, able) })
	s.next++
	least := leastLoaded(able, s.next)
	r.listen(least)
	return least.Member, 0
}

// alone returns the bulk links that have been alone for long enough; if there are none, when the first one will have been.
func (r *Registry) alone(bulk []*member) (out []*member, in time.Duration) {
	now := r.cfg.Now()
	in = bulkAlone
	for _, m := range bulk {
		left := min(bulkAlone, r.cfg.Wait/2) - now.Sub(m.alone)
		if left <= 0 {
			out = append(out, m)
		}
		in = min(in, left)
	}
	return out, max(in, 1)
}

// leastLoaded is the link with the fewest exchanges of the connector with the fewest for each link. Among equals it goes round.
func leastLoaded(able []*member, turn int) *member {
	best := able[turn%len(able)]
	bestLoad := loadOf(best.Connector, able)
	for i := 1; i < len(able); i++ {
		m := able[(turn+i)%len(able)]
		if m.Connector == best.Connector {
			if m.use.running.Load() < best.use.running.Load() {
				best = m
			}
			continue
		}
		if load := loadOf(m.Connector, able); load < bestLoad {
			best, bestLoad = m, load
		}
	}
	return best
}

// loadOf is how many exchanges run on each of a connector's links.
func loadOf(c id.Connector, able []*member) float64 {
	running, links := int64(0), 0
	for _, m := range able {
		if m.Connector == c {
			running += m.use.running.Load()
			links++
		}
	}
	return float64(running) / float64(links)
}

func (m *member) fast() bool { return m.Lane != tunnelv1.Lane_LANE_BULK }

func (m *member) takes() bool { return !m.leaving && !m.outdone && m.alive() }

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
// once, while the dead one is found only seconds later. A link that lives is cleared by its next heartbeat or answer, or by the probe
// that askSiblings had sent.
func suspect(m *member, others []*member) bool {
	for _, o := range others {
		if o.Connector == m.Connector && o.Lane == m.Lane && m.heard.Before(o.joined) && m.use.answered.Load() < o.joined.UnixNano() {
			return true
		}
	}
	return false
}

// askSiblings has the links probed that are suspect now that one has joined: a lane that grows with load would leave all of that to
// its newest link, whose congestion window is the smallest, until the next heartbeats of the others. Those that live are back a round
// trip later. It is called under mu.
func (s *site) askSiblings(one *member) {
	for _, m := range s.members {
		if m != one && one.fast() && m.fast() && m.Connector == one.Connector && m.Generation == one.Generation && m.Prove != nil && m.takes() {
			m.Prove()
		}
	}
}

// prefer narrows members to those that want, unless none does.
func prefer(members []*member, want func(*member) bool) []*member {
	if out := those(members, want); len(out) > 0 {
		return out
	}
	return members
}

// those are the members that want. Nearly always all do: then they are members itself.
func those(members []*member, want func(*member) bool) []*member {
	for i, m := range members {
		if want(m) {
			continue
		}
		out := append([]*member(nil), members[:i]...)
		for _, m := range members[i+1:] {
			if want(m) {
				out = append(out, m)
			}
		}
		return out
	}
	return members
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
