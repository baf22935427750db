package adminapi

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func userMessage(u identity.User) *adminv1.User {
	return &adminv1.User{Tenant: string(u.Tenant), Id: string(u.ID), Email: u.Email, Disabled: u.Disabled, CreatedMs: millis(u.Created)}
}

// AddUser implements the API.
func (s *Server) AddUser(ctx context.Context, r *adminv1.AddUserRequest) (*adminv1.AddUserResponse, error) {
	u, invited, err := s.admin.AddUser(ctx, id.Tenant(r.Tenant), r.Email, r.Quiet)
	if err != nil {
		return nil, err
	}
	return &adminv1.AddUserResponse{User: userMessage(u), Invited: invited}, nil
}

// ListUsers implements the API.
func (s *Server) ListUsers(ctx context.Context, r *adminv1.ListUsersRequest) (*adminv1.ListUsersResponse, error) {
	all, err := s.admin.ListUsers(ctx, id.Tenant(r.Tenant))
	if err != nil {
		return nil, err
	}
	return &adminv1.ListUsersResponse{Users: each(all, userMessage)}, nil
}

// SetUserDisabled implements the API.
func (s *Server) SetUserDisabled(ctx context.Context, r *adminv1.SetUserDisabledRequest) (*adminv1.SetUserDisabledResponse, error) {
	how, err := s.admin.SetUserDisabled(ctx, id.Tenant(r.Tenant), r.Email, r.Disabled)
	if err != nil {
		return nil, err
	}
	return &adminv1.SetUserDisabledResponse{How: revocation(how)}, nil
}

// TestMail implements the API.
func (s *Server) TestMail(ctx context.Context, r *adminv1.TestMailRequest) (*adminv1.TestMailResponse, error) {
	if err := s.admin.TestMail(ctx, r.To); err != nil {
		return nil, err
	}
	return &adminv1.TestMailResponse{}, nil
}

// ListSessions implements the API.
func (s *Server) ListSessions(ctx context.Context, r *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	all, emails, err := s.admin.ListSessions(ctx, id.Tenant(r.Tenant))
	if err != nil {
		return nil, err
	}
	list := each(all, func(one session.Session) *adminv1.Session {
		return &adminv1.Session{
			Tenant: string(one.Tenant), Id: string(one.ID), User: string(one.User), Email: emails[one.User],
			CreatedMs: millis(one.Created), LastSeenMs: millis(one.LastSeen), ExpiresMs: millis(one.Expires),
			Client: one.Client, Source: one.Source,
		}
	})
	return &adminv1.ListSessionsResponse{Sessions: list}, nil
}

// RevokeSession implements the API.
func (s *Server) RevokeSession(ctx context.Context, r *adminv1.RevokeSessionRequest) (*adminv1.RevokeSessionResponse, error) {
	how, err := s.admin.RevokeSession(ctx, id.Tenant(r.Tenant), id.Session(r.Session))
	if err != nil {
		return nil, err
	}
	return &adminv1.RevokeSessionResponse{How: revocation(how)}, nil
}

func tokenMessage(t token.ServiceToken) *adminv1.Token {
	return &adminv1.Token{
		Tenant: string(t.Tenant), Id: string(t.ID), Service: string(t.Service), CreatedMs: millis(t.Created),
		ExpiresMs: millis(t.Expires), LastUsedMs: millis(t.LastUsed), RevokedMs: millis(t.Revoked),
	}
}

// MintToken implements the API.
func (s *Server) MintToken(ctx context.Context, r *adminv1.MintTokenRequest) (*adminv1.MintTokenResponse, error) {
	record, jwt, err := s.admin.MintToken(ctx, id.Tenant(r.Tenant), r.Service, time.Duration(r.LifeS)*time.Second)
	if err != nil {
		return nil, err
	}
	return &adminv1.MintTokenResponse{Token: tokenMessage(record), Jwt: jwt}, nil
}

// ListTokens implements the API.
func (s *Server) ListTokens(ctx context.Context, r *adminv1.ListTokensRequest) (*adminv1.ListTokensResponse, error) {
	all, err := s.admin.ListTokens(ctx, id.Tenant(r.Tenant))
	if err != nil {
		return nil, err
	}
	return &adminv1.ListTokensResponse{Tokens: each(all, tokenMessage)}, nil
}

// RevokeToken implements the API.
func (s *Server) RevokeToken(ctx context.Context, r *adminv1.RevokeTokenRequest) (*adminv1.RevokeTokenResponse, error) {
	how, err := s.admin.RevokeToken(ctx, id.Tenant(r.Tenant), id.Token(r.Token))
	if err != nil {
		return nil, err
	}
	return &adminv1.RevokeTokenResponse{How: revocation(how)}, nil
}
