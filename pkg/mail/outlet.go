package mail

import (
	"context"
	"errors"
	"sync/atomic"
)

// ErrNoServer is in the chain of the error when mail is to be sent and no mail server is configured.
var ErrNoServer = errors.New("no mail server is configured (mail.host)")

// Outlet is a Sender whose Mailer can be changed while it is in use. The zero value sends nothing.
type Outlet struct{ mailer atomic.Pointer[Mailer] }

var _ Sender = (*Outlet)(nil)

// Use makes m take what is sent from now on; nil takes nothing. A message that is under way ends as it began.
func (o *Outlet) Use(m *Mailer) { o.mailer.Store(m) }

// Send implements Sender; without a Mailer the error is ErrNoServer.
func (o *Outlet) Send(ctx context.Context, msg Message) error {
	m := o.mailer.Load()
	if m == nil {
		return ErrNoServer
	}
	return m.Send(ctx, msg)
}

// FromConfig is New, and nil for a configuration without a server.
func FromConfig(cfg Config) (*Mailer, error) {
	if cfg.Host == "" {
		return nil, nil
	}
	return New(cfg)
}
