package admin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// edges is a Revoker.
type edges struct{ asked []change.Change }

func (e *edges) Revoke(_ context.Context, c change.Change) (int, error) {
	e.asked = append(e.asked, c)
	return 2, nil
}

// A store that says no, or says nothing, does not hold a revocation up; one that answers is all that is asked.
func TestRevocationsDoNotWaitForTheStore(t *testing.T) {
	gone := fault.New(fault.NotFound, "no such session")
	for name, c := range map[string]struct {
		write   func(ctx context.Context) error
		pending bool
		err     error
	}{
		"written":   {func(context.Context) error { return nil }, false, nil},
		"unknown":   {func(context.Context) error { return gone }, false, gone},
		"away":      {func(context.Context) error { return fault.New(fault.Unavailable, "away") }, true, nil},
		"no answer": {func(context.Context) error { <-time.After(time.Minute); return nil }, true, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			others := &edges{}
			s := New(Config{Revoker: others})
			began := time.Now()
			how, err := s.revoke(t.Context(), change.Change{Tenant: "maple", Kind: change.Session, ID: "ses_1"}, c.write)
			if !errors.Is(err, c.err) || how.Pending != c.pending || c.pending != (len(others.asked) == 1) || c.pending != (how.Edges == 2) {
				t.Errorf("%s: %+v, %v, asked %v", name, how, err, others.asked)
			}
			if took := time.Since(began); took > storeAnswers {
				t.Errorf("%s: it took %s", name, took)
			}
			<-time.After(time.Minute)
		})
	}
	s := New(Config{})
	if _, err := s.revoke(t.Context(), change.Change{}, func(context.Context) error { return fault.New(fault.Unavailable, "away") }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without anybody to tell: %v", err)
	}
}
