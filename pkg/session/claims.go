package session

import "github.com/sallyport-dev/sallyport/pkg/id"

// Issuer is the iss of every token that a tenant's people carry: its sign-in host, without a port.
func Issuer(signInHost string) string { return "https://" + signInHost }

// Audience is the aud of an access token: one host of one tenant. A tenant's name holds no "/", so that no two pairs give
// the same text.
func Audience(tenant id.Tenant, host string) string { return string(tenant) + "/" + host }

// ServiceAudience is the aud of a service's token: every app of one tenant. No host has a "*", so that it is never taken for
// an Audience.
func ServiceAudience(tenant id.Tenant) string { return string(tenant) + "/*" }
