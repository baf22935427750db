package adminapi

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// RotateKeys implements the API.
func (s *Server) RotateKeys(ctx context.Context, r *adminv1.RotateKeysRequest) (*adminv1.RotateKeysResponse, error) {
	kinds, err := s.admin.RotateKeys(ctx, r.Kinds, r.Emergency)
	if err != nil {
		return nil, err
	}
	return &adminv1.RotateKeysResponse{Kinds: kinds}, nil
}

func revocation(r admin.Revoked) *adminv1.Revocation {
	return &adminv1.Revocation{Pending: r.Pending, Edges: uint32(r.Edges)}
}
