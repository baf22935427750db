package connector_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

func transports() []string { return []string{connector.TransportQUIC, connector.TransportWebSocket} }

func TestFromThePastedLineToAnAnswer(t *testing.T) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) {
			e := newEdge(t)
			c := newClinic(t, e, transport)
			m := e.member(t)
			got, err := fetch(t, m, head(m, e.mint(t, claims(m)), "/oscar/chart"))
			if err != nil || got != "chart of /oscar/chart" {
				t.Fatalf("%q %v", got, err)
			}
			s := c.ready(t)
			if s.Protocol != transport || s.ReadyConnections < 1 || s.ConnectorID != c.identity.Connector || len(s.Origins) != 1 || !s.Origins[0].Healthy {
				t.Errorf("%+v", s)
			}
		})
	}
}

// An edge with a good link that signs with keys the pinned root knows nothing of, or whose assertion and head disagree: the
// connector refuses, and the origin's log shows nothing.
func TestForeignAssertionsNeverReachTheOrigin(t *testing.T) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) {
			e, foreign := newEdge(t), newEdge(t)
			c := newClinic(t, e, transport)
			m := e.member(t)
			good := e.mint(t, claims(m))
			change := func(f func(*token.Claims)) string {
				cl := claims(m)
				f(&cl)
				return e.mint(t, cl)
			}
			kind := func(k token.Kind) string {
				raw, err := e.ring.Mint(k, func() token.Claims { cl := claims(m); cl.ID = "tok_1"; return cl }())
				if err != nil {
					t.Fatal(err)
				}
				return raw
			}
			sets, err := e.ring.KeySets(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for name, row := range map[string]struct {
				assertion string
				head      func(*wire.RequestHead)
				code      string
			}{
				"foreign signing key": {assertion: foreign.mint(t, claims(m))},
				"none":                {assertion: ""},
				"not a token":         {assertion: "x"},
				"expired": {assertion: change(func(c *token.Claims) {
					c.IssuedAt, c.Expires = c.IssuedAt.Add(-5*time.Minute), c.IssuedAt.Add(-time.Minute)
				})},
				"another tenant's": {assertion: change(func(c *token.Claims) { c.Tenant = "cedar" })},
				"another site's":   {assertion: change(func(c *token.Claims) { c.Site = "annex" })},
				"another app's":    {assertion: change(func(c *token.Claims) { c.App = "app_2" })},
				"another issuer's": {assertion: change(func(c *token.Claims) { c.Issuer = "https://signin.maple.localhost" })},
				"another connector's": {assertion: change(func(c *token.Claims) {
					c.Connector, c.Audience = "con_x", []string{token.AssertionAudience("con_x", c.Generation)}
				})},
				"former generation's": {assertion: change(func(c *token.Claims) {
					c.Generation, c.Audience = 99, []string{token.AssertionAudience(c.Connector, 99)}
				})},
				"access token":            {assertion: kind(token.Access)},
				"service token":           {assertion: kind(token.Service)},
				"origin's copy":           {assertion: kind(token.Origin)},
				"key set":                 {assertion: sets[0]},
				"head of another tenant":  {assertion: good, head: func(h *wire.RequestHead) { h.Tenant = "cedar" }},
				"head of another site":    {assertion: good, head: func(h *wire.RequestHead) { h.Site = "annex" }},
				"head of another app":     {assertion: good, head: func(h *wire.RequestHead) { h.App = "app_2" }},
				"head without app":        {assertion: good, head: func(h *wire.RequestHead) { h.App = "" }},
				"head of another run":     {assertion: good, head: func(h *wire.RequestHead) { h.Generation++ }},
				"path with two readings":  {assertion: good, head: func(h *wire.RequestHead) { h.Path = "/oscar/%2e%2e/admin" }, code: wire.CodeProtocol},
				"path with parameters":    {assertion: good, head: func(h *wire.RequestHead) { h.Path = "/oscar/a;jsessionid=1" }, code: wire.CodeProtocol},
				"path with empty segment": {assertion: good, head: func(h *wire.RequestHead) { h.Path = "/oscar//chart" }, code: wire.CodeProtocol},
				"host in capitals":        {assertion: good, head: func(h *wire.RequestHead) { h.Host = "OSCAR.maple.localhost" }, code: wire.CodeProtocol},
				"host with a dot":         {assertion: good, head: func(h *wire.RequestHead) { h.Host = "oscar.maple.localhost." }, code: wire.CodeProtocol},
				"host an address":         {assertion: good, head: func(h *wire.RequestHead) { h.Host = "127.0.0.1" }, code: wire.CodeProtocol},
			} {
				h := head(m, row.assertion, "/oscar/chart")
				if row.head != nil {
					row.head(&h)
				}
				want := row.code
				if want == "" {
					want = wire.CodeAssertion
				}
				if got, err := fetch(t, m, h); exchange.Code(err) != want {
					t.Errorf("%s: %q %v, want %s", name, got, err, want)
				}
			}
			if seen := c.origin.requests(); len(seen) != 0 {
				t.Errorf("the origin saw %q", seen)
			}
			if _, err := fetch(t, m, head(m, good, "/oscar/chart")); err != nil {
				t.Errorf("the link did not survive: %v", err)
			}
		})
	}
}

// slow starts an exchange that the origin holds open, and returns when its head has arrived.
func slow(t *testing.T, e *testEdge, m *registry.Member, session id.Session) *exchange.Response {
	t.Helper()
	cl := claims(m)
	cl.Session = session
	resp, err := exchange.Do(t.Context(), m, &exchange.Request{Head: head(m, e.mint(t, cl), "/slow")})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestRevokedSessionEndsWhatRunsAndWhatComes(t *testing.T) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) {
			e := newEdge(t)
			c := newClinic(t, e, transport)
			m := e.member(t)
			assertion := e.mint(t, claims(m))
			mine, other := slow(t, e, m, "ses_1"), slow(t, e, m, "ses_2")
			begun := time.Now()
			e.server.RevokeSession("maple", "ses_1")
			_, err := io.ReadAll(mine.Body)
			if exchange.Code(err) != wire.CodeRevoked || time.Since(begun) > 5*time.Second {
				t.Errorf("the running one ended with %v after %v", err, time.Since(begun))
			}
			before := len(c.origin.requests())
			if _, err := fetch(t, m, head(m, assertion, "/oscar/chart")); exchange.Code(err) != wire.CodeRevoked {
				t.Errorf("a new one with the old assertion: %v", err)
			}
			if _, err := fetch(t, m, head(m, e.mint(t, claims(m)), "/oscar/chart")); exchange.Code(err) != wire.CodeRevoked {
				t.Errorf("a new one with a new assertion of the revoked session: %v", err)
			}
			if len(c.origin.requests()) != before {
				t.Error("the origin was asked for a revoked session")
			}
			close(c.origin.hold)
			if text, err := io.ReadAll(other.Body); err != nil || string(text) != "chart of /slow" {
				t.Errorf("the other session's: %q %v", text, err)
			}
		})
	}
}

func TestRevokedConnectorStopsAndSaysSo(t *testing.T) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) {
			e := newEdge(t)
			c := newClinic(t, e, transport)
			e.member(t)
			if err := e.db.Enroll().RevokeConnector(t.Context(), "maple", c.identity.Connector, time.Now()); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := e.server.CheckConnector(t.Context(), c.identity.Connector); err != nil {
				t.Fatal(err)
			}
			if err := c.end(t); !errors.Is(err, connector.ErrRevoked) || time.Since(begun) > 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
			if n := len(e.registry.Members("")); n != 0 {
				t.Errorf("%d links left", n)
			}
		})
	}
}

// What runs is finished, and the edge is told to send no more.
func TestStopFinishesWhatRuns(t *testing.T) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) {
			e := newEdge(t)
			c := newClinic(t, e, transport)
			resp := slow(t, e, e.member(t), "ses_1")
			c.stop()
			for len(e.registry.Members("")) > 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				_, err := e.registry.Pick(ctx, "maple", "main", "")
				cancel()
				if err != nil {
					break
				}
			}
			if s, code := c.get(t); s.Status != connector.StatusDraining || code != http.StatusServiceUnavailable {
				t.Errorf("%d %+v", code, s)
			}
			close(c.origin.hold)
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "chart of /slow" {
				t.Errorf("%q %v", text, err)
			}
			if err := c.end(t); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestComesBackAfterTheEdgeWasAway(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportAuto)
	first := e.member(t)
	if s := c.ready(t); s.Protocol != connector.TransportQUIC {
		t.Errorf("over %s although UDP is open", s.Protocol)
	}
	e.stop()
	if err := errors.Join(first.Link.Cause()); err == nil {
		t.Error("the link outlived the edge")
	}
	// The second time without UDP: WebSocket takes over by itself.
	e.start(false)
	m := e.member(t)
	if m.Link.Info().Transport != connector.TransportWebSocket || m.Generation != first.Generation {
		t.Errorf("back over %s, generation %d after %d", m.Link.Info().Transport, m.Generation, first.Generation)
	}
	if got, err := fetch(t, m, head(m, e.mint(t, claims(m)), "/oscar/chart")); err != nil {
		t.Errorf("%q %v", got, err)
	}
	if s := c.ready(t); s.Protocol != connector.TransportWebSocket {
		t.Errorf("%+v", s)
	}
}

// Two processes with one key would be taken for a thief and its victim.
func TestStateServesOneProcess(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportWebSocket)
	e.member(t)
	second, err := connector.New(c.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another connector") {
		t.Errorf("a second process: %v", err)
	}
	c.stop()
	if err := c.end(t); err != nil {
		t.Fatal(err)
	}
	third, err := connector.New(c.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- third.Run(ctx) }()
	e.member(t)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
}

// An edge that registers this connector for another clinic than it enrolled for gets no link.
func TestRegistrationForAnotherTenantIsRefused(t *testing.T) {
	e := newEdge(t)
	dir := t.TempDir()
	identity := e.enrol(filepath.Join(dir, "state"))
	text, err := os.ReadFile(filepath.Join(dir, "state", "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state", "identity.json"), bytes.Replace(text, []byte(`"maple"`), []byte(`"cedar"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte("rules:\n- service: status:404\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	metrics := metric.New()
	c, err := connector.New(connector.Config{StateDir: filepath.Join(dir, "state"), Ingress: filepath.Join(dir, "rules.yaml"), Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	deadline := time.Now().Add(time.Minute)
	outcome := func() (failed, up float64) {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "sallyport_link_attempts_total" && m.GetLabel()[1].GetValue() == "failed" {
					failed = m.GetCounter().GetValue()
				} else if f.GetName() == "sallyport_link_attempts_total" {
					up = m.GetCounter().GetValue()
				}
			}
		}
		return failed, up
	}
	for failed, _ := outcome(); failed == 0 && time.Now().Before(deadline); failed, _ = outcome() {
		<-time.After(20 * time.Millisecond)
	}
	if failed, up := outcome(); failed == 0 || up != 0 {
		t.Errorf("%v attempts failed, %v went up, for %s", failed, up, identity.Connector)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReadyNeedsLinkAndOrigin(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportWebSocket)
	c.ready(t)
	resp, err := http.Get("http://" + c.StatusAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.Contains(string(text), `sallyport_link_up{lane="fast",transport="websocket"} 1`) {
		t.Errorf("metrics lack the link:\n%.600s", text)
	}
	e.stop()
	deadline := time.Now().Add(time.Minute)
	for {
		s, code := c.get(t)
		if code == http.StatusServiceUnavailable && s.Status == connector.StatusNoLink {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("ready without a link: %d %+v", code, s)
		}
		<-time.After(20 * time.Millisecond)
	}
	rebound, err := http.NewRequest(http.MethodGet, "http://"+c.StatusAddr().String()+"/ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	rebound.Host = "evil.example"
	resp, err = http.DefaultClient.Do(rebound)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a foreign name on the loopback listener got %d", resp.StatusCode)
	}
}

func TestEnrolmentIsNeverOverwrittenAndItsKeyIsPrivate(t *testing.T) {
	e := newEdge(t)
	dir := filepath.Join(t.TempDir(), "state")
	e.enrol(dir)
	if _, err := connector.Enroll(t.Context(), connector.Enrolment{StateDir: dir, Edge: e.url(), Code: strings.Repeat("A", 26), CAPin: e.certs.Pin(host)}); !fault.Is(err, fault.Exists) {
		t.Errorf("enrolled over an enrolment: %v", err)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, "key.pem": 0o600, "identity.json": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, info.Mode().Perm(), want, err)
		}
	}
	if _, _, err := connector.LoadState(dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key.pem")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := connector.LoadState(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, _, err := connector.LoadState(dir); err == nil {
		t.Error("loaded without a key")
	}
	if _, _, err := connector.LoadState(t.TempDir()); err == nil || !strings.Contains(err.Error(), "connector invite") {
		t.Errorf("an empty directory: %v", err)
	}
	// A wrong pin: the code stays with us.
	wrong := "sha256:" + strings.Repeat("A", 43)
	if _, err := connector.Enroll(t.Context(), connector.Enrolment{StateDir: filepath.Join(t.TempDir(), "s"), Edge: e.url(), Code: strings.Repeat("A", 26), CAPin: wrong}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a wrong CA pin: %v", err)
	}
	_, err := connector.Enroll(t.Context(), connector.Enrolment{StateDir: filepath.Join(t.TempDir(), "s"), Edge: e.url(), Code: strings.Repeat("A", 26)})
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "--ca-file") {
		t.Errorf("no pin, and a CA that nobody knows: %v", err)
	}
}

func TestConfigRefusesOpenListeners(t *testing.T) {
	for _, listen := range []string{":9466", "0.0.0.0:9466", "192.168.1.5:9466", "[::]:9466", "localhost:9466", "127.0.0.1", "127.0.0.1:x"} {
		c := connector.Default()
		c.Loopback = listen
		if c.Validate() == nil {
			t.Errorf("%q accepted", listen)
		}
	}
	for _, listen := range []string{"127.0.0.1:0", "[::1]:9466", "127.0.0.2:1", ""} {
		c := connector.Default()
		c.Loopback = listen
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", listen, err)
		}
	}
}
