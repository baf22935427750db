package token

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// maxRotations is how many keys of a kind may verify at a time: more than that, and connectors would not be told of all.
const maxRotations = 8

// Rotated lists the kinds whose keys an operator may replace. The root's is pinned by every connector.
func Rotated() []Kind { return []Kind{Access, Service, Assertion, Origin, EdgeProof} }

// Rotate makes a new key for each of the kinds, all of Rotated if none is named.
//
// With overlap: the old key signs on until the new one has had a minute to reach every edge and connector, and verifies until the
// last token that it signed has ended. In an emergency the old keys are withdrawn: nothing that they signed holds any more, from when
// an edge or a connector learns it. Then browsers get a new access token with their next request, as long as their session lives;
// service tokens must be minted anew.
//
// Errors: fault.Invalid for a kind that has no key to replace; fault.Exhausted while too many keys of a kind still verify;
// fault.Conflict when somebody else rotates at the same time.
func (k *Keyring) Rotate(ctx context.Context, emergency bool, kinds ...Kind) error {
	if len(kinds) == 0 {
		kinds = Rotated()
	}
	now := k.now()
	for _, kind := range kinds {
		if err := k.rotatable(kind, now, emergency); err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		notAfter, retired := now, now.Add(overdue+life(kind)+2*Leeway)
		if emergency {
			// Long ago by every clock: those of edges may be minutes apart.
			notAfter, retired = withdrawn(), withdrawn()
		}
		if err := k.store.RotateKey(ctx, newKey(kind, now), notAfter, retired); err != nil {
			return fmt.Errorf("rotate the key of kind %s: %w", kind, err)
		}
	}
	return k.Reload(ctx)
}

func withdrawn() time.Time { return time.UnixMilli(1).UTC() }

func (k *Keyring) rotatable(kind Kind, now time.Time, emergency bool) error {
	for _, known := range Rotated() {
		if known != kind {
			continue
		}
		verifying := 0
		for _, s := range k.held.Load().byKind[kind] {
			if now.Before(s.retired) {
				verifying++
			}
		}
		if verifying >= maxRotations && !emergency {
			return fault.New(fault.Exhausted, "%d keys of kind %s still verify what they signed: wait for a day, or withdraw them (--emergency)", verifying, kind)
		}
		return nil
	}
	return fault.New(fault.Invalid, "no key of kind %q can be rotated", kind)
}
