package connector

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// A request that an edge has lost sight of is served once, whichever of its copies comes first and however late the other one is.
func TestWhatIsSentAgainIsServedOnce(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o := newOnce(func() time.Time { return now })
	first := func(id string) error { return o.admit(&wire.RequestHead{RequestID: id, Hop: 1}) }
	again := func(id string) error { return o.admit(&wire.RequestHead{RequestID: id, Hop: 1, Again: true}) }
	expect := func(when string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
	}
	expect("it came", first("a"), nil)
	now = now.Add(hadFor - 1)
	expect("and is sent again", again("a"), errHad)
	expect("it never came, and is sent again", again("b"), nil)
	expect("and once more", again("b"), errHad)
	now = now.Add(hadFor - 1)
	expect("its first copy comes late", first("b"), errLate)
	expect("from a browser's own edge", o.admit(&wire.RequestHead{RequestID: "b"}), nil)
	now = now.Add(3 * hadFor)
	expect("long after", again("a"), nil)
}

// What cannot be known is not served again; what is sent for the first time is, whatever happens.
func TestWhatWasForgottenIsNotServedAgain(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o := newOnce(func() time.Time { return now })
	for n := range 3 * maxHad {
		if err := o.admit(&wire.RequestHead{RequestID: fmt.Sprint("had", n), Hop: 1}); err != nil {
			t.Fatal(err)
		}
	}
	again := func(id string) error { return o.admit(&wire.RequestHead{RequestID: id, Hop: 1, Again: true}) }
	if err := again("had0"); !errors.Is(err, errForgot) {
		t.Errorf("too many came: %v", err)
	}
	if held := len(o.had.young) + len(o.had.old); held > 2*maxHad {
		t.Errorf("%d are remembered", held)
	}
	now = now.Add(hadFor)
	for n := range maxRepeated {
		if err := again(fmt.Sprint("again", n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := again("one more"); !errors.Is(err, errRepeated) {
		t.Errorf("too many are sent again: %v", err)
	}
	if err := o.admit(&wire.RequestHead{RequestID: "new", Hop: 1}); err != nil {
		t.Errorf("for the first time: %v", err)
	}
}

// Over the links of two edges the same request reaches the origin once.
func TestTheOriginSeesARequestOnce(t *testing.T) {
	served := map[string]int{}
	g := testGate(&verdicts{claims: goodClaims(time.Now())}, handlerFunc(func(_ context.Context, in *exchange.Incoming, out *exchange.Answer) {
		served[in.Head.RequestID]++
		_ = out.Head(wire.ResponseHead{Status: 204})
		_ = out.End(nil)
	}))
	near, far := exchangetest.Memory()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			s, err := far.Accept(t.Context())
			if err != nil {
				return
			}
			if _, err := wire.ReadKind(s); err == nil {
				_ = exchange.Serve(t.Context(), s, g.checked(7))
			}
		}
	}()
	ask := func(id string, again bool) string {
		resp, err := exchange.Do(t.Context(), near, &exchange.Request{Head: wire.RequestHead{
			RequestID: id, Tenant: "maple", Site: "main", App: "app_1", Method: "GET", Scheme: "https", Host: "oscar.maple.localhost", Path: "/",
			Assertion: "x", Generation: 7, Hop: 1, Again: again,
		}})
		if err == nil {
			_ = resp.Body.Close()
		}
		return exchange.Code(err)
	}
	for _, c := range []struct {
		id    string
		again bool
		code  string
	}{{"a", false, ""}, {"a", true, wire.CodeTunnelDown}, {"b", true, ""}, {"b", false, wire.CodeTunnelDown}, {"c", false, ""}} {
		if got := ask(c.id, c.again); got != c.code {
			t.Errorf("%s, again %v: %q, want %q", c.id, c.again, got, c.code)
		}
	}
	_ = near.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	<-done
	if served["a"] != 1 || served["b"] != 1 || served["c"] != 1 {
		t.Errorf("the origin saw %v", served)
	}
}
