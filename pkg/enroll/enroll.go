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
	// Newest is the greatest generation that was issued to a process of it.
	Newest uint64
}

// ReturnWindow is how long it is remembered that a process came back after another one had taken its place.
const ReturnWindow = time.Hour

// Run is one run of one connector process, the same on all edges.
type Run struct {
	Generation uint64
	// Returns is, for a process that came back after another one had taken its place, how often that has happened to this
	// connector within ReturnWindow, this time included; else 0. SetFrozen with no reason begins anew.
	Returns int
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
	// JoinRun returns the run of a process: the one it has while it is the newest that any edge knows, else the next, with a
	// generation greater than any before, also across restarts. The process showed that it lives after newest was the newest (Connector);
	// if another one has been given a number since, it may be dead by now: it gets none and counts as nothing (fault.Conflict). An
	// unknown connector is fault.NotFound, a revoked one fault.Denied.
	JoinRun(ctx context.Context, c id.Connector, instance string, newest uint64) (Run, error)
}
