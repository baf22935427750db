package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// table is the store in memory, with the clock of the test.
type table struct {
	mu   sync.Mutex
	rows map[id.Edge]*tableRow
	away bool
	// ahead is how far its clock is ahead of the machine's.
	ahead time.Duration
	// beats counts heartbeats, leases those written.
	beats, leases int
}

type tableRow struct {
	Seen
	expires time.Time
	held    map[holdingKey]Holding
}

func newTable() *table { return &table{rows: map[id.Edge]*tableRow{}} }

var errAway = errors.New("connection refused")

func (t *table) set(away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away = away
}

func (t *table) Enter(_ context.Context, p Peer) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away {
		return 0, errAway
	}
	row := t.rows[p.ID]
	if row == nil {
		row = &tableRow{held: map[holdingKey]Holding{}}
		t.rows[p.ID] = row
	}
	before := row.Incarnation
	row.Seen = Seen{Peer: p}
	row.Incarnation = max(before+1, time.Now().UnixMilli())
	row.Started, row.expires = time.Now(), time.Now().Add(LeaseLife)
	return row.Incarnation, nil
}

// counts are the transactions, and the leases that were written in them.
func (t *table) counts() (beats, leases int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.beats, t.leases
}

func (t *table) Beat(_ context.Context, b Beat) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.rows[b.Edge]
	switch {
	case t.away:
		return errAway
	case row == nil || row.Incarnation != b.Incarnation:
		return fault.New(fault.Conflict, "displaced")
	}
	t.beats++
	t.leases += len(b.Changed)
	row.expires = time.Now().Add(LeaseLife)
	row.Version, row.Draining, row.Links, row.Connectors, row.Weight = b.Version, b.Draining, b.Links, b.Connectors, b.Weight
	if b.All {
		clear(row.held)
	}
	for _, h := range b.Changed {
		if row.held[h.key()] = h; h.Links == 0 {
			delete(row.held, h.key())
		}
	}
	return nil
}

func (t *table) View(_ context.Context, have map[id.Edge]Mark) (v View, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away {
		return v, errAway
	}
	for _, row := range t.rows {
		s := row.Seen
		s.Lapsed = !time.Now().Before(row.expires)
		if s.Known = have[s.ID].Covers(s); !s.Known {
			for _, h := range row.held {
				s.Holdings = append(s.Holdings, h)
			}
		}
		v.Edges = append(v.Edges, s)
	}
	return v, nil
}

func (t *table) Time(context.Context) (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away {
		return time.Time{}, errAway
	}
	return time.Now().Add(t.ahead), nil
}

func (t *table) Leave(_ context.Context, edge id.Edge, incarnation int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if row := t.rows[edge]; !t.away && row != nil && row.Incarnation == incarnation {
		delete(t.rows, edge)
	}
	return nil
}
