package enroll

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// Service makes invitations and takes them. Who may invite is admin's question.
type Service struct {
	store Store
	now   func() time.Time
}

// NewService works on store.
func NewService(store Store, now func() time.Time) *Service { return &Service{store: store, now: now} }

// codeForm is crypto/rand.Text: 26 characters of base32, 130 bits, so that a plain hash may keep it and guessing is
// hopeless even without a throttle.
var codeForm = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// Invite makes an invitation to enrol one connector at a site; the code is returned here and kept only as a hash.
func (s *Service) Invite(ctx context.Context, tenant id.Tenant, site id.Site) (code string, _ Invite, err error) {
	code = rand.Text()
	now := s.now()
	i := Invite{
		Tenant: tenant, ID: id.NewInvite(), Site: site, Hash: secret.Hash(code), Created: now, Expires: now.Add(InviteLife),
	}
	if err := s.store.CreateInvite(ctx, i); err != nil {
		return "", Invite{}, err
	}
	return code, i, nil
}

// Enroll spends a code and registers the public key that belongs to it from then on. A code that is wrong, used, expired,
// raced or malformed is fault.Denied, always with the same words.
func (s *Service) Enroll(ctx context.Context, code string, key ed25519.PublicKey) (Connector, error) {
	if len(key) != ed25519.PublicKeySize {
		return Connector{}, denied(errors.New("public key is not 32 bytes"))
	}
	code = strings.ToUpper(strings.TrimSpace(code))
	if !codeForm.MatchString(code) {
		return Connector{}, denied(errors.New("malformed code"))
	}
	c, err := s.store.Enroll(ctx, secret.Hash(code), key, id.NewConnector(), s.now())
	switch fault.CodeOf(err) {
	case "":
		return c, nil
	case fault.Denied, fault.NotFound, fault.Conflict, fault.Exists:
		return Connector{}, denied(err)
	}
	return Connector{}, err
}

func denied(cause error) error {
	return fault.New(fault.Denied, "this enrolment code is not valid (any more): ask for a new invitation").Because(cause)
}
