package cluster

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// maxID bounds an identifier that a peer names, bytes.
const maxID = 64

// maxName bounds what a change names, bytes.
const maxName = 320

// maxAhead bounds how far a clock may be off, milliseconds: a hundred years.
const maxAhead = 100 * 365 * 24 * 3600 * 1000

// hearing puts the announcements of one peer together from their parts.
type hearing struct {
	edge id.Edge
	a    *Announcement
}

// part takes one message; it returns the announcement that is complete with it, or nil.
func (h *hearing) part(m *tunnelv1.PeerHoldings) (*Announcement, error) {
	if h.a == nil {
		h.a = &Announcement{Edge: h.edge, Incarnation: m.GetIncarnation(), Version: m.GetVersion(), Full: m.GetFull(), Draining: m.GetDraining()}
		if ms := m.GetClockAheadMs(); ms > -maxAhead && ms < maxAhead {
			h.a.Ahead = time.Duration(ms) * time.Millisecond
		}
	}
	a := h.a
	switch {
	case a.Incarnation != m.GetIncarnation() || a.Version != m.GetVersion() || a.Full != m.GetFull():
		return nil, fmt.Errorf("one announcement within another: %w", wire.ErrProtocol)
	case len(m.GetHoldings()) > perMessage || len(a.Holdings)+len(m.GetHoldings()) > maxHoldings:
		return nil, fmt.Errorf("more than %d holdings: %w", maxHoldings, wire.ErrProtocol)
	}
	for _, one := range m.GetHoldings() {
		held, err := readHolding(one)
		if err != nil {
			return nil, err
		}
		held.Edge = h.edge
		a.Holdings = append(a.Holdings, held)
	}
	if m.GetMore() {
		return nil, nil
	}
	h.a = nil
	return a, nil
}

func readHolding(m *tunnelv1.PeerHolding) (Holding, error) {
	tenant, err := id.ParseLabel[id.Tenant]("tenant", m.GetTenant())
	if err != nil {
		return Holding{}, fmt.Errorf("holding: %w: %w", err, wire.ErrProtocol)
	}
	site, err := id.ParseLabel[id.Site]("site", m.GetSite())
	if err != nil {
		return Holding{}, fmt.Errorf("holding: %w: %w", err, wire.ErrProtocol)
	}
	if !printable(m.GetConnector()) || m.GetLinks() > 0 && m.GetGeneration() == 0 {
		return Holding{}, fmt.Errorf("holding: connector %.20q of generation %d: %w", m.GetConnector(), m.GetGeneration(), wire.ErrProtocol)
	}
	return Holding{
		Tenant: tenant, Site: site, Connector: id.Connector(m.GetConnector()), Generation: m.GetGeneration(), Links: int(min(m.GetLinks(), 1<<20)),
		Once: m.GetOnce(), Quiet: m.GetQuiet(),
	}, nil
}

// readChanges takes what changed. Kinds that this version does not know come through: they make a follower look.
func readChanges(m *tunnelv1.PeerChanges) ([]change.Change, error) {
	if len(m.GetChanges()) > perMessage {
		return nil, fmt.Errorf("%d changes in a message: %w", len(m.GetChanges()), wire.ErrProtocol)
	}
	out := make([]change.Change, 0, len(m.GetChanges()))
	for _, one := range m.GetChanges() {
		c := change.Change{Tenant: id.Tenant(one.GetTenant()), Kind: change.Kind(one.GetKind()), ID: one.GetId(), Version: one.GetVersion()}
		if c.Tenant != "" {
			if _, err := id.ParseLabel[id.Tenant]("tenant", one.GetTenant()); err != nil {
				return nil, fmt.Errorf("change: %w: %w", err, wire.ErrProtocol)
			}
		}
		if !printable(one.GetKind()) || !nameable(one.GetId()) || c.Version < 0 {
			return nil, fmt.Errorf("change of kind %.20q: %w", one.GetKind(), wire.ErrProtocol)
		}
		out = append(out, c)
	}
	return out, nil
}

// printable takes what an identifier may be: 1 to 64 visible ASCII characters.
func printable(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// nameable takes what a change may name: an identifier, or somebody's e-mail address, which may have any letters.
func nameable(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}
