package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
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
	return r.append(ctx, "", decisions, outcomes, nil)
}

// AppendOnce keeps the names of batches for batchesStay.
func (r records) AppendOnce(
	ctx context.Context, batch string, decisions []audit.Decision, outcomes []audit.Outcome,
) ([]int64, error) {
	if batch == "" {
		return nil, fault.New(fault.Invalid, "a batch without a name cannot be told from another")
	}
	return r.append(ctx, batch, decisions, outcomes, nil)
}

// append also does what also does, if it is set, in the same transaction.
func (r records) append(
	ctx context.Context, batch string, decisions []audit.Decision, outcomes []audit.Outcome,
	also func(ctx context.Context, tx *tx, sequences []int64) error,
) ([]int64, error) {
	// Sealing is the costly part that needs no lock.
	sealed := make([][]byte, len(decisions))
	for i, d := range decisions {
		var err error
		if sealed[i], err = r.db.sealer.Seal(pathPurpose(d.Tenant), []byte(d.Path)); err != nil {
			return nil, err
		}
	}
	var sequences []int64
	err := r.db.update(inHurry(ctx), everyTenant, func(ctx context.Context, tx *tx) (err error) {
		var known bool
		if sequences, known, err = tx.openBatch(ctx, batch, r.db.now()); known || err != nil {
			return err
		}
		if sequences, err = tx.number(ctx, decisions); err != nil {
			return err
		}
		if err := tx.closeBatch(ctx, batch, sequences); err != nil {
			return err
		}
		rows := make([][]any, len(decisions))
		for i, d := range decisions {
			rows[i] = []any{
				d.Tenant, sequences[i], d.Request, millis(d.Time), d.App, d.Site,
				d.Principal.Kind, d.Principal.ID, d.Principal.Issuer, d.Principal.Subject, d.Session, d.Token,
				words(d.Methods), d.ClientIP, d.Method, d.Host, sealed[i], d.Effect.String(), d.Reason, d.Rule,
			}
		}
		if err := tx.each(ctx, insertDecision, rows); err != nil {
			return err
		}
		if also != nil {
			if err := also(ctx, tx, sequences); err != nil {
				return err
			}
		}
		return tx.addOutcomes(ctx, outcomes)
	})
	if err != nil {
		return nil, err
	}
	return sequences, nil
}

// number gives each decision the next number of its tenant, in order; each tenant's head moves once.
func (t *tx) number(ctx context.Context, decisions []audit.Decision) ([]int64, error) {
	counts := make(map[id.Tenant]int64, 1)
	for _, d := range decisions {
		counts[d.Tenant]++
	}
	next := make(map[id.Tenant]int64, len(counts))
	// Always in one order: two edges that each wait for a head that the other holds would never end.
	tenants := slices.Sorted(maps.Keys(counts))
	rows := make([][]any, len(tenants))
	for i, tenant := range tenants {
		rows[i] = []any{tenant, counts[tenant]}
	}
	err := t.askEach(ctx, advanceSequence, rows, func(i int, r row) error {
		var last int64
		err := r.Scan(&last)
		next[tenants[i]] = last - counts[tenants[i]] + 1
		return err
	})
	if err != nil {
		return nil, err
	}
	sequences := make([]int64, len(decisions))
	for i, d := range decisions {
		sequences[i] = next[d.Tenant]
		next[d.Tenant]++
	}
	return sequences, nil
}

// openBatch puts the name of a batch down, or returns the numbers that it was given before. Another transaction with the same
// name waits here until this one has ended.
func (t *tx) openBatch(ctx context.Context, batch string, now time.Time) (sequences []int64, known bool, err error) {
	if batch == "" {
		return nil, false, nil
	}
	n, err := t.affected(ctx, `INSERT INTO audit_batches (id, at, sequences) VALUES ($1, $2, '') ON CONFLICT (id) DO NOTHING`,
		batch, millis(now))
	if err != nil || n == 1 {
		return nil, false, err
	}
	var text string
	if err := t.QueryRowContext(ctx, `SELECT sequences FROM audit_batches WHERE id = $1`, batch).Scan(&text); err != nil {
		return nil, false, err
	}
	for word := range strings.FieldsSeq(text) {
		one, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, false, fmt.Errorf("batch %s: %w", batch, err)
		}
		sequences = append(sequences, one)
	}
	return sequences, true, nil
}

func (t *tx) closeBatch(ctx context.Context, batch string, sequences []int64) error {
	if batch == "" {
		return nil
	}
	text := strings.Trim(fmt.Sprint(sequences), "[]")
	_, err := t.ExecContext(ctx, `UPDATE audit_batches SET sequences = $2 WHERE id = $1`, batch, text)
	return err
}

func (t *tx) addOutcomes(ctx context.Context, outcomes []audit.Outcome) error {
	rows := make([][]any, len(outcomes))
	for i, o := range outcomes {
		rows[i] = []any{
			o.Tenant, o.Sequence, millis(o.Time), o.Status, o.BytesIn, o.BytesOut, o.Duration.Microseconds(), o.Error,
		}
	}
	return t.each(ctx, insertOutcome, rows)
}

func (r records) Decisions(ctx context.Context, tenant id.Tenant, after int64, limit int) ([]audit.Decision, error) {
	return list(r.db.ask(ctx, tenant, `SELECT `+decisionColumns+` FROM decisions
		WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, tenant, after, limit), r.scanDecision)
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
	return list(r.db.ask(ctx, tenant, `SELECT `+outcomeColumns+` FROM outcomes
		WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, tenant, after, limit), func(from row) (o audit.Outcome, err error) {
		var at, micros int64
		err = from.Scan(&o.Tenant, &o.Sequence, &at, &o.Status, &o.BytesIn, &o.BytesOut, &micros, &o.Error)
		o.Time, o.Duration = moment(at), time.Duration(micros)*time.Microsecond
		return o, err
	})
}
