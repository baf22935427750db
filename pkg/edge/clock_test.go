package edge

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// shifted is the clock of a machine that is off.
func shifted(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(by) }
}

// realConnector gives the node the links of a connector that checks what it gets.
func (n *node) realConnector() {
	n.t.Helper()
	code, _, err := enroll.NewService(n.store.Enroll(), n.clock.Now).Invite(n.t.Context(), "maple", "main")
	if err != nil {
		n.t.Fatal(err)
	}
	dir := n.t.TempDir()
	rules := filepath.Join(dir, "ingress.yaml")
	if err := os.WriteFile(rules, []byte("rules:\n  - status: 404\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	_, err = connector.Enroll(n.t.Context(), connector.Enrolment{
		StateDir: state, Edge: n.url(), Code: code, CAPin: n.certs.Pin(n.config.Host),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	c, err := connector.New(connector.Config{StateDir: state, Ingress: rules, Handler: empty{}})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	})
}

// Edges whose machines' clocks are ten minutes off go by the database's: what one of them issues holds at the other and at a
// connector of the other, sessions end when they should, the record says when it was, and the operator is told.
func TestClocksTenMinutesOff(t *testing.T) {
	for name, off := range map[string][2]time.Duration{
		"ahead":                    {0, 10 * time.Minute},
		"behind":                   {0, -10 * time.Minute},
		"both, to different sides": {10 * time.Minute, -10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			east, west := nodesBy(t, pgtest.Database(t), [2]func() time.Time{shifted(off[0]), shifted(off[1])}, func(i int, c *Config) {
				c.Host = "edge.localhost"
			})
			east.realConnector()
			_, cookie := east.signIn()
			for i, n := range []*node{east, west} {
				n.ready(cookie)
				n.works("signed in", cookie, 20*time.Second)
				if ahead := n.clock.Ahead(); (ahead - off[i]).Abs() > time.Minute {
					t.Errorf("edge %d says that its machine is ahead by %s", i, ahead)
				}
				if now := time.Since(n.clock.Now()); now.Abs() > time.Minute {
					t.Errorf("edge %d is off by %s", i, now)
				}
			}
			for from, n := range map[*node]*node{east: west, west: east} {
				n.takesToken(from)
				n.refusesEnded(from)
			}
			settled(t, east)
			records, err := east.store.Audit().Decisions(t.Context(), "maple", 0, 100)
			if err != nil || len(records) == 0 {
				t.Fatalf("%d decisions, %v", len(records), err)
			}
			for _, d := range records {
				if time.Since(d.Time).Abs() > time.Minute {
					t.Errorf("decision %d says that it was made %s ago", d.Sequence, time.Since(d.Time))
				}
			}
			eventually(t, "the other edge to be told", func() bool {
				_, all, err := east.heart.Status(t.Context())
				return err == nil && len(all) == 2 && (all[1].Ahead-off[1]).Abs() < time.Minute
			})
		})
	}
}

// takesToken has an access token that another edge mints now hold here.
func (n *node) takesToken(from *node) {
	n.t.Helper()
	issuer := "https://" + oscarHost
	raw, err := from.keyring.Mint(token.Access, token.Claims{
		Issuer: issuer, Audience: []string{issuer}, Subject: string(doctor), Tenant: "maple", Session: "ses_1", Kind: "user",
		Expires: from.clock.Now().Add(token.AccessLife),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	want := token.Expect{Issuer: issuer, Audience: issuer, Tenant: "maple"}
	if _, err := n.keyring.Verifier(token.Access).Verify(raw, want, n.clock.Now()); err != nil {
		n.t.Errorf("a token of the other edge: %v", errors.Unwrap(err))
	}
}

// refusesEnded has a session that ended a minute ago, or will have in a minute, be worth what it is here too.
func (n *node) refusesEnded(from *node) {
	n.t.Helper()
	for ends, want := range map[time.Duration]bool{-time.Minute: false, time.Minute: true} {
		now, value := from.clock.Now(), session.NewSecret()
		s := session.Session{
			Tenant: "maple", ID: id.NewSession(), User: doctor, Methods: []string{"otp"}, Created: now.Add(-time.Hour), LastSeen: now.Add(-2 * time.Minute),
			Expires: now.Add(ends), IdleFor: session.DefaultIdle,
		}
		from.keep(s, value)
		if got := n.ask(oscarHost+"/x", value).status == http.StatusNoContent; got != want {
			n.t.Errorf("a session that ends in %s is taken: %t", ends, got)
		}
	}
}
