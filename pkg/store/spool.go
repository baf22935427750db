package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// Spool is where an edge of a cluster keeps records while PostgreSQL is away: a SQLite file in a directory of the edge's own, as
// durable and sealed as a store. Each process has a file of its own under a lock, so that one which takes over another's place
// need not wait for it; files of processes that have ended are merged by whichever comes next, and removed.
type Spool struct {
	dir    string
	sealer *secret.Sealer
	limit  int64

	own     *spoolFile
	merging sync.Mutex // lets one merge run at a time, and guards sweep; nobody who records waits for it
	sweep   time.Time  // when to look again for files that were left
	mu      sync.Mutex // guards left
	left    []*spoolFile
}

var _ audit.Spool = (*Spool)(nil)

const (
	// spoolLimit is how many records may wait: 30 minutes at 270 requests a second, about 0.6 GB.
	spoolLimit = 1_000_000
	// spoolBatch is how many decisions of a tenant are merged in one transaction.
	spoolBatch = 256
	// spoolSweep is how often files are looked for that another process left.
	spoolSweep = time.Minute
	spoolExt   = ".db"
)

// OpenSpool opens a file for this process in dir, which it makes if need be.
func OpenSpool(ctx context.Context, dir string, sealer *secret.Sealer) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	own, err := openSpoolFile(ctx, dir, strings.ToLower(rand.Text()), sealer)
	if err != nil {
		return nil, err
	}
	return &Spool{dir: dir, sealer: sealer, limit: spoolLimit, own: own}, nil
}

// Append implements audit.Spool.
func (s *Spool) Append(ctx context.Context, decisions []audit.Decision, outcomes []audit.Outcome) ([]int64, error) {
	return s.append(ctx, "", decisions, outcomes)
}

// AppendUnsettled implements audit.Spool.
func (s *Spool) AppendUnsettled(
	ctx context.Context, commit string, decisions []audit.Decision, outcomes []audit.Outcome,
) ([]int64, error) {
	return s.append(ctx, commit, decisions, outcomes)
}

func (s *Spool) append(ctx context.Context, commit string, decisions []audit.Decision, outcomes []audit.Outcome) ([]int64, error) {
	// Outcomes of decisions that are on record already come through also when it is full: they are not more than those.
	if held := s.own.held.Load(); len(decisions) > 0 && held+int64(len(decisions)) > s.limit {
		return nil, fault.New(fault.Unavailable, "the spool is full: %d records wait for the database", held)
	}
	return s.own.append(ctx, commit, decisions, outcomes)
}

// Room implements audit.Spool. A tenant has no more than are free besides, counting an outcome with each decision: alone half of all, and
// whoever comes after it half of the rest.
func (s *Spool) Room(tenant id.Tenant) error {
	if has := 2 * s.own.of(tenant); has > 0 && has >= s.limit-s.own.held.Load() {
		return fault.New(fault.Exhausted, "%d records of this clinic wait for the database: that is its share of the spool", has)
	}
	return nil
}

// Held implements audit.Spool.
func (s *Spool) Held() (waiting, limit int64) {
	for _, f := range s.files() {
		waiting += f.held.Load()
	}
	return waiting, s.limit
}

// files are this process's own and those that were left.
func (s *Spool) files() []*spoolFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*spoolFile{s.own}, s.left...)
}

// Merge implements audit.Spool.
func (s *Spool) Merge(ctx context.Context, into audit.Store, once audit.Merger) (more bool, err error) {
	s.merging.Lock()
	defer s.merging.Unlock()
	var faults []error
	if now := time.Now(); now.After(s.sweep) {
		s.sweep = now.Add(spoolSweep)
		faults = append(faults, s.adopt(ctx)) // one that is damaged holds up no other
	}
	for _, f := range s.files() {
		if f.held.Load() == 0 {
			continue
		}
		again, err := f.merge(ctx, into, once)
		if err != nil {
			faults = append(faults, err) // one that is damaged holds up no other
		}
		if more = more || again; ctx.Err() != nil {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = slices.DeleteFunc(s.left, func(f *spoolFile) bool {
		if f.held.Load() > 0 {
			return false
		}
		faults = append(faults, f.close())
		return true
	})
	return more, errors.Join(faults...)
}

// adopt opens the files whose processes have ended.
func (s *Spool) adopt(ctx context.Context) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	var faults []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), spoolExt)
		if !ok || slices.ContainsFunc(s.files(), func(f *spoolFile) bool { return f.name == name }) {
			continue
		}
		f, err := openSpoolFile(ctx, s.dir, name, s.sealer)
		if errors.Is(err, errLocked) {
			continue
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		s.mu.Lock()
		s.left = append(s.left, f)
		s.mu.Unlock()
	}
	return errors.Join(faults...)
}

// Close closes all files, and removes those in which nothing waits.
func (s *Spool) Close() error {
	s.merging.Lock()
	defer s.merging.Unlock()
	var faults []error
	for _, f := range s.files() {
		faults = append(faults, f.close())
	}
	return errors.Join(faults...)
}

// spoolFile is one file: decisions and outcomes that wait, numbered by the file alone. An outcome whose number is below 0 belongs to
// the decision that has the opposite in the database.
type spoolFile struct {
	db   *DB
	name string
	path string

	writing sync.RWMutex // held for reading by whoever adds records, so that nobody counts in between
	held    atomic.Int64

	mu      sync.Mutex          // guards byOwner
	byOwner map[id.Tenant]int64 // decisions of each tenant that this process has put in and that wait
}

// of is how many decisions of a tenant wait.
func (f *spoolFile) of(tenant id.Tenant) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byOwner[tenant]
}

// owned counts decisions that were put in (1) or moved (-1).
func (f *spoolFile) owned(decisions []audit.Decision, by int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range decisions {
		if f.byOwner[d.Tenant] += by; f.byOwner[d.Tenant] <= 0 { // below 0 for those that a former process put in
			delete(f.byOwner, d.Tenant)
		}
	}
}

// What a spool has beside the schema of a store: decisions that are merged, and whose outcomes may still come; and decisions that
// may be in the database already, by a commit that was not answered.
const (
	spoolMerged = `CREATE TABLE IF NOT EXISTS spool_merged (
		tenant TEXT NOT NULL, number BIGINT NOT NULL, sequence BIGINT NOT NULL, PRIMARY KEY (tenant, number))`
	spoolUnsettled = `CREATE TABLE IF NOT EXISTS spool_unsettled (
		tenant TEXT NOT NULL, number BIGINT NOT NULL, commit_id TEXT NOT NULL, PRIMARY KEY (tenant, number))`
)

func openSpoolFile(ctx context.Context, dir, name string, sealer *secret.Sealer) (*spoolFile, error) {
	f := &spoolFile{name: name, path: filepath.Join(dir, name+spoolExt), byOwner: map[id.Tenant]int64{}}
	var err error
	if f.db, err = Open(ctx, Config{Path: f.path}, sealer); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	err = f.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, spoolMerged)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, spoolUnsettled)
		return err
	})
	if err == nil {
		err = f.count(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", f.path, explain(err)), f.db.Close())
	}
	return f, nil
}

// count finds out how many records wait: an outcome that was said twice is there once.
func (f *spoolFile) count(ctx context.Context) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	var waiting int64
	err := f.db.ask(ctx, everyTenant, `SELECT (SELECT COUNT(*) FROM decisions) + (SELECT COUNT(*) FROM outcomes)`).Scan(&waiting)
	if err == nil {
		f.held.Store(waiting)
	}
	return err
}

// close removes the file if nothing waits in it. Its lock goes with it: nothing is ever written under the name again.
func (f *spoolFile) close() error {
	faults := []error{f.db.Close()}
	if f.held.Load() == 0 {
		for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
			if err := os.Remove(f.path + suffix); !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

func (f *spoolFile) append(ctx context.Context, commit string, decisions []audit.Decision, outcomes []audit.Outcome) ([]int64, error) {
	turned := make([]audit.Outcome, len(outcomes))
	for i, o := range outcomes {
		o.Sequence = -o.Sequence
		turned[i] = o
	}
	f.writing.RLock()
	defer f.writing.RUnlock()
	var also func(ctx context.Context, tx *tx, numbers []int64) error
	if commit != "" {
		also = func(ctx context.Context, tx *tx, numbers []int64) error {
			return tx.leaveUnsettled(ctx, commit, decisions, numbers)
		}
	}
	numbers, err := records{f.db}.append(ctx, "", decisions, turned, also)
	if err != nil {
		return nil, err
	}
	f.held.Add(int64(len(decisions) + len(outcomes)))
	f.owned(decisions, 1)
	turnedNumbers := make([]int64, len(numbers))
	for i, n := range numbers {
		turnedNumbers[i] = -n
	}
	return turnedNumbers, nil
}

// merge moves up to one batch of each tenant's decisions, and outcomes whose decisions have been moved.
func (f *spoolFile) merge(ctx context.Context, into audit.Store, once audit.Merger) (more bool, err error) {
	tenants, err := list(f.db.ask(ctx, everyTenant, `SELECT DISTINCT tenant FROM decisions ORDER BY tenant`),
		func(r row) (t id.Tenant, err error) { return t, r.Scan(&t) })
	if err != nil {
		return false, err
	}
	if err := f.settle(ctx, once); err != nil {
		return false, err
	}
	for _, tenant := range tenants {
		again, err := f.mergeDecisions(ctx, tenant, once)
		if err != nil {
			return false, err
		}
		more = more || again
	}
	again, err := f.mergeOutcomes(ctx, into)
	if err != nil {
		return false, err
	}
	if more = more || again; !more {
		return false, f.count(ctx)
	}
	return true, nil
}

// mergeDecisions moves the oldest decisions of a tenant. The name of the batch is that of its first one: if the process died after
// the database had taken it, the database knows the name and how many of them it has.
func (f *spoolFile) mergeDecisions(ctx context.Context, tenant id.Tenant, once audit.Merger) (more bool, err error) {
	waiting, err := f.db.Audit().Decisions(ctx, tenant, 0, spoolBatch)
	if err == nil {
		waiting, more, err = f.settled(ctx, tenant, waiting)
	}
	if err != nil || len(waiting) == 0 {
		return more, err
	}
	numbers := make([]int64, len(waiting))
	batch := slices.Clone(waiting)
	for i := range batch {
		numbers[i], batch[i].Sequence = batch[i].Sequence, 0
	}
	sequences, err := once.AppendOnce(ctx, fmt.Sprintf("%s/%s/%d", f.name, tenant, numbers[0]), batch, nil)
	if err != nil {
		return false, err
	}
	if len(sequences) == 0 || len(sequences) > len(waiting) {
		return false, fmt.Errorf("spool %s: the database numbered %d of %d decisions", f.path, len(sequences), len(waiting))
	}
	err = f.db.update(ctx, tenant, func(ctx context.Context, tx *tx) error {
		for i, sequence := range sequences {
			if err := tx.moved(ctx, batch[i], numbers[i], sequence); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	f.held.Add(-int64(len(sequences)))
	f.owned(batch[:len(sequences)], -1)
	return more || len(waiting) == spoolBatch || len(sequences) < len(waiting), nil
}

// moved takes a decision out that is in the database now, and notes its number there if an outcome may follow.
func (t *tx) moved(ctx context.Context, d audit.Decision, number, sequence int64) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM decisions WHERE tenant = $1 AND sequence = $2`, d.Tenant, number); err != nil {
		return err
	}
	if d.Effect != policy.Allow {
		return nil
	}
	_, err := t.ExecContext(ctx, `INSERT INTO spool_merged (tenant, number, sequence) VALUES ($1, $2, $3)`, d.Tenant, number, sequence)
	return err
}

// dueOutcomes are those that belong to a decision in the database, with its number there; 0 for one that belongs to none.
const dueOutcomes = `SELECT o.tenant, o.sequence, CASE WHEN o.sequence < 0 THEN -o.sequence ELSE COALESCE(m.sequence, 0) END,
		o.at, o.status, o.bytes_in, o.bytes_out, o.duration_us, o.error
	FROM outcomes o LEFT JOIN spool_merged m ON m.tenant = o.tenant AND m.number = o.sequence
	WHERE NOT EXISTS (SELECT 1 FROM decisions d WHERE d.tenant = o.tenant AND d.sequence = o.sequence) LIMIT $1`

// due is an outcome that can be moved; here is its number in the file.
type due struct {
	audit.Outcome
	here int64
}

func (f *spoolFile) mergeOutcomes(ctx context.Context, into audit.Store) (more bool, err error) {
	all, err := list(f.db.ask(ctx, everyTenant, dueOutcomes, spoolBatch), func(r row) (d due, err error) {
		var at, micros int64
		err = r.Scan(&d.Tenant, &d.here, &d.Sequence, &at, &d.Status, &d.BytesIn, &d.BytesOut, &micros, &d.Error)
		d.Time, d.Duration = moment(at), time.Duration(micros)*time.Microsecond
		return d, err
	})
	if err != nil || len(all) == 0 {
		return false, err
	}
	var outcomes []audit.Outcome
	for _, d := range all {
		if d.Sequence > 0 {
			outcomes = append(outcomes, d.Outcome)
		}
	}
	if len(outcomes) > 0 {
		// Said twice, the first one stays.
		if _, err := into.Append(ctx, nil, outcomes); err != nil {
			return false, err
		}
	}
	err = f.db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		for _, d := range all {
			for _, text := range []string{
				`DELETE FROM outcomes WHERE tenant = $1 AND sequence = $2`, `DELETE FROM spool_merged WHERE tenant = $1 AND number = $2`,
			} {
				if _, err := tx.ExecContext(ctx, text, d.Tenant, d.here); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	f.held.Add(-int64(len(all)))
	return len(all) == spoolBatch, nil
}
