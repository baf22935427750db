package edge

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/login"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/proxy"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// assembleRequests puts the way of a request together.
func (e *Edge) assembleRequests(context.Context) (err error) {
	if e.pages, err = web.New(); err != nil {
		return err
	}
	e.access = access.New(access.Config{
		Keys: e.keyring, Sessions: e.store.Sessions(), Services: e.store.Services(), Users: e.store.Identity(),
		Apps: e.store.Tenants(), Recorder: e.recorder, Follower: e.follower, Log: e.log(), Grace: e.config.Cluster.Grace,
		Revoked: e.revoker.Banned, Now: e.clock.Now, Logger: e.logger, Metrics: e.metrics,
	})
	e.proxy = proxy.New(proxy.Config{Registry: e.picker(), Pages: e.pages, Logger: e.logger, Metrics: e.metrics})
	e.port, e.tunnel = e.config.port(e.Addr()), e.tunnelHost()
	e.refused = e.metrics.Counter("sallyport_edge_refused_total", "Requests refused for their form, by reason.", "reason")
	requests := e.metrics.Counter("sallyport_edge_requests_total", "Requests that arrived, by version of HTTP.", "version")
	for i := range e.requests {
		e.requests[i] = requests.WithLabelValues(strconv.Itoa(i + 1))
	}
	port, err := e.publicPort()
	if err != nil {
		return err
	}
	e.altSvc = e.offerHTTP3(port)
	e.login = login.New(login.Config{
		Sessions: session.NewKeeper(heldSessions{e.store.Sessions(), e.revoker.Banned}, session.Limits{}, e.clock.Now),
		Codes:    emailotp.New(e.store.Codes(), e.store.Identity(), e.sealer, e.clock.Now),
		Users:    e.store.Identity(), Sealer: e.sealer, Minter: e.keyring, Outbox: e.outbox, Pages: e.pages, Apps: e.store.Tenants(),
		JWKS: func() []byte { return e.keyring.JWKS(token.Access, token.Origin) }, Port: port, RequestID: requestID, Away: e.away, Now: e.clock.Now,
		End: e.signOut, Known: e.access.SessionOf,
		Logger: e.logger, Metrics: e.metrics,
	})
	return nil
}

// keysChanged reads the signing keys again, and has forgotten what the ones before verified.
func (e *Edge) keysChanged(ctx context.Context, _ []change.Change) error {
	if err := e.keyring.Reload(ctx); err != nil {
		return err
	}
	e.access.KeysChanged()
	return nil
}

func (e *Edge) publicPort() (int, error) {
	text := strings.TrimPrefix(e.config.port(e.Addr()), ":")
	if text == "" {
		return 443, nil
	}
	return strconv.Atoi(text)
}

// follow fixes from where changes are followed, then loads what they are applied to.
func (e *Edge) follow(ctx context.Context) error {
	e.follower.Subscribe("routes", []change.Kind{change.Tenant, change.App}, func(ctx context.Context, _ []change.Change) error {
		return e.routes.Reload(ctx, e.store.Tenants(), e.config.Host)
	})
	e.follower.Subscribe("revocations", cluster.Revocable(), e.revoker.Follow)
	e.follower.Subscribe("connectors", []change.Kind{change.Connector}, e.forget) // before control looks them up
	e.follower.Subscribe("control", controlserver.Follows(), e.control.Follow)
	e.onSwitch()
	if err := e.follower.Begin(ctx); err != nil {
		return err
	}
	return e.routes.Reload(ctx, e.store.Tenants(), e.config.Host)
}

// tunnelHost serves the edge's own name: links over WebSocket, enrolment, and connections inside a WebSocket, which lead here too.
func (e *Edge) tunnelHost() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(controlserver.EnrollPath, e.control.EnrollHandler())
	mux.Handle(wslink.Path, e.links)
	mux.Handle(wslink.InnerPath, e.inside)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case wslink.Path, wslink.InnerPath:
		case controlserver.EnrollPath:
			comerOf(r).admitted() // a code must not be spent for an answer that is cut off
		default:
			comerOf(r).left()
		}
		mux.ServeHTTP(w, r)
	})
}

// admin is what the admin socket leads to.
func (e *Edge) admin() *admin.Service {
	port := e.config.port(e.Addr())
	var edges admin.Edges
	if e.heart != nil {
		edges = e.heart
	}
	return admin.New(admin.Config{
		Tenants: e.store.Tenants(), Identity: e.store.Identity(), Sessions: e.store.Sessions(), Tokens: e.store.Services(),
		Connectors: e.store.Enroll(), Inviter: enroll.NewService(e.store.Enroll(), e.clock.Now), Minter: e.keyring, Rotator: e.keyring, Revoker: e.revoker, Texts: mail.English(),
		Links: e.registry, Rules: e.store.Ingress(), Running: e.control, Edges: edges, Schema: e.store.Schema,
		Listed: func() bool { return len(e.current().Edges) > 0 }, EdgeHost: e.config.Host, EdgeURL: e.url(), Port: port,
		CAPin: func() string { return e.certs.Pin(e.config.Host) }, Mail: &e.mailer, Now: e.clock.Now, Logger: e.logger,
	})
}
