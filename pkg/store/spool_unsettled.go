package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// leaveUnsettled marks decisions that may be in the database already, in the transaction that puts them here.
func (t *tx) leaveUnsettled(ctx context.Context, commit string, decisions []audit.Decision, numbers []int64) error {
	rows := make([][]any, len(decisions))
	for i, d := range decisions {
		rows[i] = []any{d.Tenant, numbers[i], commit}
	}
	return t.each(ctx, `INSERT INTO spool_unsettled (tenant, number, commit_id) VALUES ($1, $2, $3)`, rows)
}

// settle finds out of every commit that was not answered whether it took place. What it held is then either out of the file, as if
// merged, or waits as anything else does.
func (f *spoolFile) settle(ctx context.Context, once audit.Merger) error {
	commits, err := list(f.db.ask(ctx, everyTenant, `SELECT DISTINCT commit_id FROM spool_unsettled ORDER BY commit_id`),
		func(r row) (commit string, err error) { return commit, r.Scan(&commit) })
	if err != nil {
		return err
	}
	for _, commit := range commits {
		if err := f.settleOne(ctx, commit, once); err != nil {
			return err
		}
	}
	return nil
}

func (f *spoolFile) settleOne(ctx context.Context, commit string, once audit.Merger) error {
	held, err := list(f.db.ask(ctx, everyTenant, `SELECT `+decisionColumns+` FROM decisions d WHERE EXISTS
		(SELECT 1 FROM spool_unsettled u WHERE u.tenant = d.tenant AND u.number = d.sequence AND u.commit_id = $1)`, commit),
		records{f.db}.scanDecision)
	if err != nil {
		return err
	}
	sequences, err := once.Took(ctx, commit, held)
	if err != nil {
		return err
	}
	if len(sequences) > 0 && len(sequences) != len(held) {
		return fmt.Errorf("spool %s: the database numbered %d of %d decisions", f.path, len(sequences), len(held))
	}
	err = f.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		for i, sequence := range sequences {
			if err := tx.moved(ctx, held[i], held[i].Sequence, sequence); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM spool_unsettled WHERE commit_id = $1`, commit)
		return err
	})
	if err == nil {
		f.held.Add(-int64(len(sequences)))
		f.owned(held[:len(sequences)], -1)
	}
	return err
}

// settled cuts a tenant's waiting decisions off before the first that came since settle and may be in the database; more says that it did.
func (f *spoolFile) settled(ctx context.Context, tenant id.Tenant, waiting []audit.Decision) (sure []audit.Decision, more bool, err error) {
	open, err := list(f.db.ask(ctx, tenant, `SELECT number FROM spool_unsettled WHERE tenant = $1`, tenant),
		func(r row) (n int64, err error) { return n, r.Scan(&n) })
	if err != nil {
		return nil, false, err
	}
	cut := slices.IndexFunc(waiting, func(d audit.Decision) bool { return slices.Contains(open, d.Sequence) })
	if cut < 0 {
		return waiting, false, nil
	}
	return waiting[:cut], true, nil
}
