package admin

import (
	"context"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// Rotator replaces signing keys; *token.Keyring is one.
type Rotator interface {
	Rotate(ctx context.Context, emergency bool, kinds ...token.Kind) error
}

// keyName is what an operator calls the key of a kind.
type keyName struct {
	name string
	kind token.Kind
}

func keyNames() []keyName {
	return []keyName{
		{"access", token.Access},
		{"service", token.Service},
		{"assertion", token.Assertion},
		{"origin", token.Origin},
		{"edge-proof", token.EdgeProof},
	}
}

// RotateKeys replaces the keys of the named kinds, or of all, and returns which. In an emergency the old keys are withdrawn at
// once, on every edge and connector that can be reached.
func (s *Service) RotateKeys(ctx context.Context, names []string, emergency bool) ([]string, error) {
	known := keyNames()
	if len(names) == 0 {
		for _, k := range known {
			names = append(names, k.name)
		}
	}
	var kinds []token.Kind
	for _, name := range names {
		i := slices.IndexFunc(known, func(k keyName) bool { return k.name == name })
		if i < 0 {
			return nil, fault.New(fault.Invalid, "no key is called %.40q: use access, service, assertion, origin or edge-proof", name)
		}
		if slices.Contains(kinds, known[i].kind) {
			return nil, fault.New(fault.Invalid, "%s is named twice", name)
		}
		kinds = append(kinds, known[i].kind)
	}
	if err := s.Rotator.Rotate(ctx, emergency, kinds...); err != nil {
		return nil, err
	}
	s.done("key rotate", "", zap.String("kinds", strings.Join(names, " ")), zap.Bool("emergency", emergency))
	return names, nil
}
