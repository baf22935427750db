package edge

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

const signOutPath = "/.sallyport/sign-out"

// leaves signs out at a node as a browser does that holds these cookies.
func (n *node) leaves(when, cookie string, more ...*http.Cookie) {
	n.t.Helper()
	a := n.ask(oscarHost+signOutPath, cookie, more...)
	if a.status != http.StatusSeeOther || !strings.HasSuffix(a.header.Get("Location"), "/signed-out") || a.took > 8*time.Second {
		n.t.Errorf("%s: %d to %q after %s: %.200s", when, a.status, a.header.Get("Location"), a.took, code(a.body))
	}
}

// shut reports whether a cookie opens nothing.
func (n *node) shut(cookie string) bool {
	n.t.Helper()
	return n.ask(oscarHost+"/x", cookie).status != http.StatusNoContent
}

// accessToken is what an edge gave a browser that holds a reference.
func (n *node) accessToken(cookie string) *http.Cookie {
	n.t.Helper()
	r := &http.Response{Header: n.ask(oscarHost+"/x", cookie).header}
	for _, c := range r.Cookies() {
		if c.Name == session.CookieAccess {
			return c
		}
	}
	n.t.Fatal("no access token")
	return nil
}

// People sign out while the database is down: where it is not known yet, where it is, and where the edge has not seen their session. At once
// their cookies open nothing on either edge; neither when an edge has started again that was only told, while the one that was asked
// cannot write; and then it is in the database.
func TestSigningOutWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	database := server.Database(t)
	east, west := nodes(t, database, same)
	var names []id.Session
	var cookies []string
	for range 4 {
		name, cookie := east.signIn()
		names, cookies = append(names, name), append(cookies, cookie)
		east.ready(cookie)
	}
	first, second, elsewhere, stays := cookies[0], cookies[1], cookies[2], cookies[3]
	for _, cookie := range []string{first, second, stays} {
		west.ready(cookie)
	}
	token := east.accessToken(elsewhere)
	server.Stop(t, "immediate")
	east.leaves("at once", first)
	eventually(t, "that it is known", func() bool { return east.away() && west.away() })
	west.leaves("known to be away", second)
	west.leaves("known to be away, and the answer was lost", second)
	west.leaves("not seen here", elsewhere, token)
	for i, cookie := range []string{first, second, elsewhere} {
		for _, n := range []*node{east, west} {
			eventually(t, "the sign-out to arrive", func() bool { return n.shut(cookie) })
		}
		if held := len(east.revoker.Pending()); held < i+1 {
			t.Errorf("%d sign-outs are held", held)
		}
	}
	if a := west.ask(oscarHost+signOutPath, session.NewSecret()); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("somebody whom nobody knows is told that they are signed out: %d", a.status)
	}
	for _, n := range []*node{east, west} {
		n.works("somebody else", stays, 2*time.Second)
	}
	eventually(t, "the other edge to hold it too", func() bool { return len(west.revoker.Pending()) == 3 })
	east.way.Hold(true)
	west.stop()
	server.Restart(t)
	west.start(west.config)
	eventually(t, "the clinic to be known", func() bool { _, ok := west.routes.Load().Host(oscarHost); return ok })
	for _, cookie := range []string{first, second, elsewhere} {
		if !west.shut(cookie) {
			t.Error("a cookie opens something after a restart")
		}
	}
	eventually(t, "it to be written", func() bool {
		return len(server.Query(t, database, `SELECT id FROM sessions WHERE revoked > 0`)) == 3
	})
	east.way.Hold(false)
	eventually(t, "that it is back", func() bool {
		return !east.away() && len(east.revoker.Pending()) == 0 && len(west.revoker.Pending()) == 0
	})
	for _, n := range []*node{east, west} {
		for i, cookie := range []string{first, second, elsewhere} {
			if !n.shut(cookie) {
				t.Errorf("session %s is back with the database", names[i])
			}
		}
		n.works("somebody else", stays, 5*time.Second)
	}
}
