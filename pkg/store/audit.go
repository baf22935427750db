package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

type records struct{ db *DB }

const (
	// advanceSequence hands out $2 numbers of a tenant; a transaction that fails hands them back.
	advanceSequence = `INSERT INTO audit_heads (tenant, sequence) VALUES ($1, $2)
		ON CONFLICT (tenant) DO UPDATE SET sequence = audit_heads.sequence + excluded.sequence RETURNING sequence`

	decisionColumns = `tenant, sequence, request, at, app, site, principal_kind, principal, issuer, subject, session, token,
		methods, client_ip, method, host, path_sealed, effect, reason, rule`

	insertDecision = `INSERT INTO decisions (` + decisionColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`

	outcomeColumns = `tenant, sequence, at, status, bytes_in, bytes_out, duration_us, error`

	// insertOutcome keeps the first of two: a recorder that does not know whether its last commit went through says the
	// same again.
	insertOutcome = `INSERT INTO outcomes (` + outcomeColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (tenant, sequence) DO NOTHING`
)

// pathPurpose seals the paths of one tenant's records.
func pathPurpose(tenant id.Tenant) string { return string(tenant) + "/audit/path" }

func (r records) Append(ctx context.Context, decisions []audit.Decision, outcomes []audit.Outcome) ([]int64, error) {
	// Sealing is the costly part that needs no lock.
	sealed := make([][]byte, len(decisions))
	for i, d := range decisions {
		var err error
		if sealed[i], err = r.db.sealer.Seal(pathPurpose(d.Tenant), []byte(d.Path)); err != nil {
			return nil, err
		}
	}
	var sequences []int64
	err := r.db.update(ctx, func(ctx context.Context, tx *tx) (err error) {
		if sequences, err = r.number(ctx, tx, decisions); err != nil {
			return err
		}
		insert := tx.StmtContext(ctx, r.db.hot.decision)
		for i, d := range decisions {
			_, err := insert.ExecContext(ctx, d.Tenant, sequences[i], d.Request, millis(d.Time), d.App, d.Site,
				d.Principal.Kind, d.Principal.ID, d.Principal.Issuer, d.Principal.Subject, d.Session, d.Token,
				words(d.Methods), d.ClientIP, d.Method, d.Host, sealed[i], d.Effect.String(), d.Reason, d.Rule)
			if err != nil {
				return err
			}
		}
		return r.addOutcomes(ctx, tx, outcomes)
	})
	if err != nil {
		return nil, err
	}
	return sequences, nil
}

// number gives each decision the next number of its tenant, in order; each tenant's head moves once.
func (r records) number(ctx context.Context, tx *tx, decisions []audit.Decision) ([]int64, error) {
	counts := make(map[id.Tenant]int64, 1)
	for _, d := range decisions {
		counts[d.Tenant]++
	}
	next := make(map[id.Tenant]int64, len(counts))
	advance := tx.StmtContext(ctx, r.db.hot.advance)
	for tenant, n := range counts {
		var last int64
		if err := advance.QueryRowContext(ctx, tenant, n).Scan(&last); err != nil {
			return nil, err
		}
		next[tenant] = last - n + 1
	}
	sequences := make([]int64, len(decisions))
	for i, d := range decisions {
		sequences[i] = next[d.Tenant]
		next[d.Tenant]++
	}
	return sequences, nil
}

func (r records) addOutcomes(ctx context.Context, tx *tx, outcomes []audit.Outcome) error {
	insert := tx.StmtContext(ctx, r.db.hot.outcome)
	for _, o := range outcomes {
		_, err := insert.ExecContext(ctx, o.Tenant, o.Sequence, millis(o.Time), o.Status, o.BytesIn, o.BytesOut,
			o.Duration.Microseconds(), o.Error)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r records) Decisions(ctx context.Context, tenant id.Tenant, after int64, limit int) ([]audit.Decision, error) {
	rows, err := r.db.reader.QueryContext(ctx, `SELECT `+decisionColumns+` FROM decisions
		WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, tenant, after, limit)
	return collect(rows, err, r.scanDecision)
}

func (r records) scanDecision(from row) (d audit.Decision, err error) {
	var at int64
	var methods, effect string
	var sealed []byte
	err = from.Scan(&d.Tenant, &d.Sequence, &d.Request, &at, &d.App, &d.Site,
		&d.Principal.Kind, &d.Principal.ID, &d.Principal.Issuer, &d.Principal.Subject, &d.Session, &d.Token,
		&methods, &d.ClientIP, &d.Method, &d.Host, &sealed, &effect, &d.Reason, &d.Rule)
	if err != nil {
		return audit.Decision{}, err
	}
	d.Time, d.Methods = moment(at), strings.Fields(methods)
	if d.Effect, err = parseEffect(effect); err != nil {
		return audit.Decision{}, fmt.Errorf("decision %d: %w", d.Sequence, err)
	}
	path, err := r.db.sealer.Open(pathPurpose(d.Tenant), sealed)
	if err != nil {
		return audit.Decision{}, fmt.Errorf("decision %d: path: %w", d.Sequence, err)
	}
	d.Path = string(path)
	return d, nil
}

func (r records) Outcomes(ctx context.Context, tenant id.Tenant, after int64, limit int) ([]audit.Outcome, error) {
	rows, err := r.db.reader.QueryContext(ctx, `SELECT `+outcomeColumns+` FROM outcomes
		WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, tenant, after, limit)
	return collect(rows, err, func(from row) (o audit.Outcome, err error) {
		var at, micros int64
		err = from.Scan(&o.Tenant, &o.Sequence, &at, &o.Status, &o.BytesIn, &o.BytesOut, &micros, &o.Error)
		o.Time, o.Duration = moment(at), time.Duration(micros)*time.Microsecond
		return o, err
	})
}
