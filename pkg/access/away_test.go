package access_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

const grace = 30 * time.Minute

// silence is a change log as far as access sees it: it was read a while ago, and looks may fail since.
type silence struct {
	mu      sync.Mutex
	since   time.Duration
	failing bool
}

func (s *silence) Silence() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.failing
}

func (s *silence) set(since time.Duration, failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.failing = since, failing
}

// onCluster is a world whose Access knows how far the log is followed. Its clock does not move the log's.
func onCluster(t testing.TB, c *clock) (*world, *silence) {
	w, s := newWorld(t, c.now), &silence{}
	w.access = access.New(access.Config{
		Keys: w.ring, Sessions: w, Services: w, Users: w, Apps: w, Recorder: w, Follower: w, Now: c.now, Log: s, Grace: grace,
	})
	return w, s
}

func (w *world) goAway(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = away
}

// ask goes the whole way of a request.
func (w *world) ask(t testing.TB, r *http.Request) (access.Grant, error) {
	t.Helper()
	who, err := w.access.Authenticate(r, maple, oscar())
	if err != nil {
		return access.Grant{}, err
	}
	return w.access.Authorize(t.Context(), question(who, w.apps[0]))
}

// The store is away: whoever was known goes on, whoever was not is refused and not sent to sign in, and after the grace all are.
func TestKnownPeopleAndServicesGoOnForTheGrace(t *testing.T) {
	c := newClock()
	w, log := onCluster(t, c)
	unknown := get("/", ref, w.signIn("ses_9", c.at))
	known := map[string]*http.Request{
		"person":  get("/", ref, w.signIn("ses_1", c.at)),
		"service": withToken(w.service(t, c.at, func(claims *token.Claims) { claims.Expires = c.at.Add(2 * time.Hour) })),
	}
	for k, record := range w.tokens {
		record.Expires = c.at.Add(2 * time.Hour)
		w.tokens[k] = record
	}
	for name, r := range known {
		if _, err := w.ask(t, r); err != nil {
			t.Fatalf("%s, before: %v", name, err)
		}
	}
	w.goAway(true)
	for since := time.Second; since < grace; since += 5 * time.Minute {
		log.set(since, true)
		touches := w.touches
		for name, r := range known {
			if _, err := w.ask(t, r); err != nil {
				t.Errorf("%s, %s away: %v", name, since, err)
			}
		}
		if w.touches != touches {
			t.Errorf("%s away: the store was told of use", since)
		}
		if _, err := w.ask(t, unknown); !fault.Is(err, fault.Unavailable) || !errors.Is(err, access.ErrUnchecked) {
			t.Errorf("unknown, %s away: %v", since, err)
		}
		c.advance(5 * time.Minute)
	}
	log.set(grace+time.Second, true)
	for name, r := range known {
		if _, err := w.ask(t, r); !fault.Is(err, fault.Unavailable) || !errors.Is(err, access.ErrUnchecked) {
			t.Errorf("%s, after the grace: %v", name, err)
		}
	}
	if _, err := w.ask(t, get("/")); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("nobody, after the grace: %v", err)
	}
	w.goAway(false)
	log.set(0, false)
	for name, r := range known {
		if _, err := w.ask(t, r); err != nil {
			t.Errorf("%s, back: %v", name, err)
		}
	}
}

// What a peer says is revoked is not trusted again before the store is back, and what ran under it is cut.
func TestRevokedByAPeerWhileTheStoreIsAway(t *testing.T) {
	c := newClock()
	w, log := onCluster(t, c)
	r := get("/", ref, w.signIn("ses_1", c.at))
	g, err := w.ask(t, r)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Lease.Release()
	w.goAway(true)
	log.set(time.Minute, true)
	if err := w.follow(t.Context(), []change.Change{{Tenant: "maple", Kind: change.Session, ID: "ses_1"}}); err != nil {
		t.Fatal(err)
	}
	if g.Lease.Context().Err() == nil {
		t.Error("what ran goes on")
	}
	for range 3 {
		if _, err := w.ask(t, r); !errors.Is(err, access.ErrUnchecked) {
			t.Errorf("asked again: %v", err)
		}
	}
}

// A follower that hangs while the store answers leaves nothing to be believed: a revocation that it did not tell of counts.
func TestCopiesOfALogThatIsNotFollowed(t *testing.T) {
	c := newClock()
	w, log := onCluster(t, c)
	r := get("/", ref, w.signIn("ses_1", c.at))
	if _, err := w.ask(t, r); err != nil {
		t.Fatal(err)
	}
	kept := w.sessions["ses_1"]
	kept.Revoked = c.at
	w.sessions["ses_1"] = kept
	c.advance(6 * time.Second)
	log.set(6*time.Second, false)
	if _, err := w.ask(t, r); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("revoked, and the log is not followed: %v", err)
	}
}

// The store stops answering, and the follower has not found out yet: a copy that is due to be read again stands in.
func TestTheFirstMomentOfAnOutage(t *testing.T) {
	c := newClock()
	w, log := onCluster(t, c)
	r := get("/", ref, w.signIn("ses_1", c.at))
	if _, err := w.ask(t, r); err != nil {
		t.Fatal(err)
	}
	w.goAway(true)
	log.set(time.Second, false)
	c.advance(time.Minute)
	before := w.reads
	for range 10 {
		if _, err := w.ask(t, r); err != nil {
			t.Error(err)
		}
	}
	if n := w.reads - before; n != 1 {
		t.Errorf("the store was asked %d times", n)
	}
	c.advance(3 * time.Second)
	log.set(4*time.Second, false)
	w.goAway(false)
	w.revoke(t, "ses_1", c.at)
	if _, err := w.ask(t, r); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("back, and revoked: %v", err)
	}
}

// What runs is cut when the grace is over, within seconds.
func TestTheEndOfTheGraceCutsWhatRuns(t *testing.T) {
	w, log := onCluster(t, newClock())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.access.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	g, err := w.ask(t, get("/", ref, w.signIn("ses_1", newClock().at)))
	if err != nil || g.Decision.Effect != policy.Allow {
		t.Fatal(g.Decision, err)
	}
	defer g.Lease.Release()
	log.set(grace+time.Second, true)
	select {
	case <-g.Lease.Context().Done():
		if cause := context.Cause(g.Lease.Context()); !errors.Is(cause, access.ErrAway) || !errors.Is(cause, access.ErrRevoked) {
			t.Errorf("cause %v", cause)
		}
	case <-time.After(10 * time.Second):
		t.Error("still open")
	}
}

// Two edges whose clocks are 10 minutes apart: a session of one works at the other, in both directions, with the access token that the
// first one minted; it ends when it is revoked, and by each clock no later than 10 minutes after its end.
func TestClocksTenMinutesApart(t *testing.T) {
	const apart = 10 * time.Minute
	right, ahead := newClock(), newClock()
	ahead.advance(apart)
	w := newWorld(t, right.now)
	ring, err := token.NewKeyring(t.Context(), w, ahead.now)
	if err != nil {
		t.Fatal(err)
	}
	other := access.New(access.Config{
		Keys: ring, Sessions: w, Services: w, Users: w, Apps: w, Recorder: w, Follower: &followed{}, Now: ahead.now, Log: &silence{}, Grace: grace,
	})
	edges := map[string]*access.Access{"right": w.access, "ahead": other}
	value, cookie := w.signIn("ses_1", right.at), ""
	for i, where := range []string{"ahead", "right", "ahead", "right"} {
		r := get("/", ref, value)
		if cookie != "" {
			r = get("/", ref, value, at, cookie)
		}
		who, err := edges[where].Authenticate(r, maple, oscar())
		if err != nil {
			t.Fatalf("%d, at the edge that is %s: %v", i, where, err)
		}
		if g, err := edges[where].Authorize(t.Context(), question(who, w.apps[0])); err != nil {
			t.Errorf("%d, at the edge that is %s: %v", i, where, err)
		} else {
			g.Lease.Release()
		}
		for _, c := range who.SetCookies {
			cookie = c.Value
		}
	}
	both := func(when string, right, ahead fault.Code) {
		t.Helper()
		for where, want := range map[string]fault.Code{"right": right, "ahead": ahead} {
			if _, err := edges[where].Authenticate(get("/", ref, value), maple, oscar()); fault.CodeOf(err) != want {
				t.Errorf("%s, at the edge that is %s: %v", when, where, err)
			}
		}
	}
	end := w.sessions["ses_1"]
	end.Expires, end.IdleFor = right.at.Add(15*time.Minute), time.Hour
	w.sessions["ses_1"] = end
	right.advance(6 * time.Minute)
	ahead.advance(6 * time.Minute)
	both("past its end by the clock that is ahead", "", fault.Unauthentic)
	right.advance(10 * time.Minute)
	ahead.advance(10 * time.Minute)
	both("past its end", fault.Unauthentic, fault.Unauthentic)
}

// followed is a change log in which nothing happens.
type followed struct{}

func (*followed) Subscribe(string, []change.Kind, func(context.Context, []change.Change) error) {}

// What was used while the store was away is written down when it is back, without another request.
func TestUseIsToldWhenTheStoreIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := newWorld(t, time.Now), &silence{}
		w.access = access.New(access.Config{
			Keys: w.ring, Sessions: w, Services: w, Users: w, Apps: w, Recorder: w, Follower: w, Log: log, Grace: grace,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.access.Run(ctx) }()
		r := get("/", ref, w.signIn("ses_1", time.Now()))
		idle := get("/", ref, w.signIn("ses_2", time.Now()))
		for _, one := range []*http.Request{r, idle} {
			if _, err := w.access.Authenticate(one, maple, oscar()); err != nil {
				t.Fatal(err)
			}
		}
		w.goAway(true)
		log.set(time.Second, true)
		var last time.Time
		for range 20 {
			<-time.After(time.Minute)
			last = time.Now()
			if _, err := w.access.Authenticate(r, maple, oscar()); err != nil {
				t.Fatal(err)
			}
		}
		if w.touches != 0 {
			t.Errorf("told %d times while it was away", w.touches)
		}
		w.goAway(false)
		log.set(0, false)
		<-time.After(2 * sweepEvery)
		synctest.Wait()
		if got := w.sessions["ses_1"].LastSeen; !got.Equal(last) || w.touches != 1 {
			t.Errorf("last seen %s, want %s; told %d times", got, last, w.touches)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// sweepEvery is how often Access.Run looks.
const sweepEvery = time.Second
