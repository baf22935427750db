package store

import (
	"cmp"
	"context"
	"slices"
	"sync"

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
	connector  id.Connector
	generation int64
	err        error
	done       chan struct{}
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

// NextGeneration refuses a revoked connector (fault.Denied): whatever raced with the revocation ends here. It appends
// nothing to the change log: no cache holds generations, and every opening of a link would wake them all.
func (e enrolment) NextGeneration(ctx context.Context, c id.Connector) (uint64, error) {
	g, mine := e.db.generations, &issue{connector: c, done: make(chan struct{})}
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
		return 0, err
	}
	<-mine.done
	return uint64(mine.generation), mine.err
}

// issue answers those who ask when the writer's turn has come. An error that none of them has been told is that of a caller
// who did not get the turn.
func (e enrolment) issue(ctx context.Context) error {
	var taken []*issue
	err := e.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		if taken == nil { // and not when the transaction begins again
			// In one order: two edges that each wait for a row that the other holds would have to begin again.
			taken = e.db.generations.take()
			slices.SortStableFunc(taken, func(a, b *issue) int { return cmp.Compare(a.connector, b.connector) })
		}
		for _, one := range taken {
			if err := tx.issue(ctx, one); err != nil {
				return err
			}
		}
		return nil
	})
	for _, one := range taken {
		if err != nil {
			one.generation, one.err = 0, err
		}
		close(one.done)
	}
	return err
}

// issue answers one connector; its error is one that ends the transaction.
func (t *tx) issue(ctx context.Context, one *issue) error {
	one.err = nil
	err := t.QueryRowContext(ctx, `UPDATE connectors SET generation = generation + 1
		WHERE id = $1 AND revoked = 0 RETURNING generation`, one.connector).Scan(&one.generation)
	if !missing(err) {
		return err
	}
	if _, err := scanConnector(t.QueryRowContext(ctx, selectConnector+`WHERE id = $1`, one.connector)); missing(err) {
		one.err = noConnector()
	} else if err != nil {
		return err
	} else {
		one.err = fault.New(fault.Denied, "connector %s is revoked", one.connector)
	}
	return nil
}
