package store

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

const (
	// voidMark goes with the key of a commit in the table commits that was given up: the key is there, and the commit never will be.
	voidMark = "/void"
	// keysSpeakFor is how long after a commit its key, which stays longer, says by itself whether it took place; clocks may be minutes apart.
	keysSpeakFor = commitsStay / 2
	// lookBack is how many of a tenant's numbers are looked through at a time.
	lookBack = 50_000
)

// Took implements audit.Merger. The key of the commit decides: whoever inserts it waits for the transaction that has it, should that
// still run, and keeps it from ever committing where it had not begun. A key that could have been purged meanwhile says nothing by its absence; then
// the records themselves are looked for.
func (r records) Took(ctx context.Context, commit string, decisions []audit.Decision) ([]int64, error) {
	if len(decisions) == 0 {
		return nil, nil
	}
	took, err := r.settleCommit(ctx, commit)
	if err != nil {
		return nil, err
	}
	first, last := decisions[0].Time, decisions[0].Time
	for _, d := range decisions {
		if d.Time.Before(first) {
			first = d.Time
		}
		if d.Time.After(last) {
			last = d.Time
		}
	}
	if !took && r.db.now().Sub(last) < keysSpeakFor {
		return nil, nil
	}
	sequences, found, err := r.find(ctx, decisions, first, last)
	switch {
	case err != nil:
		return nil, err
	case !took && found == 0:
		return nil, nil
	case found < len(decisions):
		return nil, fmt.Errorf("commit %s: %d of its %d decisions are on record", commit, found, len(decisions))
	}
	return sequences, nil
}

// settleCommit reports whether a commit took place, and sees to it that one that did not never will.
func (r records) settleCommit(ctx context.Context, commit string) (took bool, err error) {
	err = r.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		now, err := tx.clock(ctx)
		if err != nil {
			return err
		}
		const insert = `INSERT INTO commits (id, at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`
		fresh, err := tx.affected(ctx, insert, commit, now)
		if err != nil {
			return err
		}
		if fresh == 1 {
			took = false
			_, err = tx.affected(ctx, insert, commit+voidMark, now)
			return err
		}
		var void int64
		err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM commits WHERE id = $1`, commit+voidMark).Scan(&void)
		took = void == 0
		return err
	})
	return took, err
}

// find looks for decisions, which were made between two moments, from the newest back, and returns their numbers and how many it found.
func (r records) find(ctx context.Context, decisions []audit.Decision, first, last time.Time) ([]int64, int, error) {
	type key struct {
		tenant  id.Tenant
		request id.Request
	}
	places := map[key]int{}
	wanted := map[id.Tenant]int{}
	for i, d := range decisions {
		places[key{d.Tenant, d.Request}] = i
		wanted[d.Tenant]++
	}
	sequences, all := make([]int64, len(decisions)), 0
	for tenant, left := range wanted {
		var head int64
		err := r.db.ask(ctx, tenant, `SELECT COALESCE(MAX(sequence), 0) FROM audit_heads WHERE tenant = $1`, tenant).Scan(&head)
		if err != nil {
			return nil, 0, explain(err)
		}
		for ; head > 0 && left > 0; head -= lookBack {
			_, err := list(r.db.ask(ctx, tenant, `SELECT sequence, request FROM decisions
				WHERE tenant = $1 AND sequence > $2 AND sequence <= $3 AND at >= $4 AND at <= $5`,
				tenant, head-lookBack, head, millis(first), millis(last)), func(from row) (none struct{}, err error) {
				var sequence int64
				var request id.Request
				if err = from.Scan(&sequence, &request); err != nil {
					return none, err
				}
				if i, ok := places[key{tenant, request}]; ok && sequences[i] == 0 {
					sequences[i], left, all = sequence, left-1, all+1
				}
				return none, nil
			})
			if err != nil {
				return nil, 0, err
			}
		}
	}
	return sequences, all, nil
}
