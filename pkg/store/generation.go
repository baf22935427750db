package store

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// generations issues numbers to all connectors that ask at a time in one transaction. When an edge restarts all of them do,
// and a commit for each, which waits for the disk, would hold up the last for longer than it waits.
type generations struct {
	turn chan struct{} // held by the caller that writes, for the others too

	mu    sync.Mutex // guards asked
	asked []*issue
}

// manyAtOnce is how many are issued in one transaction at most, so that other writes get their turn.
const manyAtOnce = 128

// issue is one caller's question, and the answer once done is closed.
type issue struct {
	connector id.Connector
	instance  string
	run       enroll.Run
	err       error
	done      chan struct{}
}

func newGenerations() *generations { return &generations{turn: make(chan struct{}, 1)} }

// take returns the questions that have waited longest.
func (g *generations) take() []*issue {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.asked), manyAtOnce)
	taken := slices.Clone(g.asked[:n])
	g.asked = slices.Delete(g.asked, 0, n)
	return taken
}

// withdraw reports whether nobody has taken the question yet, and nobody will.
func (g *generations) withdraw(one *issue) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.asked, one)
	if at < 0 {
		return false
	}
	g.asked = slices.Delete(g.asked, at, at+1)
	return true
}

func (i *issue) answered() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// JoinRun appends nothing to the change log: no cache holds generations, and every opening of a link would wake them all.
func (e enrolment) JoinRun(ctx context.Context, c id.Connector, instance string) (enroll.Run, error) {
	g, mine := e.db.generations, &issue{connector: c, instance: instance, done: make(chan struct{})}
	g.mu.Lock()
	g.asked = append(g.asked, mine)
	g.mu.Unlock()
	var err error
	select {
	case <-mine.done:
	case g.turn <- struct{}{}:
		for err == nil && !mine.answered() {
			err = e.issue(ctx)
		}
		<-g.turn
	case <-ctx.Done():
		err = waiting(ctx, ctx.Err())
	}
	if err != nil && g.withdraw(mine) {
		return enroll.Run{}, err
	}
	<-mine.done
	return mine.run, mine.err
}

// issue answers those who ask when the writer's turn has come. An error that none of them has been told is that of a caller
// who did not get the turn. Two edges lock connectors in the same order, so that neither waits for the other for ever.
func (e enrolment) issue(ctx context.Context) error {
	var taken []*issue
	err := e.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		if taken == nil { // and not when the transaction begins again
			taken = e.db.generations.take()
			slices.SortStableFunc(taken, func(a, b *issue) int { return cmp.Compare(a.connector, b.connector) })
		}
		now, err := tx.clock(ctx)
		if err != nil {
			return err
		}
		for _, one := range taken {
			if err := tx.issue(ctx, one, now); err != nil {
				return err
			}
		}
		return nil
	})
	for _, one := range taken {
		if err != nil {
			one.run, one.err = enroll.Run{}, err
		}
		close(one.done)
	}
	return err
}

// issue answers one connector; its error is one that ends the transaction. The first statement locks the connector: of two
// edges that one process reaches at once, the second sees the run that the first has made.
func (t *tx) issue(ctx context.Context, one *issue, now int64) error {
	one.run, one.err = enroll.Run{}, nil
	var tenant id.Tenant
	var newest int64
	err := t.QueryRowContext(ctx, `UPDATE connectors SET generation = generation
		WHERE id = $1 AND revoked = 0 RETURNING tenant, generation`, one.connector).Scan(&tenant, &newest)
	if missing(err) {
		return t.unable(ctx, one)
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
	one.run.Generation = uint64(newest + 1)
	return t.begin(ctx, tenant, one, last != 0, now)
}

// unable says why a connector gets no generation.
func (t *tx) unable(ctx context.Context, one *issue) error {
	_, err := scanConnector(t.QueryRowContext(ctx, selectConnector+`WHERE id = $1`, one.connector))
	switch {
	case missing(err):
		one.err = noConnector()
	case err != nil:
		return err
	default:
		one.err = fault.New(fault.Denied, "connector %s is revoked", one.connector)
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
