package edge

import (
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

// ServeHTTP is the way of every request: its form, whose host it is for, its one canonical target, and through which door it
// goes on. Nothing after this looks at the host or at the bytes of the target again.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{request: id.NewRequest()}
	w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	e.requests[min(max(r.ProtoMajor, 1), len(e.requests))-1].Inc()

	host, refusal := guard.Host(r)
	if refusal != nil {
		e.refuse(w, r, v, refusal)
		return
	}
	door, ok := e.routes.Load().Host(host)
	if !ok {
		e.refuse(w, r, v, guard.Misdirected())
		return
	}
	v.door = door
	if door.Kind != route.Tunnel && r.ProtoMajor < 3 && e.altSvc != nil {
		w.Header()["Alt-Svc"] = e.altSvc
	}
	if refusal := guard.Check(r); refusal != nil && !ownRemedy(r, door, refusal) {
		e.refuse(w, r, v, refusal)
		return
	}
	target, err := urlpath.Parse(r.RequestURI, urlpath.Options{})
	if err != nil {
		e.refuseTarget(w, r, v, err)
		return
	}
	setTarget(r, target)
	ticket, refusal := e.limits.Admit(door.Tenant.ID)
	if refusal != nil {
		e.refuse(w, r, v, refusal)
		return
	}
	defer ticket.Release()

	switch {
	case door.Kind == route.Tunnel:
		e.asStranger(w, r, v, e.tunnel)
	case door.Kind == route.SignIn:
		e.asStranger(w, r, v, e.login.SignInHost(door.Tenant))
	case strings.HasPrefix(target.Path, route.Reserved+"/"):
		widest := door.Apps[len(door.Apps)-1] // its start page is what most people of this host may open
		e.asStranger(w, r, v, e.login.AppDoor(widest, door.Tenant))
	default:
		e.serveApp(w, r, v, target)
	}
}

// ownRemedy lets a browser with too many cookies get at what takes them away: our own paths on the app's host. What net/http
// takes bounds them there.
func ownRemedy(r *http.Request, door *route.Door, refusal *guard.Refusal) bool {
	return refusal.Code == guard.CodeHeaders && !refusal.Close && door.Kind == route.App && strings.HasPrefix(r.RequestURI, route.Reserved+"/")
}

// asStranger serves what is there before anybody has signed in, within the limits for strangers.
func (e *Edge) asStranger(w http.ResponseWriter, r *http.Request, v *visit, next http.Handler) {
	ticket, refusal := e.limits.AdmitStranger(r.RemoteAddr)
	if refusal != nil {
		e.refuse(w, r, v, refusal)
		return
	}
	defer ticket.Release()
	next.ServeHTTP(w, v.known(r))
}
