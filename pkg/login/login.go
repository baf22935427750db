// Package login owns the way in and out: from an app host to the tenant's sign-in host, through the e-mailed code, back to
// the app host with a code that only the browser that began can spend, and sign-out. One file holds one step:
//
//	app host                          sign-in host
//	begin.go    flow cookie, 303 ──►  form.go     GET  /            who are you? (signed in: straight to handoff)
//	                                  ask.go      POST /email       a code by mail
//	                                  code.go     GET, POST /code   the code; a session
//	redeem.go   spends the code  ◄──  handoff.go  303
//	signout.go  ends the session      signout.go  POST /sign-out
//
// It never proxies, and it neither judges requests to an app (access) nor knows how a page looks (web). Scripts that users
// wrote run on app hosts; everything here assumes that they are hostile.
package login

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// Codes makes and checks e-mailed codes.
type Codes interface {
	Ask(ctx context.Context, a emailotp.Asker, email string, ret []byte) (emailotp.Issued, error)
	Try(ctx context.Context, a emailotp.Asker, digits string) (emailotp.Code, error)
	Remember(ctx context.Context, tenant id.Tenant, known string, code emailotp.Code) error
}

var _ Codes = (*emailotp.Service)(nil)

// Users finds people by id.
type Users interface {
	User(ctx context.Context, tenant id.Tenant, user id.User) (identity.User, error)
}

// Apps lists what a tenant publishes, for the page of somebody who is signed in and asked for nothing.
type Apps interface {
	Apps(ctx context.Context, tenant id.Tenant) ([]tenant.App, error)
}

// Sealer keeps the destination unreadable and unforgeable while the browser carries it.
type Sealer interface {
	Seal(purpose string, plain []byte) ([]byte, error)
	Open(purpose string, sealed []byte) ([]byte, error)
}

var _ Sealer = (*secret.Sealer)(nil)

// Minter makes access tokens.
type Minter interface {
	Mint(kind token.Kind, c token.Claims) (string, error)
}

// Outbox takes mail without waiting for it to be sent.
type Outbox interface{ Enqueue(mail.Message) error }

var _ Outbox = (*mail.Queue)(nil)

// Config builds a Login. Everything above the line is required.
type Config struct {
	Sessions *session.Keeper
	Codes    Codes
	Users    Users
	Sealer   Sealer
	Minter   Minter
	Outbox   Outbox
	Pages    *web.Pages

	// Apps, where set, gives the sign-in host's own page its links.
	Apps Apps
	// JWKS, where set, is served at /.well-known/jwks.json of every sign-in host.
	JWKS func() []byte
	// Away, where set, reports whether the store is known not to answer: nobody is asked then for what cannot be taken.
	Away func() bool
	// End, where set, ends a session in place of Sessions.End: also while the store is away.
	End func(ctx context.Context, tenant id.Tenant, session id.Session) error
	// Known, where set, says without the store which session a request on an app's host shows; it opens nothing.
	Known func(r *http.Request, t tenant.Tenant, app tenant.App) (id.Session, bool)
	// Port is what browsers see in URLs; 0 and 443 show none.
	Port int
	// OriginCookies are the origin's own session cookies. They end with a sign-out, and when somebody else signs in, so that
	// nobody lands in the origin's session of the person before. Nil means JSESSIONID.
	OriginCookies []string
	// RequestID returns the id that the edge gave to a request; nil makes one for each page.
	RequestID func(*http.Request) id.Request
	Texts     mail.Texts // zero: English
	Now       func() time.Time
	Logger    *zap.Logger
	Metrics   *metric.Registry
}

// Login serves sign-in for every tenant. It is safe for concurrent use.
type Login struct {
	Config
	events *prometheus.CounterVec
}

// New returns a Login.
func New(cfg Config) *Login {
	if cfg.OriginCookies == nil {
		cfg.OriginCookies = []string{"JSESSIONID"}
	}
	if cfg.Away == nil {
		cfg.Away = func() bool { return false }
	}
	if cfg.End == nil {
		cfg.End = cfg.Sessions.End
	}
	if cfg.Known == nil {
		cfg.Known = func(*http.Request, tenant.Tenant, tenant.App) (id.Session, bool) { return "", false }
	}
	if cfg.RequestID == nil {
		cfg.RequestID = func(*http.Request) id.Request { return id.NewRequest() }
	}
	if cfg.Texts == (mail.Texts{}) {
		cfg.Texts = mail.English()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metric.New()
	}
	return &Login{Config: cfg, events: cfg.Metrics.Counter("sallyport_signin_events_total",
		"Steps of sign-ins: asked, throttled, mail_overflow, wrong, signed_in, handed_off, redeemed, refused, signed_out, failed, paused.", "event")}
}

// MaxBody bounds every body that somebody who is not signed in can send, bytes.
const MaxBody = 64 << 10

// URL is the origin that browsers reach a host at.
func (l *Login) URL(host string) string {
	if l.Port == 0 || l.Port == 443 {
		return "https://" + host
	}
	return "https://" + host + ":" + strconv.Itoa(l.Port)
}

func (l *Login) count(event string) { l.events.WithLabelValues(event).Inc() }

// paused answers while the store is away.
func (l *Login) paused(w http.ResponseWriter, r *http.Request, d web.Door, onAppHost bool) {
	l.count("paused")
	w.Header().Set("Retry-After", "30")
	l.Pages.Notice(w, r, web.Notice{Door: d, Status: http.StatusServiceUnavailable, Name: web.NoticeAway, URL: "/", OnAppHost: onAppHost})
}

// failed says that sign-in is out of order and keeps the reason in the log.
func (l *Login) failed(w http.ResponseWriter, r *http.Request, d web.Door, t id.Tenant, onAppHost bool, err error) {
	if !errors.Is(err, context.Canceled) { // else the browser has gone, as far as is known
		l.count("failed")
		l.Logger.Error("sign-in step failed", log.Tenant(t), log.RequestID(d.RequestID), zap.String("method", r.Method), zap.Error(err))
	}
	w.Header().Set("Retry-After", "30")
	l.Pages.Notice(w, r, web.Notice{Door: d, Status: http.StatusServiceUnavailable, Name: web.NoticeUnavailable, URL: "/", OnAppHost: onAppHost})
}
