package admin

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/mail"
)

// AddUser adds a person and, unless quiet, invites them by mail. A mail that cannot be sent leaves the person added and says
// so with fault.Unavailable; invited is false and err nil only when quiet was asked for.
func (s *Service) AddUser(ctx context.Context, t id.Tenant, rawEmail string, quiet bool) (u identity.User, invited bool, err error) {
	clinic, err := s.tenant(ctx, t)
	if err != nil {
		return u, false, err
	}
	email, err := identity.CanonicalEmail(rawEmail)
	if err != nil {
		return u, false, fault.New(fault.Invalid, "e-mail address %q: %s", rawEmail, err)
	}
	u = identity.User{Tenant: t, ID: id.NewUser(), Issuer: identity.LocalIssuer, Email: email, Created: s.Now()}
	u.Subject = string(u.ID)
	if err := s.Identity.CreateUser(ctx, u); err != nil {
		return identity.User{}, false, err
	}
	s.done("user add", t, zap.String("user", string(u.ID)))
	if quiet {
		return u, false, nil
	}
	switch err := s.send(ctx, s.Texts.Invitation(email, clinic.Name, "https://"+clinic.SignInHost+s.Port+"/")); {
	case errors.Is(err, mail.ErrNoServer):
		return u, false, fault.New(fault.Unavailable, "%s is added, but not invited: no mail server is configured (mail.host)", email)
	case err != nil:
		return u, false, fault.New(fault.Unavailable, "%s is added, but the invitation was not sent; try `edge mail test %s`", email, email).Because(err)
	}
	return u, true, nil
}

func (s *Service) send(ctx context.Context, msg mail.Message) error {
	if s.Mail == nil {
		return mail.ErrNoServer
	}
	return s.Mail.Send(ctx, msg)
}

// ListUsers lists a clinic's people.
func (s *Service) ListUsers(ctx context.Context, t id.Tenant) ([]identity.User, error) {
	if _, err := s.tenant(ctx, t); err != nil {
		return nil, err
	}
	return s.Identity.Users(ctx, t)
}

// SetUserDisabled locks a person out, which ends their sessions at once, or lets them in again.
func (s *Service) SetUserDisabled(ctx context.Context, t id.Tenant, rawEmail string, disabled bool) (Revoked, error) {
	email, err := identity.CanonicalEmail(rawEmail)
	if err != nil {
		return Revoked{}, fault.New(fault.Invalid, "e-mail address %q: %s", rawEmail, err)
	}
	write := func(ctx context.Context) error { return s.setDisabled(ctx, t, email, disabled) }
	if !disabled {
		return Revoked{}, write(ctx)
	}
	// Without the store nobody knows whose address it is; who is signed in has it with them.
	how, err := s.revoke(ctx, change.Change{Tenant: t, Kind: change.User, ID: email}, write)
	if err == nil && how.Pending {
		s.done("user disable", t, zap.Bool("pending", true))
	}
	return how, err
}

func (s *Service) setDisabled(ctx context.Context, t id.Tenant, email string, disabled bool) error {
	u, err := s.Identity.UserByEmail(ctx, t, email)
	if err != nil {
		return err
	}
	if err := s.Identity.SetDisabled(ctx, t, u.ID, disabled); err != nil {
		return err
	}
	action := "user enable"
	if disabled {
		action = "user disable"
	}
	s.done(action, t, zap.String("user", string(u.ID)))
	return nil
}

// TestMail sends a mail to an address now and returns what the mail server said of it.
func (s *Service) TestMail(ctx context.Context, to string) error {
	email, err := identity.CanonicalEmail(to)
	if err != nil {
		return fault.New(fault.Invalid, "e-mail address %q: %s", to, err)
	}
	switch err := s.send(ctx, s.Texts.Test(email)); {
	case errors.Is(err, mail.ErrNoServer):
		return fault.New(fault.Unavailable, "no mail server is configured: set mail.host in the edge's configuration")
	case err != nil:
		words := err.Error()
		var refused *mail.SendError
		if errors.As(err, &refused) {
			words = refused.Detail() // whoever tests the mail must see the server's own words
		}
		return fault.New(fault.Unavailable, "the mail server did not take it: %s", words)
	}
	return nil
}
