package store

import (
	"cmp"
	"context"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// issue is a process that asks for its number, and the answer.
type issue struct {
	connector id.Connector
	instance  string
	newest    uint64 // the newest number when the process showed that it lives, or before
	run       enroll.Run
}

// JoinRun appends nothing to the change log: no cache holds generations, and every opening of a link would wake them all. Those who
// ask at a time share a transaction: when an edge restarts all connectors do, and a commit for each would hold up the last for
// longer than it waits.
func (e enrolment) JoinRun(ctx context.Context, c id.Connector, instance string, newest uint64) (enroll.Run, error) {
	answer, err := e.db.generations.ask(ctx, e.db, issue{connector: c, instance: instance, newest: newest})
	if err != nil {
		return enroll.Run{}, err
	}
	return answer.run, nil
}

// issueAll answers connectors.
func issueAll(ctx context.Context, tx *tx, all []*question[issue]) error {
	order(all, func(a, b issue) int { return cmp.Compare(a.connector, b.connector) })
	now, err := tx.clock(ctx)
	if err != nil {
		return err
	}
	for _, one := range all {
		if err := tx.issue(ctx, one, now); err != nil {
			return err
		}
	}
	return nil
}

// issue answers one connector; its error is one that ends the transaction. The first statement locks the connector: of two
// edges that one process reaches at once, the second sees the run that the first has made.
func (t *tx) issue(ctx context.Context, asked *question[issue], now int64) error {
	one := &asked.of
	one.run, asked.err = enroll.Run{}, nil
	var tenant id.Tenant
	var newest int64
	err := t.QueryRowContext(ctx, `UPDATE connectors SET generation = generation
		WHERE id = $1 AND revoked = 0 RETURNING tenant, generation`, one.connector).Scan(&tenant, &newest)
	if missing(err) {
		return t.unable(ctx, asked)
	}
	if err != nil {
		return err
	}
	var last int64
	err = t.QueryRowContext(ctx, `SELECT COALESCE(MAX(generation), 0) FROM runs WHERE tenant = $1 AND connector = $2 AND instance = $3`,
		tenant, one.connector, one.instance).Scan(&last)
	if err != nil {
		return err
	}
	if last == newest && last != 0 {
		one.run.Generation = uint64(last)
		return nil
	}
	if uint64(newest) > one.newest {
		asked.err = fault.New(fault.Conflict, "another process of connector %s has come in meanwhile", one.connector)
		return nil
	}
	one.run.Generation = uint64(newest + 1)
	return t.begin(ctx, tenant, one, last != 0, now)
}

// unable says why a connector gets no generation.
func (t *tx) unable(ctx context.Context, asked *question[issue]) error {
	_, err := scanConnector(t.QueryRowContext(ctx, selectConnector+`WHERE id = $1`, asked.of.connector))
	switch {
	case missing(err):
		asked.err = noConnector()
	case err != nil:
		return err
	default:
		asked.err = fault.New(fault.Denied, "connector %s is revoked", asked.of.connector)
	}
	return nil
}

// keepRuns is how many runs of a connector are remembered, at least.
const keepRuns = 16

// begin writes down a new run.
func (t *tx) begin(ctx context.Context, tenant id.Tenant, one *issue, returned bool, now int64) error {
	generation, at := int64(one.run.Generation), int64(0)
	if returned {
		at = now
	}
	if _, err := t.ExecContext(ctx, `UPDATE connectors SET generation = $2 WHERE id = $1`, one.connector, generation); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `INSERT INTO runs (tenant, connector, generation, instance, returned) VALUES ($1, $2, $3, $4, $5)`,
		tenant, one.connector, generation, one.instance, at)
	if err == nil && generation%keepRuns == 0 {
		_, err = t.ExecContext(ctx, `DELETE FROM runs WHERE tenant = $1 AND connector = $2 AND generation <= $3`,
			tenant, one.connector, generation-keepRuns)
	}
	if err != nil || !returned {
		return err
	}
	return t.QueryRowContext(ctx, `SELECT COUNT(*) FROM runs WHERE tenant = $1 AND connector = $2 AND returned > $3`,
		tenant, one.connector, now-enroll.ReturnWindow.Milliseconds()).Scan(&one.run.Returns)
}
