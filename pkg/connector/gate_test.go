package connector

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// verdicts is a Verifier that counts, and takes every token as what the test says.
type verdicts struct {
	calls  atomic.Int64
	claims token.Claims
	err    error
}

func (v *verdicts) Verify(string, token.Expect, time.Time) (token.Claims, error) {
	v.calls.Add(1)
	return v.claims, v.err
}

func goodClaims(now time.Time) token.Claims {
	return token.Claims{
		Subject: "usr_1", Session: "ses_1", Tenant: "maple", Site: "main", App: "app_1", Connector: "con_1", Generation: 7,
		IssuedAt: now, Expires: now.Add(4 * time.Minute),
	}
}

func want() token.Expect {
	return token.Expect{Issuer: token.AssertionIssuer, Audience: token.AssertionAudience("con_1", 7), Tenant: "maple"}
}

func TestAssertionIsVerifiedOnceWhileItHolds(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	v := &verdicts{claims: goodClaims(now)}
	a := newAssertions(v, func() time.Time { return now })
	ask := func(raw string, want token.Expect) error {
		_, err := a.verify(raw, want)
		return err
	}
	for range 10 {
		if err := ask("one", want()); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.calls.Load(); n != 1 {
		t.Errorf("verified %d times", n)
	}
	other := want()
	other.Audience = token.AssertionAudience("con_1", 8)
	_ = ask("one", other)
	_ = ask("one", want())
	_ = ask("two", want())
	if n := v.calls.Load(); n != 4 {
		t.Errorf("another audience or another token was taken from memory: %d calls", n)
	}
	now = now.Add(4 * time.Minute)
	v.err = token.ErrExpired
	if err := ask("one", want()); !errors.Is(err, token.ErrExpired) {
		t.Errorf("an expired assertion is remembered as good: %v", err)
	}
	before := v.calls.Load()
	_ = ask("one", want())
	if v.calls.Load() == before {
		t.Error("a refusal was remembered")
	}
}

func TestRevocationOutlivesTheMemoryOfAssertions(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	later := func(c token.Claims) token.Claims { c.IssuedAt = now.Add(2 * time.Second); return c }
	for name, row := range map[string]struct {
		revoke *tunnelv1.Revoke
		claims token.Claims
		want   bool
	}{
		"its session":              {&tunnelv1.Revoke{Session: "ses_1"}, goodClaims(now), true},
		"its session, minted anew": {&tunnelv1.Revoke{Session: "ses_1"}, later(goodClaims(now)), true},
		"another session":          {&tunnelv1.Revoke{Session: "ses_2"}, goodClaims(now), false},
		"its principal":            {&tunnelv1.Revoke{Principal: "usr_1"}, goodClaims(now), true},
		"its principal, since":     {&tunnelv1.Revoke{Principal: "usr_1"}, later(goodClaims(now)), false},
		"another principal":        {&tunnelv1.Revoke{Principal: "usr_2"}, goodClaims(now), false},
		"all":                      {&tunnelv1.Revoke{All: true}, goodClaims(now), true},
		"all, since":               {&tunnelv1.Revoke{All: true}, later(goodClaims(now)), false},
		"nobody":                   {&tunnelv1.Revoke{}, goodClaims(now), false},
	} {
		v := &verdicts{claims: row.claims}
		a := newAssertions(v, func() time.Time { return now })
		if _, err := a.verify("one", want()); err != nil {
			t.Fatal(err)
		}
		a.revoke(row.revoke)
		if got := a.revoked(row.claims); got != row.want {
			t.Errorf("%s: revoked %v", name, got)
		}
		held := len(a.held) == 1
		if held != !names(row.revoke, row.claims) {
			t.Errorf("%s: still remembered: %v", name, held)
		}
	}
}

func TestMemoryOfAssertionsIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := newAssertions(&verdicts{claims: goodClaims(now)}, func() time.Time { return now })
	for i := range 3 * maxVerified {
		if _, err := a.verify(strconv.Itoa(i), want()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxMarks + 100 {
		a.revoke(&tunnelv1.Revoke{Session: "ses_" + strconv.Itoa(i)})
		now = now.Add(time.Millisecond)
	}
	if len(a.held) > maxVerified || len(a.sessions) > maxMarks {
		t.Errorf("%d assertions, %d marks", len(a.held), len(a.sessions))
	}
	newest := goodClaims(now)
	newest.Session = id.Session("ses_" + strconv.Itoa(maxMarks+99))
	if !a.revoked(newest) {
		t.Error("the newest mark was dropped")
	}
}

// pipeLink is a link of which a test opens the streams.
type pipeLink struct {
	tunnel.Link
	tunnel.Ending
	incoming chan tunnel.Stream
}

func (l *pipeLink) Accept(ctx context.Context) (tunnel.Stream, error) {
	select {
	case s := <-l.incoming:
		return s, nil
	case <-l.Ending.Done():
		return nil, l.Ending.Cause()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeStream struct {
	net.Conn
	reset chan tunnel.ResetCode
}

func (s *pipeStream) CloseWrite() error { return nil }
func (s *pipeStream) Reset(c tunnel.ResetCode) {
	select {
	case s.reset <- c:
	default:
	}
	_ = s.Close()
}

// offer opens a stream to the connector; reset tells the code with which it was given up.
func (l *pipeLink) offer() (edge net.Conn, reset <-chan tunnel.ResetCode) {
	edge, here := net.Pipe()
	s := &pipeStream{Conn: here, reset: make(chan tunnel.ResetCode, 1)}
	l.incoming <- s
	return edge, s.reset
}

func testGate(v token.Verifier, h exchange.Handler) *gate {
	identity := Identity{Connector: "con_1", Tenant: "maple", Site: "main", RootKey: make(ed25519.PublicKey, 32)}
	return newGate(identity, v, time.Now, h, zap.NewNop(), metric.New())
}

func serving(t *testing.T, g *gate) (*pipeLink, func()) {
	t.Helper()
	l := &pipeLink{incoming: make(chan tunnel.Stream)}
	var wg sync.WaitGroup
	wg.Go(func() { g.serve(&controlclient.Link{Link: l, Generation: 7}, &work{}) })
	return l, func() {
		l.End(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonLost}})
		wg.Wait()
	}
}

func (l *pipeLink) Done() <-chan struct{} { return l.Ending.Done() }
func (l *pipeLink) Cause() error          { return l.Ending.Cause() }

// Only exchanges are taken; any other kind of stream is reset by itself (attack cases K1, K4), and a silent one in time.
func TestOtherStreamsAreReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(&verdicts{err: errors.New("no")}, nil)
		l, stop := serving(t, g)
		for _, kind := range []byte{0, wire.StreamControl, wire.StreamContinuation, 0x7f, 0xff} {
			edge, reset := l.offer()
			if _, err := edge.Write([]byte{kind}); err != nil {
				t.Fatal(err)
			}
			if code := <-reset; code != tunnel.ResetProtocol {
				t.Errorf("kind %d: %v", kind, code)
			}
		}
		_, reset := l.offer()
		begun := time.Now()
		if code := <-reset; code != tunnel.ResetTimeout || time.Since(begun) != kindTimeout {
			t.Errorf("a silent stream: %v after %v", code, time.Since(begun))
		}
		stop()
	})
}

// A probe goes the way of an exchange: it comes back as it was, and not at all while there is no room for an exchange.
func TestProbesComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(&verdicts{err: errors.New("no")}, nil)
		l, stop := serving(t, g)
		edge, _ := l.offer()
		go func() { _, _ = edge.Write(append([]byte{wire.StreamProbe}, "01234567"...)) }()
		got := make([]byte, wire.ProbeBytes)
		if _, err := io.ReadFull(edge, got); err != nil || string(got) != "01234567" {
			t.Errorf("%q %v", got, err)
		}
		_ = edge.Close()
		for _, bad := range []string{"0123", "012345678"} { // one that stops, one that goes on
			edge, reset := l.offer()
			go func() {
				_, _ = edge.Write(append([]byte{wire.StreamProbe}, bad...))
			}()
			go func() { _, _ = io.Copy(io.Discard, edge) }()
			if code := <-reset; code != tunnel.ResetTimeout && code != tunnel.ResetProtocol {
				t.Errorf("%q: %v", bad, code)
			}
		}
		synctest.Wait()
		for range maxExchanges {
			g.slots <- struct{}{}
		}
		_, reset := l.offer()
		if code := <-reset; code != tunnel.ResetRefused {
			t.Errorf("without room: %v", code)
		}
		stop()
	})
}

func TestExchangesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(&verdicts{err: errors.New("no")}, nil)
		l, stop := serving(t, g)
		var open []net.Conn
		for range maxExchanges {
			edge, _ := l.offer()
			open = append(open, edge)
		}
		synctest.Wait()
		_, reset := l.offer()
		if code := <-reset; code != tunnel.ResetRefused {
			t.Errorf("one too many: %v", code)
		}
		for _, c := range open {
			_ = c.Close()
		}
		synctest.Wait()
		edge, reset := l.offer()
		if _, err := edge.Write([]byte{0x7f}); err != nil {
			t.Fatal(err)
		}
		if code := <-reset; code != tunnel.ResetProtocol {
			t.Errorf("after they ended: %v", code)
		}
		stop()
	})
}

// A revocation that falls between the check of an assertion and the start of its exchange ends it all the same.
func TestRevocationBetweenCheckAndStart(t *testing.T) {
	reached := false
	var g *gate
	v := verifierFunc(func() (token.Claims, error) {
		c := goodClaims(time.Now())
		defer g.revoke(&tunnelv1.Revoke{Session: string(c.Session)})
		return c, nil
	})
	g = testGate(v, handlerFunc(func(context.Context, *exchange.Incoming, *exchange.Answer) { reached = true }))
	c := g.checked(7)
	head := wire.RequestHead{Tenant: "maple", Site: "main", App: "app_1", Generation: 7, Host: "oscar.maple.localhost", Path: "/", Assertion: "x"}
	_, err := c.check(&head)
	var r *refusal
	if !errors.As(err, &r) || r.code != wire.CodeRevoked || reached {
		t.Errorf("%v", err)
	}
}

type verifierFunc func() (token.Claims, error)

func (f verifierFunc) Verify(string, token.Expect, time.Time) (token.Claims, error) { return f() }

type handlerFunc func(context.Context, *exchange.Incoming, *exchange.Answer)

func (f handlerFunc) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	f(ctx, in, out)
}

func TestCanonicalHosts(t *testing.T) {
	for host, want := range map[string]bool{
		"oscar.maple.localhost": true, "oscar.maple.localhost:8443": true, "xn--clinique-gva.example": false,
		"OSCAR.maple.localhost": false, "oscar.maple.localhost.": false, "oscar.maple.localhost:": false, "oscar.maple.localhost:x": false,
		"": false, "10.0.0.1": false, "[::1]:8443": false, "a@b": false, "a b": false,
	} {
		if got := canonicalHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	now := time.Now()
	g := testGate(&verdicts{claims: goodClaims(now)}, nil)
	c := g.checked(7)
	head := wire.RequestHead{Tenant: "maple", Site: "main", App: "app_1", Generation: 7, Host: "oscar.maple.localhost:8443", Path: "/oscar/login.do", Assertion: "x"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.check(&head); err != nil {
			b.Fatal(err)
		}
	}
}
