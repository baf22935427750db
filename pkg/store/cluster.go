package store

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

type edges struct{ db *DB }

// Enter numbers an incarnation by the time, so that one whose row was dropped in between is newer too.
func (e edges) Enter(ctx context.Context, p cluster.Peer) (incarnation int64, err error) {
	err = e.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		now, err := tx.clock(ctx)
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `INSERT INTO edges (id, incarnation, version, address, url, weight, software, protocol, started,
				connectors, links, draining, lag_ms, expires, share)
			VALUES ($1, $2, 0, $3, $4, $5, $6, $7, $2, 0, 0, 0, 0, $8, $9)
			ON CONFLICT (id) DO UPDATE SET version = 0, address = excluded.address, url = excluded.url, weight = excluded.weight,
				software = excluded.software, protocol = excluded.protocol, started = excluded.started, draining = 0, lag_ms = 0,
				expires = excluded.expires, share = excluded.share, incarnation = CASE WHEN edges.incarnation >= excluded.incarnation
					THEN edges.incarnation + 1 ELSE excluded.incarnation END
			RETURNING incarnation`,
			p.ID, now, p.Address, p.URL, int64(p.Weight), p.Software, int64(p.Protocol), now+cluster.LeaseLife.Milliseconds(),
			int64(p.Share)).Scan(&incarnation)
	})
	return incarnation, err
}

func (e edges) Beat(ctx context.Context, b cluster.Beat) error {
	return e.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		now, err := tx.clock(ctx)
		if err != nil {
			return err
		}
		met, err := tx.affected(ctx, `UPDATE edges SET version = $3, weight = $4, connectors = $5, links = $6, draining = $7, lag_ms = $8, expires = $9
			WHERE id = $1 AND incarnation = $2`, b.Edge, b.Incarnation, b.Version, int64(b.Weight), int64(b.Connectors), int64(b.Links),
			number(b.Draining), b.Lag.Milliseconds(), now+cluster.LeaseLife.Milliseconds())
		if err != nil {
			return err
		}
		if met == 0 {
			return displaced(b.Edge)
		}
		if err := tx.leases(ctx, b); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM edges WHERE expires < $1`, now-cluster.LapsedStay.Milliseconds())
		return err
	})
}

func displaced(edge id.Edge) error {
	return fault.New(fault.Conflict, "another process runs as edge %s", edge)
}

const (
	putLease = `INSERT INTO leases (tenant, site, connector, edge, generation, links) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (tenant, site, connector, edge) DO UPDATE SET generation = excluded.generation, links = excluded.links`
	dropLease = `DELETE FROM leases WHERE tenant = $1 AND site = $2 AND connector = $3 AND edge = $4`
)

// leases writes and drops what a heartbeat says.
func (t *tx) leases(ctx context.Context, b cluster.Beat) error {
	if b.All {
		if _, err := t.ExecContext(ctx, `DELETE FROM leases WHERE edge = $1`, b.Edge); err != nil {
			return err
		}
	}
	var put, drop [][]any
	for _, h := range b.Changed {
		if h.Links > 0 {
			put = append(put, []any{h.Tenant, h.Site, h.Connector, b.Edge, int64(h.Generation), int64(h.Links)})
		} else {
			drop = append(drop, []any{h.Tenant, h.Site, h.Connector, b.Edge})
		}
	}
	if err := t.each(ctx, dropLease, drop); err != nil {
		return err
	}
	return t.each(ctx, putLease, put)
}

// Schema is the version of the schema that the store has.
func (db *DB) Schema(ctx context.Context) (version int64, err error) {
	err = db.ask(ctx, everyTenant, `SELECT MAX(version_id) FROM goose_db_version`).Scan(&version)
	return version, explain(err)
}

func (e edges) View(ctx context.Context, have map[id.Edge]cluster.Mark) (cluster.View, error) {
	now, err := e.db.clock(ctx)
	if err != nil {
		return cluster.View{}, err
	}
	seen, err := list(e.db.ask(ctx, everyTenant, `SELECT id, incarnation, version, address, url, weight, software, protocol, started,
		connectors, links, draining, lag_ms, expires, share FROM edges WHERE expires >= $1 ORDER BY id`, now-cluster.LapsedStay.Milliseconds()),
		func(r row) (s cluster.Seen, err error) {
			var started, lag, expires, draining int64
			err = r.Scan(&s.ID, &s.Incarnation, &s.Version, &s.Address, &s.URL, &s.Weight, &s.Software, &s.Protocol, &started,
				&s.Connectors, &s.Links, &draining, &lag, &expires, &s.Share)
			s.Started, s.Lag, s.Draining, s.Lapsed = moment(started), time.Duration(lag)*time.Millisecond, draining != 0, expires <= now
			s.Age = time.Duration(max(now-expires, -cluster.LeaseLife.Milliseconds()))*time.Millisecond + cluster.LeaseLife
			s.Known = have[s.ID].Covers(s)
			return s, err
		})
	if err != nil {
		return cluster.View{}, err
	}
	for i := range seen {
		if s := &seen[i]; !s.Known {
			if s.Holdings, err = e.holdings(ctx, s.ID); err != nil {
				return cluster.View{}, err
			}
		}
	}
	return cluster.View{Edges: seen}, nil
}

// holdings may be newer than the version that was read before; then they are read once more later.
func (e edges) holdings(ctx context.Context, edge id.Edge) ([]cluster.Holding, error) {
	return list(e.db.ask(ctx, everyTenant, `SELECT tenant, site, connector, generation, links FROM leases
		WHERE edge = $1 ORDER BY tenant, site, connector`, edge), func(r row) (cluster.Holding, error) {
		h := cluster.Holding{Edge: edge}
		err := r.Scan(&h.Tenant, &h.Site, &h.Connector, &h.Generation, &h.Links)
		return h, err
	})
}

// Time implements cluster.Store.
func (e edges) Time(ctx context.Context) (time.Time, error) {
	now, err := e.db.clock(ctx)
	return moment(now), err
}

// Leave drops the leases with the edge.
func (e edges) Leave(ctx context.Context, edge id.Edge, incarnation int64) error {
	return e.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM edges WHERE id = $1 AND incarnation = $2`, edge, incarnation)
		return err
	})
}

// clock is the time that leases are measured by, in milliseconds: the database's, or where one edge has it alone, the edge's.
func (t *tx) clock(ctx context.Context) (now int64, err error) {
	text := t.db.engine.clock()
	if text == "" {
		return millis(t.db.now()), nil
	}
	err = t.QueryRowContext(ctx, `SELECT `+text).Scan(&now)
	return now, err
}

func (db *DB) clock(ctx context.Context) (now int64, err error) {
	text := db.engine.clock()
	if text == "" {
		return millis(db.now()), nil
	}
	err = db.ask(ctx, everyTenant, `SELECT `+text).Scan(&now)
	return now, explain(err)
}

func number(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
