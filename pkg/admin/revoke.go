package admin

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// Revoker makes a revocation count that the store does not take now; *cluster.Revoker is one.
type Revoker interface {
	Revoke(ctx context.Context, c change.Change) (edges int, err error)
}

// storeAnswers is how long a revocation waits for the store before it takes effect without it.
const storeAnswers = 1500 * time.Millisecond

// Revoked says how a revocation took effect.
type Revoked struct {
	// Pending: the store could not be told. It counts on this edge and on Edges others all the same, and is written when the store is back.
	Pending bool
	Edges   int
}

// revoke writes a revocation; where the store is away or does not answer, it takes effect all the same. To write it twice does no
// harm.
func (s *Service) revoke(ctx context.Context, c change.Change, write func(ctx context.Context) error) (Revoked, error) {
	if s.Revoker == nil {
		return Revoked{}, write(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- write(context.WithoutCancel(ctx)) }()
	timer := time.NewTimer(storeAnswers)
	defer timer.Stop()
	select {
	case err := <-done:
		if !fault.Is(err, fault.Unavailable) {
			return Revoked{}, err
		}
	case <-timer.C:
	}
	edges, err := s.Revoker.Revoke(ctx, c)
	return Revoked{Pending: true, Edges: edges}, err
}
