package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// A commit of records is not answered, and nobody says what became of it: it took place, or the server never had it. The records wait in
// the spool with their outcomes; asked soon, or when all trace of the commit has been purged, they come to the database once each, at
// the numbers that they have there.
func TestUnsettledRecordsAreThereOnce(t *testing.T) {
	t.Parallel()
	for _, took := range []bool{true, false} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("took %t, late %t", took, late), func(t *testing.T) {
				t.Parallel()
				unsettled(t, took, late)
			})
		}
	}
}

func unsettled(t *testing.T, took, late bool) {
	config := onPostgres(t)
	straight := openAs(t, config)
	relay, url := pgtest.Through(t, config.PostgreSQL.URL)
	through := openAs(t, store.Config{PostgreSQL: store.PostgreSQL{URL: url}})
	batch := []audit.Decision{decided("maple", "/needle/1"), decided("birch", "/needle/2"), decided("maple", "/needle/3")}
	if late {
		for i := range batch {
			batch[i].Time = time.Now().Add(-3 * time.Hour)
		}
	}
	for i := range batch {
		batch[i].Host = "needle.example"
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := straight.Audit().Append(t.Context(), []audit.Decision{decided("maple", "/before")}, nil)
	must(err)
	relay.CutOffCommitOf("needle.example", took)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // the recorder waits 2 s
	defer cancel()
	_, err = through.Audit().Append(ctx, batch, nil)
	var open interface{ Unsettled() string }
	if !fault.Is(err, fault.Unavailable) || !errors.As(err, &open) || open.Unsettled() == "" || relay.Waits() {
		t.Fatalf("a commit that nobody answers: %v", err)
	}
	relay.Restore()
	spool := openSpool(t, filepath.Join(t.TempDir(), "spool"))
	numbers, err := spool.AppendUnsettled(t.Context(), open.Unsettled(), batch, nil)
	must(err)
	_, err = spool.Append(t.Context(), []audit.Decision{decided("maple", "/after")}, []audit.Outcome{{Tenant: "maple", Sequence: numbers[2], Status: 299}})
	must(err)
	_, err = straight.Audit().Append(t.Context(), []audit.Decision{decided("maple", "/another")}, nil)
	must(err)
	if late {
		pgtest.Exec(t, config.PostgreSQL.URL, `DELETE FROM commits`)
	}
	if _, err := spool.Merge(t.Context(), straight.Audit(), mute{straight.Merger()}); err == nil {
		t.Error("merged without an answer")
	}
	drain(t, spool, through)
	must(spool.Close())
	want := []string{"/before", "/needle/1", "/needle/3", "/another", "/after"}
	at := int64(3)
	if !took {
		want = []string{"/before", "/another", "/needle/1", "/needle/3", "/after"}
		at = 4
	}
	if got := allPaths(t, straight); !slices.Equal(got, want) {
		t.Errorf("on record: %v", got)
	}
	if got, err := straight.Audit().Decisions(t.Context(), "birch", 0, 10); err != nil || len(got) != 1 {
		t.Errorf("of the other tenant: %v, %v", got, err)
	}
	outcomes, err := straight.Audit().Outcomes(t.Context(), "maple", 0, 10)
	if err != nil || len(outcomes) != 1 || outcomes[0].Sequence != at || outcomes[0].Status != 299 {
		t.Errorf("outcomes %v, %v", outcomes, err)
	}
}

// mute finds out what became of a commit, and loses the answer.
type mute struct{ audit.Merger }

func (m mute) Took(ctx context.Context, commit string, decisions []audit.Decision) ([]int64, error) {
	_, err := m.Merger.Took(ctx, commit, decisions)
	return nil, errors.Join(err, errors.New("the answer is lost"))
}
