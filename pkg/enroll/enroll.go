// Package enroll owns how a connector becomes known: an invitation with a single-use code, and the Ed25519 public key that
// the clinic's machine registers with it. The private key never leaves that machine. Opening links with the key is
// control's work.
package enroll

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// InviteLife is how long an invitation may be used.
const InviteLife = 24 * time.Hour

// Invite is one permission to enrol one connector.
type Invite struct {
	Tenant  id.Tenant
	ID      id.Invite
	Site    id.Site
	Hash    string // secret.Hash of the code
	Expires time.Time
	Created time.Time
}

// Connector is an enrolled connector.
type Connector struct {
	Tenant    id.Tenant
	ID        id.Connector
	Site      id.Site
	PublicKey ed25519.PublicKey
	Created   time.Time
	// Revoked is zero while links may be opened.
	Revoked time.Time
	// Frozen says why new links are refused although the key is good: a copied key, for one.
	Frozen string
}

// Store keeps invitations and connectors. Writes are durable and in the change log when they return.
type Store interface {
	CreateInvite(ctx context.Context, i Invite) error
	// Enroll spends the invitation with this hash and stores the connector with its tenant and site, atomically: of many
	// concurrent calls one succeeds. A wrong, used or expired code is fault.Denied, with the same words for all.
	Enroll(ctx context.Context, hash string, key ed25519.PublicKey, c id.Connector, now time.Time) (Connector, error)
	Connector(ctx context.Context, c id.Connector) (Connector, error)
	Connectors(ctx context.Context, tenant id.Tenant) ([]Connector, error)
	// RevokeConnector is final.
	RevokeConnector(ctx context.Context, tenant id.Tenant, c id.Connector, at time.Time) error
	// SetFrozen refuses new links of a connector, with the reason for the operator, until it is called with none.
	SetFrozen(ctx context.Context, tenant id.Tenant, c id.Connector, why string) error
	// NextGeneration issues the next generation of a connector: greater than any before, also across restarts.
	NextGeneration(ctx context.Context, c id.Connector) (uint64, error)
}
