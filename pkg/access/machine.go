package access

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// machineKey names a service token by its digest: a look-up is far cheaper than a signature.
type machineKey struct {
	tenant id.Tenant
	sum    [sha256.Size]byte
}

// machine is a verified service token and a copy of its record.
type machine struct {
	key     machineKey
	claims  token.Claims
	record  token.ServiceToken
	touched *atomic.Int64 // unix nanoseconds when the store was last told; outlives the copy
}

func (m *machine) live(now time.Time) bool {
	return m.record.Revoked.IsZero() && now.Before(m.ends())
}

func (m *machine) ends() time.Time {
	if m.claims.Expires.Before(m.record.Expires) {
		return m.claims.Expires
	}
	return m.record.Expires
}

// machineKeyOf copies the token to the stack, where it is no longer than most.
func machineKeyOf(t id.Tenant, raw string) machineKey {
	return machineKey{t, sha256.Sum256(append(make([]byte, 0, 1<<10), raw...))}
}

var errBadToken = fault.New(fault.Unauthentic, "this token is not valid here")

// machine returns the live record behind a service token, or fault.Unauthentic.
func (a *Access) machine(ctx context.Context, raw string, t tenant.Tenant) (*machine, error) {
	if len(raw) > token.MaxBytes {
		return nil, errBadToken
	}
	k := machineKeyOf(t.ID, raw)
	m, err := a.machines.get(ctx, k, func(ctx context.Context, before *machine) (*machine, error) {
		return a.readMachine(ctx, k, raw, t, before)
	})
	if err != nil {
		return nil, err
	}
	if !m.live(a.cfg.Now()) || a.revokedMachine(m) {
		return nil, errBadToken
	}
	return m, nil
}

func (a *Access) revokedMachine(m *machine) bool {
	return a.cfg.Revoked(m.key.tenant, change.Token, string(m.record.ID))
}

func (a *Access) readMachine(ctx context.Context, k machineKey, raw string, t tenant.Tenant, before *machine) (*machine, error) {
	want := token.Expect{Issuer: session.Issuer(t.SignInHost), Audience: session.ServiceAudience(t.ID), Tenant: t.ID}
	claims, err := a.cfg.Keys.Verifier(token.Service).Verify(raw, want, a.cfg.Now())
	if err != nil {
		return nil, errBadToken.Because(err)
	}
	record, err := a.cfg.Services.ServiceToken(ctx, t.ID, id.Token(claims.ID))
	if err != nil {
		return nil, lookup(err, errBadToken)
	}
	if record.Tenant != t.ID || record.ID != id.Token(claims.ID) || string(record.Service) != claims.Subject || claims.Subject == "" {
		return nil, errBadToken
	}
	m := &machine{key: k, claims: claims, record: record, touched: &atomic.Int64{}}
	m.touched.Store(record.LastUsed.UnixNano())
	if before != nil {
		m.touched = before.touched
	}
	return m, nil
}

func (a *Access) usedToken(ctx context.Context, m *machine) {
	now := a.cfg.Now()
	last := m.touched.Load()
	if now.Sub(time.Unix(0, last)) < session.TouchEvery || a.away() || !m.touched.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer cancel()
	if err := a.cfg.Services.TouchServiceToken(ctx, m.key.tenant, m.record.ID, now); err != nil {
		a.cfg.Logger.Warn("use of a token not noted", log.Tenant(m.key.tenant), zap.String("token", string(m.record.ID)), zap.Error(err))
	}
}
