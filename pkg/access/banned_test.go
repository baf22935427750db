package access_test

import (
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// What is revoked counts before the store, which says that all is well, and before every copy: for whoever runs, and whoever asks.
func TestRevokedBeforeTheStoreKnows(t *testing.T) {
	c := newClock()
	for name, banned := range map[string]change.Change{
		"session":        {Tenant: "maple", Kind: change.Session, ID: "ses_1"},
		"user":           {Tenant: "maple", Kind: change.User, ID: string(lee.ID)},
		"user's address": {Tenant: "maple", Kind: change.User, ID: lee.Email},
		"token":          {Tenant: "maple", Kind: change.Token, ID: "tok_1"},
	} {
		w := newWorld(t, c.now)
		on := false
		w.access = access.New(access.Config{
			Keys: w.ring, Sessions: w, Services: w, Users: w, Apps: w, Recorder: w, Follower: w, Now: c.now,
			Revoked: func(tenant id.Tenant, kind change.Kind, name string) bool {
				return on && tenant == banned.Tenant && kind == banned.Kind && name == banned.ID
			},
		})
		r := get("/", ref, w.signIn("ses_1", c.at))
		if banned.Kind == change.Token {
			r = withToken(w.service(t, c.at, nil))
			for only := range w.tokens {
				banned.ID = string(only)
			}
		}
		g, err := w.ask(t, r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		on = true
		if err := w.access.Apply(t.Context(), banned); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if g.Lease.Context().Err() == nil {
			t.Errorf("%s: what ran goes on", name)
		}
		g.Lease.Release()
		if _, err := w.ask(t, r); !fault.Is(err, fault.Unauthentic) {
			t.Errorf("%s: asked again: %v", name, err)
		}
		on = false
		if _, err := w.ask(t, r); err != nil {
			t.Errorf("%s: when it is lifted: %v", name, err)
		}
	}
}
