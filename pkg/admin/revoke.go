package admin

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/change"
)

// Revoker makes a revocation count that the store does not take now; *cluster.Revoker is one.
type Revoker interface {
	Ensure(ctx context.Context, c change.Change, write func(ctx context.Context) error) (pending bool, edges int, err error)
}

// Revoked says how a revocation took effect.
type Revoked struct {
	// Pending: the store could not be told. It counts on this edge and on Edges others all the same, and is written when the store is back.
	Pending bool
	Edges   int
}

// revoke writes a revocation; where the store is away or does not answer, it takes effect all the same.
func (s *Service) revoke(ctx context.Context, c change.Change, write func(ctx context.Context) error) (Revoked, error) {
	if s.Revoker == nil {
		return Revoked{}, write(ctx)
	}
	pending, edges, err := s.Revoker.Ensure(ctx, c, write)
	return Revoked{Pending: pending, Edges: edges}, err
}
