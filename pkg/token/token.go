// Package token owns every JWT of Sallyport: the kinds, their claims, the keys that sign each kind, and their
// verification. It is the one place that touches a JWT library; algorithms are pinned to EdDSA with Ed25519 (RFC 8037), and
// one kind is never accepted as another: each has its own typ (RFC 8725 §3.11) and its own key set. Whether the session
// behind a token still lives is the caller's question.
package token

import (
	"context"
	"strconv"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Kind is what a token is for; also the typ header of its JWT.
type Kind string

// The kinds.
const (
	// Access is what a browser carries to an app host, next to its reference (RFC 9068 media type).
	Access Kind = "at+jwt"
	// Service is what a machine client carries in Sallyport-Access-Token.
	Service Kind = "sallyport-service+jwt"
	// Assertion is what the edge hands to the connector with an exchange.
	Assertion Kind = "sallyport-assertion+jwt"
	// Origin is the copy of the assertion that the origin gets.
	Origin Kind = "sallyport-origin+jwt"
	// LinkProof is signed by a connector's own key over the edge's nonce and the TLS exporter.
	LinkProof Kind = "sallyport-link+jwt"
	// EdgeProof is the edge's answer over the connector's nonce and the same exporter.
	EdgeProof Kind = "sallyport-edge+jwt"
	// KeySet lists the public keys of one kind; the root key that was pinned at enrolment signs it.
	KeySet Kind = "sallyport-keyset+jwt"
)

// Root is the pseudo-kind of the root key's own row.
const Root Kind = "root"

// Life of the tokens that browsers and connectors carry.
const (
	AccessLife    = 5 * time.Minute
	AssertionLife = 5 * time.Minute
)

// Leeway is how far two clocks may differ when a token's times are judged.
const Leeway = 5 * time.Second

// ServiceLife is the longest that a service token may live.
const ServiceLife = 366 * 24 * time.Hour

// MaxBytes is the longest token that is looked at; anything longer is refused unread.
const MaxBytes = 4 << 10

// AssertionIssuer is the issuer of every assertion: which edge it was is said by the root key above the signing key.
const AssertionIssuer = "sallyport-edge"

// AssertionAudience is the audience of an assertion: one run of one connector process, so that an assertion which a former
// run saw opens nothing at the present one.
func AssertionAudience(c id.Connector, generation uint64) string {
	return string(c) + "/" + strconv.FormatUint(generation, 10)
}

// Claims of an access token, a service token or an assertion.
type Claims struct {
	Issuer     string
	Subject    string // user or service id
	Audience   []string
	Expires    time.Time
	IssuedAt   time.Time
	ID         string // jti
	Tenant     id.Tenant
	Session    id.Session // sid
	Kind       string     // principal kind: "user" or "service"
	Methods    []string   // amr
	Site       id.Site    // assertions
	App        id.App
	Connector  id.Connector // assertions: the audience's connector
	Generation uint64       // assertions
}

// Key is one signing key; Seed is sealed in the store.
type Key struct {
	Kind    Kind
	ID      string // kid
	Seed    []byte // Ed25519, 32 bytes
	Created time.Time
	// NotAfter is when the key stops signing; it verifies until Retired.
	NotAfter time.Time
	Retired  time.Time
}

// KeyStore keeps signing keys, sealed. Writes are durable and in the change log when they return.
type KeyStore interface {
	// CreateKey stores a key unless one of the kind is current already (then fault.Exists): of many edges one wins.
	CreateKey(ctx context.Context, k Key) error
	// RotateKey stores a key whether or not one of the kind is current, and has all others of the kind stop signing at notAfter and
	// verifying at retired where they would go on for longer. Of two at a time one may get fault.Conflict.
	RotateKey(ctx context.Context, k Key, notAfter, retired time.Time) error
	// Keys returns all keys, of each kind in the order in which they were stored.
	Keys(ctx context.Context) ([]Key, error)
}

// ServiceToken is the record of a token that was minted for a machine client; the JWT itself is shown once and not kept.
type ServiceToken struct {
	Tenant   id.Tenant
	ID       id.Token // jti
	Service  id.Service
	Created  time.Time
	Expires  time.Time
	LastUsed time.Time
	Revoked  time.Time
}

// ServiceStore keeps the records of service tokens and the services themselves.
type ServiceStore interface {
	CreateServiceToken(ctx context.Context, t ServiceToken) error
	ServiceToken(ctx context.Context, tenant id.Tenant, token id.Token) (ServiceToken, error)
	ServiceTokens(ctx context.Context, tenant id.Tenant) ([]ServiceToken, error)
	RevokeServiceToken(ctx context.Context, tenant id.Tenant, token id.Token, at time.Time) error
	// TouchServiceToken moves LastUsed forward, at most once a minute per token.
	TouchServiceToken(ctx context.Context, tenant id.Tenant, token id.Token, at time.Time) error
}
