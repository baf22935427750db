package admin

import (
	"context"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// Without anybody to hold a revocation, a store that does not take it is an error.
func TestRevocationsWithoutARevoker(t *testing.T) {
	s := New(Config{})
	if _, err := s.revoke(t.Context(), change.Change{}, func(context.Context) error { return fault.New(fault.Unavailable, "away") }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without anybody to tell: %v", err)
	}
}
