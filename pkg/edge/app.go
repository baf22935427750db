package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/proxy"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// serveApp answers a request to a published app: who is it, did another site send it, may they, and then down the tunnel.
func (e *Edge) serveApp(w http.ResponseWriter, r *http.Request, v *visit, target urlpath.Target) {
	app, ok := v.door.Match(target.Path)
	if !ok {
		e.problem(w, r, v, "E-NOT-FOUND")
		return
	}
	v.app = app
	clinic := v.door.Tenant
	cookie := carriesOurs(r)
	switch guard.CrossSite(r, app, cookie) {
	case guard.Forbid:
		e.problem(w, r, v, "E-CROSS-SITE")
		return
	case guard.Ask:
		e.pages.Continue(w, r, e.pageDoor(v), target.String())
		return
	}
	upgrade, refusal := guard.Upgrade(r, app, target.Path, cookie)
	if refusal != nil {
		e.refuse(w, r, v, refusal)
		return
	}
	who, ok := e.identify(w, r, v)
	if !ok {
		return
	}
	grant, err := e.access.Authorize(r.Context(), access.Question{
		Identity: who, Tenant: clinic, App: app, RequestID: v.request,
		Request: policy.Request{Method: r.Method, Host: app.Host, Path: target.Path, ClientIP: clientIP(r), Upgrade: upgrade},
	})
	if err != nil {
		e.overtaken(r, v, grant)
		e.failed(w, r, v, err)
		return
	}
	defer grant.Lease.Release()
	for _, c := range who.SetCookies {
		http.SetCookie(w, c)
	}
	e.carry(w, r, v, target, who, grant)
}

// overtaken concludes a decision that was on record as allowed when its permission, or its request, had ended: nothing was carried.
func (e *Edge) overtaken(r *http.Request, v *visit, grant access.Grant) {
	if grant.Sequence == 0 || grant.Decision.Effect != policy.Allow {
		return
	}
	o := audit.Outcome{Tenant: v.door.Tenant.ID, Sequence: grant.Sequence, Time: e.clock.Now(), Status: http.StatusForbidden, Error: wire.CodeRevoked}
	if r.Context().Err() != nil {
		o.Status, o.Error = 0, wire.CodeClientAbort
	}
	e.recorder.Conclude(o)
}

// identify finds out who is asking; false means that the request was answered. Whoever shows nothing that is known counts as
// a stranger until it is: rubbish must not buy looks at the store.
func (e *Edge) identify(w http.ResponseWriter, r *http.Request, v *visit) (access.Identity, bool) {
	if !e.access.Known(r, v.door.Tenant, v.app) {
		stranger, refusal := e.limits.AdmitStranger(r.RemoteAddr)
		if refusal != nil {
			e.refuse(w, r, v, refusal)
			return access.Identity{}, false
		}
		defer stranger.Release()
	}
	who, err := e.access.Authenticate(r, v.door.Tenant, v.app)
	if err != nil {
		e.failed(w, r, v, err)
		return access.Identity{}, false
	}
	return who, true
}

// carry sends the request down the tunnel under its lease and concludes the decision with what became of it.
func (e *Edge) carry(w http.ResponseWriter, r *http.Request, v *visit, target urlpath.Target, who access.Identity, grant access.Grant) {
	began := time.Now()
	e.proxy.Carry(w, r.WithContext(grant.Lease.Context()), proxy.Passage{
		Tenant: v.door.Tenant, App: v.app, Target: target, Host: v.app.Host + e.port, RequestID: v.request, ClientIP: clientIP(r),
		Assertions: func(c id.Connector, generation uint64) (string, string, error) {
			return e.access.Assertions(grant, c, generation)
		},
		Stick: stick(who),
		Conclude: func(result proxy.Result) {
			e.recorder.Conclude(audit.Outcome{
				Tenant: v.door.Tenant.ID, Sequence: grant.Sequence, Time: e.clock.Now(), Status: result.Status, BytesIn: result.BytesIn,
				BytesOut: result.BytesOut, Duration: time.Since(began), Error: outcomeError(r.Context(), grant.Lease.Context(), result),
			})
		},
	})
}

// outcomeError tells an exchange that was cut because its permission ended from one that the browser left.
func outcomeError(request, lease context.Context, result proxy.Result) string {
	if result.ErrorCode != "" && request.Err() == nil && lease.Err() != nil {
		return wire.CodeRevoked
	}
	return result.ErrorCode
}

// failed answers a request that was not let through.
func (e *Edge) failed(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	code := fault.CodeOf(err)
	if r.Context().Err() != nil && code != fault.Denied {
		// The client went, which is no fault of ours. One that closed its half alone still reads: silence would be a 200 to it.
		// Over HTTP/1.1 the context is the connection's, and nothing more can be asked on it.
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		e.problem(w, r, v, wire.CodeClientAbort)
		return
	}
	switch code {
	case fault.Unauthentic:
		if _, service := r.Header[access.TokenHeader]; service {
			e.login.TokenRefused(w, v.known(r), v.door.Tenant, v.app)
			return
		}
		e.login.Challenge(w, v.known(r), v.door.Tenant, v.app, r.RequestURI) // setTarget made it the canonical one
	case fault.Denied:
		e.problem(w, r, v, "E-DENIED")
	case fault.Invalid:
		e.problem(w, r, v, "E-BAD-REQUEST")
	case fault.Unavailable:
		if errors.Is(err, access.ErrUnchecked) && e.away() {
			// That the store is away was said once, by whoever reads its change log.
			e.refused.WithLabelValues("store").Inc()
			e.problem(w, r, v, "E-STORE")
			return
		}
		e.logger.Error("request refused: it could not be judged and recorded", log.RequestID(v.request), log.Tenant(v.door.Tenant.ID), zap.Error(err))
		e.problem(w, r, v, "E-RECORD")
	default:
		e.logger.Error("request failed", log.RequestID(v.request), log.Tenant(v.door.Tenant.ID), zap.Error(err))
		e.problem(w, r, v, "E-INTERNAL")
	}
}

// carriesOurs reports whether the browser added one of our cookies, that is whether somebody's sign-in is behind a request.
func carriesOurs(r *http.Request) bool {
	return len(r.CookiesNamed(session.CookieReference)) > 0 || len(r.CookiesNamed(session.CookieAccess)) > 0
}

// clientIP is the socket's address; no header has a say in it.
func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// stick keeps what belongs together on one connector: a session, or a service.
func stick(who access.Identity) string {
	if who.Session != nil {
		return string(who.Session.ID)
	}
	return who.Principal.ID
}
