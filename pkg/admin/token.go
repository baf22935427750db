package admin

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// How long a service token may live.
const (
	MinTokenLife     = time.Hour
	MaxTokenLife     = 365 * 24 * time.Hour
	DefaultTokenLife = 90 * 24 * time.Hour
)

// MintToken makes a token for a machine client. The JWT is returned this once; life 0 means DefaultTokenLife.
func (s *Service) MintToken(ctx context.Context, t id.Tenant, service string, life time.Duration) (token.ServiceToken, string, error) {
	clinic, err := s.tenant(ctx, t)
	if err != nil {
		return token.ServiceToken{}, "", err
	}
	label, err := parseLabel[id.Service]("service", service)
	if err != nil {
		return token.ServiceToken{}, "", err
	}
	if life == 0 {
		life = DefaultTokenLife
	}
	if life < MinTokenLife || life > MaxTokenLife {
		return token.ServiceToken{}, "", fault.New(fault.Invalid, "life %s: choose between 1h and 8760h (a year)", life)
	}
	now := s.Now()
	record := token.ServiceToken{Tenant: t, ID: id.NewToken(), Service: label, Created: now, Expires: now.Add(life)}
	jwt, err := s.Minter.Mint(token.Service, token.Claims{
		Issuer: session.Issuer(clinic.SignInHost), Subject: string(label), Audience: []string{session.ServiceAudience(t)},
		Expires: record.Expires, IssuedAt: now, ID: string(record.ID), Tenant: t, Kind: "service",
	})
	if err != nil {
		return token.ServiceToken{}, "", err
	}
	// The record first would let a token exist that nobody was shown; the other order loses nothing but a signature.
	if err := s.Tokens.CreateServiceToken(ctx, record); err != nil {
		return token.ServiceToken{}, "", err
	}
	s.done("token mint", t, zap.String("token", string(record.ID)), zap.String("service", string(label)))
	return record, jwt, nil
}

// ListTokens lists a clinic's service tokens.
func (s *Service) ListTokens(ctx context.Context, t id.Tenant) ([]token.ServiceToken, error) {
	if _, err := s.tenant(ctx, t); err != nil {
		return nil, err
	}
	return s.Tokens.ServiceTokens(ctx, t)
}

// RevokeToken ends a service token; what it has open is cut within seconds.
func (s *Service) RevokeToken(ctx context.Context, t id.Tenant, tok id.Token) (Revoked, error) {
	how, err := s.revoke(ctx, change.Change{Tenant: t, Kind: change.Token, ID: string(tok)}, func(ctx context.Context) error {
		return s.Tokens.RevokeServiceToken(ctx, t, tok, s.Now())
	})
	if err == nil {
		s.done("token revoke", t, zap.String("token", string(tok)), zap.Bool("pending", how.Pending))
	}
	return how, err
}

// ListSessions lists a clinic's live logins with the address of whom each belongs to.
func (s *Service) ListSessions(ctx context.Context, t id.Tenant) ([]session.Session, map[id.User]string, error) {
	if _, err := s.tenant(ctx, t); err != nil {
		return nil, nil, err
	}
	sessions, err := s.Sessions.Sessions(ctx, t, s.Now())
	if err != nil {
		return nil, nil, err
	}
	emails, err := s.emails(ctx, t)
	return sessions, emails, err
}
