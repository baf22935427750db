package store

import (
	"context"
	"math"
	"strconv"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

func TestGenerationsShareATransaction(t *testing.T) {
	db := opened(t)
	run(t, db, `PRAGMA foreign_keys = 0`)
	for _, c := range []id.Connector{"con_a", "con_b", "con_revoked"} {
		run(t, db, `INSERT INTO connectors (tenant, id, site, public_key, created, revoked, frozen, generation)
			VALUES ('maple', $1, 'main', '', 0, $2, '', 6)`, c, c == "con_revoked")
	}
	var all []*question[issue]
	for i, c := range []id.Connector{"con_a", "con_unknown", "con_revoked", "con_b", "con_a", "con_a"} {
		all = append(all, newQuestion(issue{connector: c, instance: "process " + strconv.Itoa(i%5), newest: math.MaxUint64}))
	}
	db.generations.asked = append(db.generations.asked, all...)
	if err := db.generations.write(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint64{7, 0, 0, 7, 8, 9} {
		if !all[i].answered() || all[i].of.run.Generation != want || (all[i].err == nil) != (want != 0) {
			t.Errorf("%s: generation %d, %v; want %d, with the first transaction", all[i].of.connector, all[i].of.run.Generation, all[i].err, want)
		}
	}
	if all[5].of.run.Returns != 1 {
		t.Error("a process that came back is not told apart")
	}
	if !fault.Is(all[1].err, fault.NotFound) || !fault.Is(all[2].err, fault.Denied) {
		t.Error("one unknown, one revoked:", all[1].err, all[2].err)
	}
}

// A caller that goes while another one writes is let go, and takes no number.
func TestGenerationWaitIsBounded(t *testing.T) {
	db := opened(t)
	db.generations.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (enrolment{db}).JoinRun(ctx, "con_a", "a", math.MaxUint64); err == nil {
		t.Fatal("a number for a caller that had gone")
	}
	if n := len(db.generations.take()); n != 0 {
		t.Fatalf("%d still ask", n)
	}
}
