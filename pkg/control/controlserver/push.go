package controlserver

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Follows lists the kinds of change that Follow acts on.
func Follows() []change.Kind {
	return []change.Kind{change.Connector, change.Key, change.Session, change.Ingress}
}

// Follow acts on changes of the store: a revoked connector's links are cut, a rotated key set is handed on, a revoked
// session's exchanges are ended at the connectors, new ingress rules are sent to their site's. An error asks to be called again with the same changes.
func (s *Server) Follow(ctx context.Context, changes []change.Change) error {
	// All of them, whatever becomes of one: told again later, a revocation would wait for another connector's row.
	if slices.ContainsFunc(changes, change.Change.IsAnything) {
		return s.followAll(ctx)
	}
	var faults []error
	keys := false
	for _, c := range changes {
		switch c.Kind {
		case change.Connector:
			faults = append(faults, s.CheckConnector(ctx, id.Connector(c.ID)))
		case change.Session:
			s.RevokeSession(c.Tenant, id.Session(c.ID))
		case change.Key:
			keys = true
		case change.Ingress:
			faults = append(faults, s.PushIngress(ctx, c.Tenant, id.Site(c.ID)))
		}
	}
	if keys {
		faults = append(faults, s.keysChanged(ctx))
	}
	return errors.Join(faults...)
}

// followAll looks up again whatever is linked. A connector that takes an exchange it should not know of any more verifies its assertion anew
// within minutes.
func (s *Server) followAll(ctx context.Context) error {
	type place struct {
		tenant id.Tenant
		site   id.Site
	}
	connectors, sites := map[id.Connector]bool{}, map[place]bool{}
	s.ingress.mu.Lock()
	for _, a := range s.ingress.links {
		connectors[a.connector.ID], sites[place{a.connector.Tenant, a.connector.Site}] = true, true
	}
	s.ingress.mu.Unlock()
	faults := []error{s.keysChanged(ctx)}
	for c := range connectors {
		faults = append(faults, s.CheckConnector(ctx, c))
	}
	for at := range sites {
		faults = append(faults, s.PushIngress(ctx, at.tenant, at.site))
	}
	return errors.Join(faults...)
}

func (s *Server) keysChanged(ctx context.Context) error {
	if err := s.cfg.Keyring.Reload(ctx); err != nil {
		return err
	}
	return s.PushKeys()
}

// CheckConnector looks a connector up and cuts its links within the call if it may have none any more.
func (s *Server) CheckConnector(ctx context.Context, c id.Connector) error {
	known, err := s.cfg.Enroll.Connector(ctx, c)
	gone := fault.Is(err, fault.NotFound)
	if err != nil && !gone {
		return err
	}
	if gone || !known.Revoked.IsZero() || known.Frozen != "" {
		s.cfg.Logger.Info("connector cut off", log.Tenant(known.Tenant), log.Connector(c), zap.Bool("revoked", !known.Revoked.IsZero()))
		s.ingress.forget(c)
		s.cfg.Registry.CloseConnector(c, revokedOrFrozen(gone || !known.Revoked.IsZero()))
		return nil
	}
	s.cfg.Registry.Thaw(c)
	return nil
}

// RevokeSession tells the tenant's connectors to forget a session and to end its exchanges.
func (s *Server) RevokeSession(tenant id.Tenant, session id.Session) {
	s.revoke(tenant, &tunnelv1.Revoke{Session: string(session)})
}

// RevokePrincipal does the same for everything of a user or a service.
func (s *Server) RevokePrincipal(tenant id.Tenant, principal string) {
	s.revoke(tenant, &tunnelv1.Revoke{Principal: principal})
}

func (s *Server) revoke(tenant id.Tenant, r *tunnelv1.Revoke) {
	// An empty tenant would reach everybody's connectors, an empty name everything of one.
	if tenant == "" || r.GetSession() == "" && r.GetPrincipal() == "" {
		return
	}
	s.cfg.Registry.Broadcast(tenant, &tunnelv1.Control{Message: &tunnelv1.Control_Revoke{Revoke: r}})
}

// PushKeys sends the present key sets to every connector. Call it after a rotation.
func (s *Server) PushKeys() error {
	sets, err := s.cfg.Keyring.KeySets(s.cfg.Now())
	if err != nil {
		return err
	}
	for _, set := range sets {
		s.cfg.Registry.Broadcast("", &tunnelv1.Control{Message: &tunnelv1.Control_KeySet{KeySet: &tunnelv1.KeySet{Jwt: set}}})
	}
	return nil
}

func drainMessage(within time.Duration) *tunnelv1.Control {
	return &tunnelv1.Control{Message: &tunnelv1.Control_Drain{Drain: &tunnelv1.Drain{WithinMs: uint32(max(within, 0).Milliseconds())}}}
}

func revokedOrFrozen(revoked bool) tunnel.Reason {
	if revoked {
		return revokedReason()
	}
	return frozenReason()
}
