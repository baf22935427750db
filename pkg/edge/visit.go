package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// visit is what is known of a request on its way: filled in once, step by step, and never looked up again.
type visit struct {
	request id.Request
	door    *route.Door // nil until the host is known
	app     tenant.App  // zero until the path is matched
}

type visitKey struct{}

// known is r for those whom the visit itself is not given: they find the request's id with requestID.
func (v *visit) known(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
}

// requestID returns the id that ServeHTTP gave to a request.
func requestID(r *http.Request) id.Request {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v.request
	}
	return id.NewRequest()
}

// setTarget replaces net/http's reading of the target by the canonical one, so that there is no second. net/http itself does not
// look at its own again.
func setTarget(r *http.Request, t urlpath.Target) {
	r.URL = &url.URL{Path: t.Path, RawQuery: t.RawQuery, ForceQuery: t.HasQuery && t.RawQuery == ""}
	r.RequestURI = t.String()
}

// pageDoor is what pages say about where the request was going.
func (e *Edge) pageDoor(v *visit) web.Door {
	d := web.Door{RequestID: v.request, App: v.app.Name, Host: v.app.Host}
	if v.door != nil {
		d.Clinic = v.door.Tenant.Name
	}
	return d
}

// problem answers with a page (or JSON) that says what is wrong.
func (e *Edge) problem(w http.ResponseWriter, r *http.Request, v *visit, code string) {
	e.problemAs(w, r, v, web.Problem{Code: code})
}

func (e *Edge) problemAs(w http.ResponseWriter, r *http.Request, v *visit, p web.Problem) {
	p.RequestID, p.App = v.request, v.app.Name
	if v.door != nil {
		p.Clinic, p.SignInHost = v.door.Tenant.Name, v.door.Kind == route.SignIn
	}
	e.pages.Error(w, r, p)
}

// refuse answers a request that guard does not let in.
func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, v *visit, refusal *guard.Refusal) {
	fields := []zap.Field{log.RequestID(v.request), zap.String("reason", refusal.Reason), zap.Int("status", refusal.Status)}
	if v.door != nil {
		fields = append(fields, log.Tenant(v.door.Tenant.ID))
	}
	e.logger.Debug("request refused", fields...)
	e.refused.WithLabelValues(refusal.Reason).Inc()
	if refusal.Close {
		w.Header().Set("Connection", "close")
	}
	if refusal.Code == guard.CodeHeaders && v.door != nil && v.door.Kind == route.App {
		v.app = v.door.Apps[0]
		e.pages.TooBig(w, r, e.pageDoor(v))
		return
	}
	e.problemAs(w, r, v, web.Problem{Code: refusal.Code, Status: refusal.Status, RetryAfter: refusal.RetryAfter})
}

// refuseTarget answers a request whose target has more than one reading.
func (e *Edge) refuseTarget(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	status := http.StatusBadRequest
	var reading *urlpath.Error
	if errors.As(err, &reading) && reading.Reason == urlpath.TooLong {
		status = http.StatusRequestURITooLong
	}
	e.refuse(w, r, v, &guard.Refusal{Status: status, Code: guard.CodeRequest, Reason: "target"})
}

// publicServer is the HTTP server of the one port.
func (e *Edge) publicServer() *http.Server {
	return e.server(e.doors.atDoor(e.certs.TLSConfig(), e.config.Host))
}

// insideServer is the HTTP server of connections inside a WebSocket: for the edge's own name and for what connectors speak, and so
// for links and enrolment alone.
func (e *Edge) insideServer() *http.Server {
	server := e.server(linkTLS(e.certs.TLSConfig("http/1.1"), e.config.Host))
	server.Protocols.SetHTTP2(false)
	return server
}

func (e *Edge) server(conf *tls.Config) *http.Server {
	// Handshakes that strangers break off are no news.
	errorLog, err := zap.NewStdLogAt(e.logger.Named("http"), zap.DebugLevel)
	if err != nil {
		errorLog = zap.NewStdLog(e.logger) // cannot be: debug is a level
	}
	server := &http.Server{Handler: e.public(), TLSConfig: conf, ErrorLog: errorLog}
	guard.Server(server)
	guards := server.ConnContext
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return withComer(guards(ctx, c), c) }
	return server
}

// public is what browsers reach, over whichever transport.
func (e *Edge) public() http.Handler { return e.leaving(e.caught(guard.Pace(e))) }

// caught tells of a panic, which net/http would write among the broken handshakes, and lets the connection or stream break. It
// says what kind it was and where; the words could hold something of the request.
func (e *Edge) caught(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if fault != http.ErrAbortHandler { //nolint:errorlint // the very value, as net/http compares it
				e.refused.WithLabelValues("panic").Inc()
				e.logger.Error("a request ended in a panic", zap.String("kind", fmt.Sprintf("%T", fault)), zap.Stack("stack"))
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}
