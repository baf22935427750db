// Package identity owns people: a tenant's users and how they are found. A user is an issuer and a subject; an e-mail
// address is only where mail goes and what a person types. Proving who somebody is belongs to the packages below it, one
// for each method.
package identity

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// LocalIssuer is the issuer of users that the edge itself knows by their e-mail address.
const LocalIssuer = "sallyport"

// User is a person in one tenant.
type User struct {
	Tenant  id.Tenant
	ID      id.User
	Issuer  string
	Subject string
	// Email is canonical (CanonicalEmail), unique within the tenant for LocalIssuer; the store seals it and finds it by a
	// keyed hash.
	Email    string
	Disabled bool
	Created  time.Time
}

// Store keeps users. Writes are durable and in the change log when they return.
type Store interface {
	// CreateUser fails with fault.Exists when the address is taken in the tenant.
	CreateUser(ctx context.Context, u User) error
	User(ctx context.Context, tenant id.Tenant, user id.User) (User, error)
	// UserByEmail fails with fault.NotFound.
	UserByEmail(ctx context.Context, tenant id.Tenant, email string) (User, error)
	Users(ctx context.Context, tenant id.Tenant) ([]User, error)
	// SetDisabled also revokes every session of the user in the same transaction.
	SetDisabled(ctx context.Context, tenant id.Tenant, user id.User, disabled bool) error
}
