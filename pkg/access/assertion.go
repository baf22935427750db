package access

import (
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// assertionKey is what an assertion says; all that say the same share one.
type assertionKey struct {
	tenant     id.Tenant
	session    id.Session
	token      id.Token
	principal  string
	app        id.App
	site       id.Site
	host       string
	connector  id.Connector
	generation uint64
}

type pair struct {
	assertion, origin string
	expires           time.Time
}

// assertions keeps minted assertions until they near their end.
type assertions struct {
	max int

	mu   sync.Mutex // guards kept
	kept map[assertionKey]pair
}

func newAssertions(limit int) *assertions {
	return &assertions{max: limit, kept: map[assertionKey]pair{}}
}

func (s *assertions) get(k assertionKey, now time.Time) (pair, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.kept[k]
	return p, ok && p.expires.Sub(now) >= renewBefore
}

func (s *assertions) put(k assertionKey, p pair, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) >= s.max {
		for other, old := range s.kept {
			if old.expires.Sub(now) < renewBefore || len(s.kept) >= s.max {
				delete(s.kept, other)
			}
		}
	}
	s.kept[k] = p
}

func (s *assertions) drop(match func(assertionKey) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.kept {
		if match(k) {
			delete(s.kept, k)
		}
	}
}

// Assertions returns what goes with an exchange of the grant over a connector's generation: the assertion that the connector
// checks, and the copy for the origin, whose audience is the app's host. Both are minted once per session or token, app and
// generation and used again until they near their end. A lease that has ended gets none.
func (a *Access) Assertions(g Grant, connector id.Connector, generation uint64) (assertion, origin string, err error) {
	if g.Lease == nil || g.Lease.ctx.Err() != nil {
		return "", "", fault.New(fault.Denied, "access was withdrawn")
	}
	q, now := &g.Lease.question, a.cfg.Now()
	k := assertionKey{
		tenant: q.Tenant.ID, session: q.Identity.Authentication.Session, token: q.Identity.Authentication.Token,
		principal: q.Identity.Principal.ID, app: q.App.ID, site: q.App.Site, host: q.App.Host,
		connector: connector, generation: generation,
	}
	if p, ok := a.assertions.get(k, now); ok {
		return p.assertion, p.origin, nil
	}
	p, err := a.mintAssertions(q, k, now, earlier(now.Add(token.AssertionLife), g.Lease.hardEnd()))
	if err != nil {
		return "", "", fault.New(fault.Unavailable, "no assertion can be made just now").Because(err)
	}
	a.assertions.put(k, p, now)
	// A change between the look at the lease and here dropped nothing yet: what was just kept goes too.
	if g.Lease.ctx.Err() != nil {
		a.assertions.drop(func(other assertionKey) bool { return other == k })
		return "", "", fault.New(fault.Denied, "access was withdrawn")
	}
	return p.assertion, p.origin, nil
}

func (a *Access) mintAssertions(q *Question, k assertionKey, now, expires time.Time) (pair, error) {
	claims := token.Claims{
		Issuer: token.AssertionIssuer, Subject: k.principal, Audience: []string{token.AssertionAudience(k.connector, k.generation)},
		IssuedAt: now, Expires: expires, Tenant: k.tenant, Session: k.session, ID: string(k.token), Kind: string(q.Identity.Principal.Kind),
		Methods: q.Identity.Authentication.Methods, Site: k.site, App: k.app, Connector: k.connector, Generation: k.generation,
	}
	assertion, err := a.cfg.Keys.Mint(token.Assertion, claims)
	if err != nil {
		return pair{}, err
	}
	// The origin checks its copy with the key set that the tenant's sign-in host publishes.
	claims.Issuer, claims.Audience = session.Issuer(q.Tenant.SignInHost), []string{k.host}
	claims.Connector, claims.Generation = "", 0
	origin, err := a.cfg.Keys.Mint(token.Origin, claims)
	if err != nil {
		return pair{}, err
	}
	return pair{assertion, origin, expires}, nil
}
