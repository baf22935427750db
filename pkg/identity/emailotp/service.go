package emailotp

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// Method is what a session signed in by e-mailed code carries in amr. RFC 8176 registers none for e-mail, and "otp" would
// claim a second factor that this is not.
const Method = "email"

// Users finds people by address; identity.Store is one.
type Users interface {
	UserByEmail(ctx context.Context, tenant id.Tenant, email string) (identity.User, error)
}

// MACer makes keyed hashes; secret.Sealer is one.
type MACer interface {
	MAC(purpose string, value []byte) ([]byte, error)
}

var _ MACer = (*secret.Sealer)(nil)

// Service makes and checks codes. It is safe for concurrent use.
type Service struct {
	store Store
	users Users
	macs  MACer
	now   func() time.Time
}

// New returns a Service; now nil means time.Now.
func New(store Store, users Users, macs MACer, now func() time.Time) *Service {
	if now == nil {
		now = time.Now
	}
	return &Service{store: store, users: users, macs: macs, now: now}
}

// Asker is who asks for a code or tries one.
type Asker struct {
	Tenant  id.Tenant
	Browser string // value of the cookie that binds the code to this browser
	Known   string // value of the known-browser cookie; empty for a stranger
	Source  string // session.SourceOf the client
}

// Issued is a code that was made. Deliver is false when nobody has the address: then nothing is sent, and nothing else may
// differ.
type Issued struct {
	Digits  string
	To      string
	Deliver bool
}

// Ask makes a code for an address and returns it for sending. Known and unknown addresses take the same path with the same
// work. ret comes back from Try. Errors: fault.Invalid for what is no address, fault.Exhausted for a throttle; both depend on what
// was typed and how often, never on whether the address is known.
func (s *Service) Ask(ctx context.Context, a Asker, email string, ret []byte) (Issued, error) {
	canonical, err := identity.CanonicalEmail(email)
	if err != nil {
		return Issued{}, err
	}
	account, err := s.macs.MAC(string(a.Tenant)+"/emailotp/account", []byte(canonical))
	if err != nil {
		return Issued{}, err
	}
	now := s.now()
	if err := s.admitAsk(ctx, a, account, now); err != nil {
		return Issued{}, err
	}
	user, err := s.users.UserByEmail(ctx, a.Tenant, canonical)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return Issued{}, err
	}
	if err != nil || user.Disabled {
		user = identity.User{}
	}
	digits, mac, err := s.newCode(a)
	if err != nil {
		return Issued{}, err
	}
	code := Code{
		Tenant: a.Tenant, ID: secret.Hash(a.Browser), Account: account, User: user.ID, MAC: mac,
		Expires: now.Add(Life), Return: ret,
	}
	if err := s.store.PutCode(ctx, code); err != nil {
		return Issued{}, err
	}
	return Issued{Digits: digits, To: canonical, Deliver: user.ID != ""}, nil
}

func (s *Service) admitAsk(ctx context.Context, a Asker, account []byte, now time.Time) error {
	ok, err := s.take(ctx, a.Tenant, "source/"+a.Source, sourceAskLimits(), now)
	if err != nil || !ok {
		return orExhausted(err)
	}
	key, err := s.accountKey(ctx, "ask", a.Tenant, account, hashOrEmpty(a.Known))
	if err != nil {
		return err
	}
	ok, err = s.take(ctx, a.Tenant, key, askLimits(), now)
	if err != nil || !ok {
		return orExhausted(err)
	}
	return nil
}

// Try checks what a person typed and spends the code if it is right: of many concurrent right answers one succeeds. Errors:
// fault.Denied for every kind of wrong, fault.Exhausted for a throttle.
func (s *Service) Try(ctx context.Context, a Asker, digits string) (Code, error) {
	now := s.now()
	ok, err := s.take(ctx, a.Tenant, "source/"+a.Source, sourceTryLimits(), now)
	if err != nil || !ok {
		return Code{}, orExhausted(err)
	}
	code, err := s.store.TryCode(ctx, a.Tenant, secret.Hash(a.Browser), now)
	if err != nil {
		return Code{}, err
	}
	key, err := s.accountKey(ctx, "try", a.Tenant, code.Account, hashOrEmpty(a.Known))
	if err != nil {
		return Code{}, err
	}
	ok, err = s.take(ctx, a.Tenant, key, tryLimits(), now)
	if err != nil || !ok {
		return Code{}, orExhausted(err)
	}
	mac, err := s.mac(a, digits)
	if err != nil {
		return Code{}, err
	}
	right := hmac.Equal(mac, code.MAC)
	if !right || code.User == "" {
		return Code{}, errDenied
	}
	spent, err := s.store.SpendCode(ctx, a.Tenant, code.ID)
	if err != nil {
		return Code{}, err
	}
	if !spent {
		return Code{}, errDenied
	}
	return code, nil
}

// Remember notes that this browser signed the account of a code in, which gives it throttles of its own.
func (s *Service) Remember(ctx context.Context, tenant id.Tenant, known string, code Code) error {
	return s.store.Remember(ctx, tenant, secret.Hash(known), code.Account, s.now())
}

// Purge deletes what has expired; call it every few minutes.
func (s *Service) Purge(ctx context.Context) error { return s.store.Purge(ctx, s.now()) }

var (
	errDenied    = fault.New(fault.Denied, "that code does not work")
	errExhausted = fault.New(fault.Exhausted, "too many attempts; wait a while")
)

func orExhausted(err error) error {
	if err != nil {
		return err
	}
	return errExhausted
}

func (s *Service) newCode(a Asker) (digits string, mac []byte, err error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(10), big.NewInt(Digits), nil))
	if err != nil {
		return "", nil, err
	}
	digits = fmt.Sprintf("%0*d", Digits, n)
	mac, err = s.mac(a, digits)
	return digits, mac, err
}

// mac binds the digits to tenant and browser, so that a row moved elsewhere matches nothing.
func (s *Service) mac(a Asker, digits string) ([]byte, error) {
	return s.macs.MAC(string(a.Tenant)+"/emailotp/code", []byte(secret.Hash(a.Browser)+"/"+digits))
}

func hashOrEmpty(value string) string {
	if value == "" {
		return ""
	}
	return secret.Hash(value)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
