package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/sallyport-dev/sallyport/pkg/edge"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
	"github.com/sallyport-dev/sallyport/proto/admin/v1/adminv1connect"
)

// withoutStore is an edge whose database is away.
type withoutStore struct {
	adminv1connect.UnimplementedAdminServiceHandler
}

func (withoutStore) ListTenants(context.Context, *adminv1.ListTenantsRequest) (*adminv1.ListTenantsResponse, error) {
	return nil, connect.NewError(connect.CodeUnavailable, errors.New("the edge's store cannot be reached"))
}

// Who has to revoke something while the database is away is told how that is done.
func TestWithTheDatabaseAwayTheClinicIsToBeNamed(t *testing.T) {
	p := &program{config: edge.Default()}
	p.config.StateDir = t.TempDir()
	_, err := p.theTenant(t.Context())
	if err == nil || strings.Contains(err.Error(), "--tenant") {
		t.Errorf("without an edge: %v", err)
	}
	l, err := net.Listen("unix", p.config.Socket())
	if err != nil {
		t.Fatal(err)
	}
	_, handler := adminv1connect.NewAdminServiceHandler(withoutStore{})
	server := &http.Server{Handler: handler} //nolint:gosec // a socket of this test's own
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = errors.Join(server.Close(), os.RemoveAll(p.config.StateDir)) })
	if _, err = p.theTenant(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be reached") || !strings.Contains(err.Error(), "--tenant") {
		t.Errorf("%v", err)
	}
}
