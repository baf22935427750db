package cluster

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// headNames are the fields of a head by which a relay finds a connector's link, with what they say of a clinic's; the others name nothing
// to it. What is in neither fails the test.
func headNames() (names map[string]func(h *wire.RequestHead, of run), plain []string) {
	names = map[string]func(h *wire.RequestHead, of run){
		"Tenant":     func(h *wire.RequestHead, of run) { h.Tenant = of.tenant },
		"Site":       func(h *wire.RequestHead, of run) { h.Site = of.site },
		"Connector":  func(h *wire.RequestHead, of run) { h.Connector = of.connector },
		"Generation": func(h *wire.RequestHead, of run) { h.Generation = of.generation },
	}
	return names, strings.Fields(`Exchange RequestID App Method Scheme Host Path RawQuery HasQuery Header ContentLength Upgrade ExpectContinue ClientIP
		Assertion OriginAssertion Hop TrailerNames Again`)
}

// run is one run of a clinic's connector.
type run struct {
	tenant, site, connector string
	generation              uint64
}

func (r run) head() wire.RequestHead {
	return wire.RequestHead{
		Tenant: r.tenant, Site: r.site, App: "app_1", Method: "GET", Scheme: "https", Host: "oscar.example", Path: "/", Hop: 1, Connector: r.connector,
		Generation: r.generation,
	}
}

// A head from another edge that mixes two clinics' names reaches neither's connector, and is answered as one that names what there is
// not.
func TestARelayMixesNoClinics(t *testing.T) {
	maple, birch := run{"maple", "maple-site", "con_maple", 1}, run{"birch", "birch-site", "con_birch", 2}
	nobody := run{"elm", "elm-site", "con_elm", 3}
	links := registry.New(registry.Config{})
	reached := map[run]*shut{maple: {}, birch: {}}
	for r, link := range reached {
		link.Link, _ = exchangetest.Memory()
		leave, err := links.Join(registry.Member{
			Tenant: id.Tenant(r.tenant), Site: id.Site(r.site), Connector: id.Connector(r.connector), Generation: r.generation,
			Lane: tunnelv1.Lane_LANE_FAST, Link: link,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
	ask := func(head wire.RequestHead) string { return relayHead(t, links, head) }
	names, plain := headNames()
	for n := range reflect.TypeFor[wire.RequestHead]().NumField() {
		field := reflect.TypeFor[wire.RequestHead]().Field(n).Name
		set, ok := names[field]
		if !ok {
			if !slices.Contains(plain, field) {
				t.Errorf("%s is not in the matrix: say whether a relay finds a link by it", field)
			}
			continue
		}
		of := func(r run) wire.RequestHead { h := maple.head(); set(&h, r); return h }
		if theirs, none := ask(of(birch)), ask(of(nobody)); theirs != none || theirs != wire.CodeNotHere {
			t.Errorf("another clinic's %s: %s; nobody's: %s", field, theirs, none)
		}
	}
	if reached[maple].opened+reached[birch].opened != 0 {
		t.Error("a connector was reached")
	}
	if ask(birch.head()); reached[birch].opened != 1 { // else all could have been refused for another reason
		t.Error("its own connector was not reached")
	}
}

// shut is a link that opens nothing, and counts.
type shut struct {
	tunnel.Link
	opened int
}

func (c *shut) Open(context.Context) (tunnel.Stream, error) {
	c.opened++
	return nil, errors.New("no")
}

// relayHead is the code of the answer to a head from another edge.
func relayHead(t *testing.T, local Local, head wire.RequestHead) string {
	t.Helper()
	near, here := exchangetest.Memory()
	served := make(chan error, 1)
	go func() {
		s, err := here.Accept(t.Context())
		if err == nil {
			_, err = wire.ReadKind(s)
		}
		if err == nil {
			err = exchange.Serve(t.Context(), s, &relay{local: local, count: func(string) {}})
		}
		served <- err
	}()
	_, err := exchange.Do(t.Context(), near, &exchange.Request{Head: head})
	<-served
	return exchange.Code(err)
}

// What the door of an edge lets in of many clinics fits on one link to another edge, and so does what one clinic's people do not read of
// their answers: a clinic that has all that it may have at work takes no other clinic's way. With a window of 96 MiB for all, 770
// downloads that nobody went on reading held up every page of every clinic.
func TestALinkBetweenEdgesHasRoomForAllClinics(t *testing.T) {
	limits := guard.DefaultLimits()
	if peerStreams < limits.InFlight || peerStreams < 4*limits.PerTenant {
		t.Errorf("%d exchanges over one link, and an edge lets in %d, of one clinic %d", peerStreams, limits.InFlight, limits.PerTenant)
	}
	if unread := int64(limits.PerTenant) * peerStreamWindow; peerLinkWindow < 4*unread {
		t.Errorf("a link has room for %d bytes that wait, and one clinic may have %d", int64(peerLinkWindow), unread)
	}
}
