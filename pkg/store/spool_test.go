package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

func openSpool(t testing.TB, dir string) *store.Spool {
	t.Helper()
	s, err := store.OpenSpool(t.Context(), dir, sealer(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// drain merges until nothing waits.
func drain(t testing.TB, s *store.Spool, db *store.DB) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.Merge(t.Context(), db.Audit(), db.Merger()); err != nil {
			t.Fatal(err)
		}
	}
	if waiting, _ := s.Held(); waiting != 0 {
		t.Errorf("%d records wait after the merge", waiting)
	}
}

func decided(tenant id.Tenant, path string) audit.Decision {
	return audit.Decision{Tenant: tenant, Request: id.Request(path), Path: path, Time: time.Now(), Effect: policy.Allow}
}

// deaf takes batches and loses the answer.
type deaf struct{ audit.Merger }

func (d deaf) AppendOnce(ctx context.Context, batch string, decisions []audit.Decision, outcomes []audit.Outcome) ([]int64, error) {
	_, err := d.Merger.AppendOnce(ctx, batch, decisions, outcomes)
	return nil, errors.Join(err, errors.New("the answer is lost"))
}

// What waits in a spool comes to the store once and in order, with its outcomes, also when an answer is lost, more is written in
// between, and the process ends; then no file is left.
func TestSpoolIsMergedOnce(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "spool")
	db := open(t, filepath.Join(t.TempDir(), "edge.db"))
	before, err := db.Audit().Append(ctx, []audit.Decision{decided("maple", "/0")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openSpool(t, dir)
	numbers, err := s.Append(ctx, []audit.Decision{decided("maple", "/1"), decided("birch", "/b"), decided("maple", "/2")}, nil)
	if err != nil || !slices.Equal(numbers, []int64{-1, -1, -2}) {
		t.Fatal(numbers, err)
	}
	if _, err := s.Merge(ctx, db.Audit(), deaf{db.Merger()}); err == nil {
		t.Fatal("merged without an answer")
	}
	// The process goes on: an outcome of each kind, another decision, and its end.
	if _, err := s.Append(ctx, []audit.Decision{decided("maple", "/3")}, []audit.Outcome{
		{Tenant: "maple", Sequence: before[0], Status: 200}, {Tenant: "maple", Sequence: -2, Status: 202}, {Tenant: "birch", Sequence: -1, Status: 201},
	}); err != nil {
		t.Fatal(err)
	}
	if waiting, _ := s.Held(); waiting != 7 {
		t.Errorf("%d records wait", waiting)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	next := openSpool(t, dir)
	drain(t, next, db)
	if got := allPaths(t, db); !slices.Equal(got, []string{"/0", "/1", "/2", "/3"}) {
		t.Errorf("on record: %v", got)
	}
	// The outcome of one that was merged before: its process is this one.
	late, err := next.Append(ctx, []audit.Decision{decided("maple", "/4")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	drain(t, next, db)
	if _, err := next.Append(ctx, nil, []audit.Outcome{{Tenant: "maple", Sequence: late[0], Status: 204}, {Tenant: "maple", Sequence: -99}}); err != nil {
		t.Fatal(err)
	}
	drain(t, next, db)
	statuses := map[int64]int{}
	outcomes, err := db.Audit().Outcomes(ctx, "maple", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		statuses[o.Sequence] = o.Status
	}
	if fmt.Sprint(statuses) != "map[1:200 3:202 5:204]" {
		t.Errorf("outcomes %v", statuses)
	}
	if got, err := db.Audit().Outcomes(ctx, "birch", 0, 10); err != nil || len(got) != 1 || got[0].Status != 201 {
		t.Errorf("birch's outcomes %v, %v", got, err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// A process that still writes keeps its file; nobody else merges it.
func TestSpoolsOfTwoProcesses(t *testing.T) {
	t.Parallel()
	dir, db := filepath.Join(t.TempDir(), "spool"), open(t, filepath.Join(t.TempDir(), "edge.db"))
	old, next := openSpool(t, dir), openSpool(t, dir)
	if _, err := old.Append(t.Context(), []audit.Decision{decided("maple", "/old")}, nil); err != nil {
		t.Fatal(err)
	}
	drain(t, next, db)
	if got := allPaths(t, db); len(got) != 0 {
		t.Errorf("taken from a process that lives: %v", got)
	}
	drain(t, old, db)
	for _, s := range []*store.Spool{old, next} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := allPaths(t, db); !slices.Equal(got, []string{"/old"}) {
		t.Errorf("on record: %v", got)
	}
}

// spoolVictimEnv is the URL of a database and, after a blank, a spool's directory: this binary, started again, records there.
const spoolVictimEnv = "SALLYPORT_SPOOL_VICTIM"

// spoolVictim says on stdout of each decision when it was acknowledged, and by which number.
func spoolVictim(where string) error {
	url, dir, _ := strings.Cut(where, " ")
	ctx := context.Background()
	key, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32)) // of sealer(t, 1)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{PostgreSQL: store.PostgreSQL{URL: url}}, key)
	if err != nil {
		return err
	}
	spool, err := store.OpenSpool(ctx, dir, key)
	if err != nil {
		return err
	}
	standby := audit.NewStandby(db.Audit(), db.Merger(), spool, metric.New(), zap.NewNop())
	recorder := audit.NewRecorder(standby, audit.RecorderConfig{}, zap.NewNop())
	fail := make(chan error, 16)
	go func() { fail <- standby.Run(ctx) }()
	go func() { fail <- recorder.Run(ctx) }()
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				d := decided("maple", fmt.Sprintf("/%d/%d", w, n))
				sequence, err := recorder.Decide(ctx, d)
				if err != nil {
					continue // refused
				}
				recorder.Conclude(audit.Outcome{Tenant: "maple", Sequence: sequence, Status: 200})
				fmt.Printf("%d %s .\n", sequence, d.Path)
			}
		}()
	}
	return <-fail
}

// PostgreSQL is killed under an edge, which goes on in its spool; then the edge is killed. When both are back, whatever was
// acknowledged is on record once, without a gap in the numbers.
func TestKilledWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url, dir := server.Database(t), filepath.Join(t.TempDir(), "spool")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), spoolVictimEnv+"="+url+" "+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]int64{}
	direct, spooled := 0, 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var sequence int64
		var path, end string
		if n, _ := fmt.Sscan(lines.Text(), &sequence, &path, &end); n < 3 {
			break // the last line, not written whole
		}
		acknowledged[path] = sequence
		if sequence > 0 {
			if direct++; direct == 100 {
				server.Kill(t)
			}
		} else if spooled++; spooled == 500 {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait() // killed: always an error
	if stderr.Len() > 0 || spooled < 500 {
		t.Fatalf("the victim failed by itself after %d and %d: %s", direct, spooled, stderr.String())
	}
	server.Restart(t)
	db, spool := openAs(t, store.Config{PostgreSQL: store.PostgreSQL{URL: url}}), openSpool(t, dir)
	drain(t, spool, db)
	paths := allPaths(t, db) // fails on a gap
	there := map[string]int64{}
	for i, path := range paths {
		if before, twice := there[path]; twice {
			t.Errorf("%s is on record as %d and %d", path, before, i+1)
		}
		there[path] = int64(i + 1)
	}
	for path, sequence := range acknowledged {
		if at := there[path]; at == 0 || sequence > 0 && at != sequence {
			t.Errorf("%s was acknowledged as %d and is on record as %d", path, sequence, at)
		}
	}
	if err := spool.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d decisions were acknowledged by the database and %d in the spool; %d are on record", direct, spooled, len(paths))
}

// A file that is damaged, or was sealed under another key, holds up nothing else, and stays.
func TestDamagedSpoolHoldsUpNothing(t *testing.T) {
	t.Parallel()
	dir, db := filepath.Join(t.TempDir(), "spool"), open(t, filepath.Join(t.TempDir(), "edge.db"))
	s := openSpool(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "damaged.db"), []byte("not a database, and long enough to be taken for one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), []audit.Decision{decided("maple", "/1")}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Merge(t.Context(), db.Audit(), db.Merger()); err == nil || !strings.Contains(err.Error(), "damaged.db") {
		t.Errorf("said of the damage: %v", err)
	}
	if got := allPaths(t, db); !slices.Equal(got, []string{"/1"}) {
		t.Errorf("on record: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "damaged.db")); err != nil {
		t.Error(err)
	}
}
