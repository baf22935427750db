package admin

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/registry"
)

// InviteConnector makes a single-use invitation and the line that spends it, to be pasted on the clinic's machine.
func (s *Service) InviteConnector(ctx context.Context, t id.Tenant, site id.Site) (command string, expires time.Time, err error) {
	if err := s.site(ctx, t, site); err != nil {
		return "", time.Time{}, err
	}
	code, invite, err := s.Inviter.Invite(ctx, t, site)
	if err != nil {
		return "", time.Time{}, err
	}
	if command, err = enroll.Line(s.EdgeURL, code, s.pin()); err != nil {
		return "", time.Time{}, err
	}
	s.done("connector invite", t, log.Site(site))
	return command, invite.Expires, nil
}

// ListConnectors lists a clinic's connectors and the links that each holds now.
func (s *Service) ListConnectors(ctx context.Context, t id.Tenant) ([]enroll.Connector, map[id.Connector][]registry.Status, error) {
	if _, err := s.tenant(ctx, t); err != nil {
		return nil, nil, err
	}
	connectors, err := s.Connectors.Connectors(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	return connectors, byConnector(s.Links.Members(t)), nil
}

// Elsewhere tells which other edges hold links of these connectors, as far as this one knows; edges that have lapsed do not count.
func (s *Service) Elsewhere(connectors []enroll.Connector) map[id.Connector][]id.Edge {
	at := map[id.Connector][]id.Edge{}
	if s.Edges == nil {
		return at
	}
	type place struct {
		tenant id.Tenant
		site   id.Site
	}
	seen := map[place]bool{}
	for _, c := range connectors {
		if where := (place{c.Tenant, c.Site}); !seen[where] {
			seen[where] = true
			for _, h := range s.Edges.Holders(c.Tenant, c.Site) {
				if h.Links > 0 && !h.Lapsed {
					at[h.Connector] = append(at[h.Connector], h.Edge)
				}
			}
		}
	}
	return at
}

// byConnector divides links that are in the order of their connectors; it copies none.
func byConnector(links []registry.Status) map[id.Connector][]registry.Status {
	by := map[id.Connector][]registry.Status{}
	for from := 0; from < len(links); {
		to := from + 1
		for to < len(links) && links[to].Connector == links[from].Connector {
			to++
		}
		by[links[from].Connector] = links[from:to:to]
		from = to
	}
	return by
}

// ThawConnector takes links of a frozen connector again, after the operator has seen to it that its key is in one place.
func (s *Service) ThawConnector(ctx context.Context, t id.Tenant, c id.Connector) error {
	if err := s.Connectors.SetFrozen(ctx, t, c, ""); err != nil {
		return err
	}
	s.done("connector thaw", t, log.Connector(c))
	return nil
}

// RevokeConnector ends a connector for good; its links are cut within seconds.
func (s *Service) RevokeConnector(ctx context.Context, t id.Tenant, c id.Connector) (Revoked, error) {
	how, err := s.revoke(ctx, change.Change{Tenant: t, Kind: change.Connector, ID: string(c)}, func(ctx context.Context) error {
		return s.Connectors.RevokeConnector(ctx, t, c, s.Now())
	})
	if err == nil {
		s.done("connector revoke", t, log.Connector(c), zap.Bool("pending", how.Pending))
	}
	return how, err
}

// RevokeSession ends a person's login on every host.
func (s *Service) RevokeSession(ctx context.Context, t id.Tenant, ses id.Session) (Revoked, error) {
	how, err := s.revoke(ctx, change.Change{Tenant: t, Kind: change.Session, ID: string(ses)}, func(ctx context.Context) error {
		return s.Sessions.Revoke(ctx, t, ses, s.Now())
	})
	if err == nil {
		s.done("session revoke", t, log.Session(ses), zap.String("by", "operator"), zap.Bool("pending", how.Pending))
	}
	return how, err
}

func (s *Service) pin() string {
	if s.CAPin == nil {
		return ""
	}
	return s.CAPin()
}
