package edgetest_test

import (
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
)

// What is still open when the edge stops is cut at the end of the drain, and its outcome is on record all the same.
func TestWhatIsCutAtTheEndIsOnRecord(t *testing.T) {
	w, _ := oscarWorld(t, false)
	d := atWork(t, w)
	for range 12 {
		d.openSocket()
	}
	w.Edge.Stop()
	sealer, err := secret.LoadMaster(filepath.Join(w.Dir, "edge", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(w.Dir, "edge", "sallyport.db")}, sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	decisions, err := db.Audit().Decisions(t.Context(), "maple", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := db.Audit().Outcomes(t.Context(), "maple", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	concluded := map[int64]bool{}
	for _, o := range outcomes {
		concluded[o.Sequence] = true
	}
	for _, one := range decisions {
		if one.Effect == policy.Allow && !concluded[one.Sequence] {
			t.Errorf("nothing is on record of what became of %d, %s", one.Sequence, one.Path)
		}
	}
	if len(decisions) < 12 {
		t.Errorf("%d decisions on record", len(decisions))
	}
}
