package ingress

import (
	"context"
	"hash/fnv"
)

type principalKey struct{}

// WithPrincipal says for whom the exchange of ctx is, in any form that is the same for all exchanges of one user or service.
// It decides whose turn it is at a busy origin and which of several origins serves it, and nothing else.
func WithPrincipal(ctx context.Context, principal string) context.Context {
	return context.WithValue(ctx, principalKey{}, hashed(principal))
}

// principalOf is the same for all exchanges of one principal, also after a restart; without WithPrincipal one client address
// is one principal.
func principalOf(ctx context.Context, clientIP string) uint64 {
	if key, ok := ctx.Value(principalKey{}).(uint64); ok {
		return key
	}
	return hashed(clientIP)
}

func hashed(who string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(who)) // a hash never fails
	return h.Sum64()
}
