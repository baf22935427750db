// Package id owns the typed identifiers of Sallyport, so that a site's name can never be passed where a user's is
// expected. It makes them and checks their form; it looks nothing up.
package id

import (
	"crypto/rand"
	"fmt"
	"regexp"

	"github.com/google/uuid"
)

// Tenant names one clinic. It is a DNS label chosen at creation and never changes; every key of every cache, table,
// token and log begins with it.
type Tenant string

// Site names one place with an origin, unique within its tenant; the same form as Tenant.
type Site string

// Service names a machine client of a tenant, unique within its tenant; the same form as Tenant.
type Service string

// Edge names one edge of a cluster, unique within it; the same form as Tenant.
type Edge string

// The identifiers below are a prefix and a UUIDv7 (RFC 9562 §5.7): sortable by creation, unique across tenants.
type (
	App       string // app_…
	User      string // usr_…
	Connector string // con_…
	Invite    string // inv_…
	Session   string // ses_…
	Token     string // tok_…
)

// Request follows one request from the edge's log to the connector's, to the origin and to the error page. It is
// random, so that it tells nothing.
type Request string

func NewApp() App             { return App(unique("app_")) }
func NewUser() User           { return User(unique("usr_")) }
func NewConnector() Connector { return Connector(unique("con_")) }
func NewInvite() Invite       { return Invite(unique("inv_")) }
func NewSession() Session     { return Session(unique("ses_")) }
func NewToken() Token         { return Token(unique("tok_")) }

// NewRequest returns a fresh request id: 26 characters of base32, 130 bits.
func NewRequest() Request { return Request(rand.Text()) }

func unique(prefix string) string {
	// NewV7 fails only when the system has no randomness; crypto/rand itself ends the process then.
	return prefix + uuid.Must(uuid.NewV7()).String()
}

var label = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)

// ParseLabel checks the form that tenants, sites, services and edges share: a DNS label (RFC 1035 §2.3.1) in lower case of at
// most 32 characters. what names the thing in the error.
func ParseLabel[T ~string](what, s string) (T, error) {
	if !label.MatchString(s) {
		return "", fmt.Errorf("%s %q: use 1 to 32 of a-z, 0-9 and -, starting with a letter and not ending with -", what, s)
	}
	return T(s), nil
}
