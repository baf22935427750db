// Package emailotp owns the e-mailed sign-in code: making it, keeping it (as a keyed hash), counting tries and
// throttling. A code identifies a person at low assurance; it never satisfies a rule that asks for two factors (NIST SP
// 800-63B-4 §3.1.3.1). Sending is mail's work, pages are login's.
package emailotp

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// The limits of a code.
const (
	Digits   = 6
	Life     = 10 * time.Minute
	MaxTries = 5
)

// Code is one code that was asked for; a row exists for unknown addresses too, so that both take one path.
type Code struct {
	Tenant id.Tenant
	// ID is secret.Hash of the browser's sign-in cookie: the code counts only where it was asked for.
	ID string
	// Account is the throttling key: a keyed hash of the canonical address.
	Account []byte
	// User is empty for an address that nobody has.
	User    id.User
	MAC     []byte // keyed hash of the digits
	Tries   int
	Expires time.Time
	// Return is where the browser goes afterwards, sealed by login.
	Return []byte
}

// Store keeps codes and throttle buckets. Writes are durable when they return.
type Store interface {
	// PutCode replaces the browser's earlier code; tries of the account go on counting.
	PutCode(ctx context.Context, c Code) error
	// TryCode counts one try and returns the code if it may still be tried: not expired, fewer than MaxTries before this
	// one. Anything else is fault.Denied.
	TryCode(ctx context.Context, tenant id.Tenant, id string, now time.Time) (Code, error)
	// SpendCode deletes it; exactly one of many concurrent calls gets true.
	SpendCode(ctx context.Context, tenant id.Tenant, id string) (bool, error)
	// Take takes one token from a bucket that holds burst and refills one per interval; false when it is empty.
	Take(ctx context.Context, tenant id.Tenant, bucket string, burst int, interval time.Duration, now time.Time) (bool, error)
	// Known reports whether this browser (secret.Hash of its known-browser cookie) signed this account in before;
	// Remember says so.
	Known(ctx context.Context, tenant id.Tenant, browser string, account []byte) (bool, error)
	Remember(ctx context.Context, tenant id.Tenant, browser string, account []byte, now time.Time) error
	// Purge deletes what expired before now.
	Purge(ctx context.Context, now time.Time) error
}
