// Package admin owns every change that an operator makes: it checks the input, does it through the domain's stores, logs
// that it was done; the store's change log then tells the running edge at once. Neither the API nor a page
// sees a Store. How a call arrives and that only the operator may make it is adminapi's work.
package admin

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// Inviter makes invitations for connectors.
type Inviter interface {
	Invite(ctx context.Context, tenant id.Tenant, site id.Site) (code string, invite enroll.Invite, err error)
}

// Minter signs tokens.
type Minter interface {
	Mint(kind token.Kind, c token.Claims) (string, error)
}

// Sender sends one mail and says whether the server took it.
type Sender interface {
	Send(ctx context.Context, m mail.Message) error
}

// Links tells which links are up.
type Links interface {
	Members(tenant id.Tenant) []registry.Status
}

// Config is what the service works with.
type Config struct {
	Tenants    tenant.Store
	Identity   identity.Store
	Sessions   session.Store
	Tokens     token.ServiceStore
	Connectors enroll.Store
	Inviter    Inviter
	Minter     Minter
	Rotator    Rotator
	// Revoker is for when the store is away; nil: nothing is revoked then.
	Revoker Revoker
	// Mail is nil when no mail server is configured; what needs it says so then.
	Mail  Sender
	Texts mail.Texts
	Links Links
	// Rules keeps ingress rules for sites; Running tells what their connectors make of them.
	Rules   tenant.IngressStore
	Running Running
	// Edges tells of the other edges; nil where this one is alone. Schema is the version of the store's schema; nil for none.
	Edges  Edges
	Schema func(ctx context.Context) (int64, error)
	// Listed says that connectors are told a configured list of edges; nil: they are told of the edges themselves.
	Listed func() bool
	// EdgeHost is the edge's own name, under which tenants' hosts are made by default; EdgeURL is what connectors dial.
	EdgeHost string
	EdgeURL  string
	// Port is what a browser adds to a host, ":8443", or empty for 443.
	Port string
	// CAPin returns the pin for enrolment lines; empty when the edge's certificate is public. It is asked each time, because
	// certificates change. nil is empty.
	CAPin  func() string
	Now    func() time.Time
	Logger *zap.Logger
}

// Service does what the operator asks. It is safe for concurrent use.
type Service struct{ Config }

// New returns a service over c.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{c}
}

// done logs a change.
func (s *Service) done(action string, t id.Tenant, fields ...zap.Field) {
	s.Logger.Info("administration", append([]zap.Field{zap.String("action", action), log.Tenant(t)}, fields...)...)
}
