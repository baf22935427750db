package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// truth is a RevokerStore that may be away.
type truth struct {
	mu      sync.Mutex
	away    bool
	known   map[ban]bool // whether it is revoked
	written chan change.Change
}

func (s *truth) Revoke(_ context.Context, c change.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return fault.New(fault.Unavailable, "away")
	}
	if _, ok := s.known[banOf(c)]; !ok {
		return fault.New(fault.NotFound, "none")
	}
	s.known[banOf(c)] = true
	s.written <- c
	return nil
}

func (s *truth) Revoked(_ context.Context, c change.Change) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return false, fault.New(fault.Unavailable, "away")
	}
	done, ok := s.known[banOf(c)]
	if !ok {
		return false, fault.New(fault.NotFound, "none")
	}
	return done, nil
}

func (s *truth) set(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

var (
	aSession = change.Change{Tenant: "maple", Kind: change.Session, ID: "ses_1"}
	aUser    = change.Change{Tenant: "maple", Kind: change.User, ID: "dr.lee@maple.example"}
)

func newTruth() *truth {
	return &truth{known: map[ban]bool{banOf(aSession): false, banOf(aUser): false}, written: make(chan change.Change, 16)}
}

// told is what a Revoker did.
type told struct {
	enforced, sent, kicked chan change.Change
}

func aRevoker(t *testing.T, path string, store RevokerStore) (*Revoker, *told) {
	t.Helper()
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	did := &told{make(chan change.Change, 16), make(chan change.Change, 16), make(chan change.Change, 16)}
	r, err := NewRevoker(RevokerConfig{
		Path: path, Sealer: sealer, Store: store, Enforce: func(_ context.Context, c change.Change) { did.enforced <- c },
		Kick: func() { did.kicked <- change.Change{} },
		Tell: func(changes []change.Change) int {
			for _, c := range changes {
				did.sent <- c
			}
			return 2
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, did
}

func running(t *testing.T, r *Revoker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// A revocation that the store cannot take counts at once, survives the process, and is written by the next one.
func TestRevocationWhileTheStoreIsAway(t *testing.T) {
	path, store := filepath.Join(t.TempDir(), "pending"), newTruth()
	store.away = true
	r, did := aRevoker(t, path, store)
	if r.Banned("maple", change.User, aUser.ID) {
		t.Error("revoked before anybody said so")
	}
	for range 2 {
		if peers, err := r.Revoke(t.Context(), aUser); err != nil || peers != 2 {
			t.Fatalf("%d, %v", peers, err)
		}
		if c := <-did.sent; c != aUser {
			t.Errorf("sent %+v", c)
		}
		if c := <-did.enforced; c != aUser {
			t.Errorf("enforced %+v", c)
		}
	}
	if !r.Banned("maple", change.User, aUser.ID) || r.Banned("oak", change.User, aUser.ID) || r.Banned("maple", change.Session, aUser.ID) {
		t.Error("it counts for somebody else, or not at all")
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, []byte("dr.lee")) {
		t.Errorf("what lies on the disk is readable, or is not there: %v", err)
	}
	r, _ = aRevoker(t, path, store)
	if !r.Banned("maple", change.User, aUser.ID) || len(r.Pending()) != 1 {
		t.Fatal("the next process does not know it")
	}
	stop := running(t, r)
	store.set(false)
	if c := <-store.written; c != aUser {
		t.Errorf("written %+v", c)
	}
	stop()
	if r, _ = aRevoker(t, path, store); len(r.Pending()) != 0 {
		t.Error("it is written for ever")
	}
}

// What the store did not take at another edge is kept here too, in case that one does not live to write it; but nobody who may have been let
// in again is locked out twice.
func TestRevocationsOfOtherEdgesAreHeldToo(t *testing.T) {
	path, store := filepath.Join(t.TempDir(), "pending"), newTruth()
	store.away = true
	r, did := aRevoker(t, path, store)
	r.Heard("west", []change.Change{aSession, aUser})
	<-did.kicked
	<-did.enforced
	<-did.enforced
	limit := time.After(patience)
	for len(r.Pending()) == 0 {
		select {
		case <-limit:
			t.Fatal("it is not held")
		case <-time.After(time.Millisecond):
		}
	}
	r, _ = aRevoker(t, path, store)
	if !r.Banned("maple", change.Session, aSession.ID) || r.Banned("maple", change.User, aUser.ID) || len(r.Pending()) != 1 {
		t.Errorf("the next process holds %v", r.Pending())
	}
	running(t, r)
	store.set(false)
	if c := <-store.written; c != aSession {
		t.Errorf("written %+v", c)
	}
}

// A store that says no, or says nothing, does not hold a revocation up; one that answers is all that is asked.
func TestRevocationsDoNotWaitForTheStore(t *testing.T) {
	gone := fault.New(fault.NotFound, "no such session")
	for name, c := range map[string]struct {
		write   func(ctx context.Context) error
		pending bool
		err     error
	}{
		"written":   {func(context.Context) error { return nil }, false, nil},
		"unknown":   {func(context.Context) error { return gone }, false, gone},
		"away":      {func(context.Context) error { return fault.New(fault.Unavailable, "away") }, true, nil},
		"no answer": {func(context.Context) error { <-time.After(time.Minute); return nil }, true, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, did := aRevoker(t, filepath.Join(t.TempDir(), "pending"), newTruth())
			began := time.Now()
			pending, peers, err := r.Ensure(t.Context(), aSession, c.write)
			if !errors.Is(err, c.err) || pending != c.pending || pending != (len(did.sent) == 1) || pending != (peers == 2) || pending != (len(r.Pending()) == 1) {
				t.Errorf("%s: %t, %d, %v", name, pending, peers, err)
			}
			if took := time.Since(began); took > storeAnswers {
				t.Errorf("%s: it took %s", name, took)
			}
			<-time.After(time.Minute)
		})
	}
}

// A ban ends when the store says the same, and not with any change of the thing that comes along.
func TestBanEndsWithTheTruth(t *testing.T) {
	store := newTruth()
	r, did := aRevoker(t, filepath.Join(t.TempDir(), "pending"), store)
	r.Heard("west", []change.Change{aUser})
	<-did.kicked
	if c := <-did.enforced; c != aUser || !r.Banned("maple", change.User, aUser.ID) {
		t.Errorf("enforced %+v", c)
	}
	earlier := change.Change{Tenant: "maple", Kind: change.User, ID: "usr_1", Version: 7}
	if err := r.Follow(t.Context(), []change.Change{earlier}); err != nil || !r.Banned("maple", change.User, aUser.ID) {
		t.Errorf("an earlier change of the user lifts the ban: %v", err)
	}
	store.set(true)
	if err := r.Follow(t.Context(), []change.Change{earlier}); err == nil || !r.Banned("maple", change.User, aUser.ID) {
		t.Errorf("lifted without the store: %v", err)
	}
	store.set(false)
	if err := errors.Join(store.Revoke(t.Context(), aUser), r.Follow(t.Context(), []change.Change{earlier})); err != nil {
		t.Fatal(err)
	}
	if r.Banned("maple", change.User, aUser.ID) {
		t.Error("the ban outlives the truth: the user can never be let in again")
	}
}

// What another edge has written down is acted upon before the log is read: a session is gone, of others it is looked up.
func TestWhatAnotherEdgeWrote(t *testing.T) {
	r, did := aRevoker(t, filepath.Join(t.TempDir(), "pending"), newTruth())
	session, user := aSession, aUser
	session.Version, user.Version = 8, 9
	app := change.Change{Tenant: "maple", Kind: change.App, ID: "app_1", Version: 10}
	r.Heard("west", []change.Change{session, user, app})
	<-did.kicked
	if a, b := <-did.enforced, <-did.enforced; a != session || b != user {
		t.Errorf("enforced %+v and %+v", a, b)
	}
	if !r.Banned("maple", change.Session, session.ID) || r.Banned("maple", change.User, user.ID) {
		t.Error("a changed user is no revoked one; a changed session is")
	}
	if len(r.Pending()) != 0 {
		t.Error("another edge's revocation is taken for this one's")
	}
}

func TestWhatCannotBeRevoked(t *testing.T) {
	dir := t.TempDir()
	r, _ := aRevoker(t, filepath.Join(dir, "pending"), newTruth())
	for _, c := range []change.Change{{Tenant: "maple", Kind: change.App, ID: "app_1"}, {Kind: change.User, ID: "usr_1"}, {Tenant: "maple", Kind: change.User}} {
		if _, err := r.Revoke(t.Context(), c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if r, _ := aRevoker(t, filepath.Join(dir, "gone", "pending"), newTruth()); r != nil {
		if _, err := r.Revoke(t.Context(), aUser); !fault.Is(err, fault.Unavailable) || r.Banned("maple", change.User, aUser.ID) {
			t.Errorf("neither store nor disk: %v", err)
		}
	}
	damaged := filepath.Join(dir, "damaged")
	if err := os.WriteFile(damaged, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	sealer, _ := secret.NewSealer(make([]byte, 32))
	if _, err := NewRevoker(RevokerConfig{Path: damaged, Sealer: sealer}); err == nil {
		t.Error("a damaged file is taken for none")
	}
}

// Over real links: asked at one edge with the store away, it is in force at the others within five seconds, also at one that is linked
// only later.
func TestRevocationReachesTheOtherEdgesWithoutTheStore(t *testing.T) {
	authority, store := &memoryAuthority{}, newTruth()
	store.away = true
	r, _ := aRevoker(t, filepath.Join(t.TempDir(), "pending"), store)
	east, west := startEdgeNode(t, "east", authority, r.Pending), startEdgeNode(t, "west", authority)
	r.cfg.Tell = east.peers.Tell
	introduce(east, west)
	linked(t, west, east)
	began := time.Now()
	if peers, err := r.Revoke(t.Context(), aSession); err != nil || peers != 1 {
		t.Fatalf("%d, %v", peers, err)
	}
	hears(t, west, aSession)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	north := startEdgeNode(t, "north", authority)
	introduce(east, west, north)
	hears(t, north, aSession)
}

func hears(t *testing.T, n *edgeNode, want change.Change) {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case got := <-n.heard:
			if slices.Contains(got, want) {
				return
			}
		case <-limit:
			t.Fatalf("%s never heard of it", n.members.Self())
		}
	}
}

// A clinic whose people all sign out while the store is away leaves other clinics their room.
func TestRevocationsOfOneClinicLeaveRoomForOthers(t *testing.T) {
	store := newTruth()
	store.set(true)
	r, _ := aRevoker(t, filepath.Join(t.TempDir(), "pending"), store)
	var many []change.Change
	for i := range maxPendingOfOne {
		many = append(many, change.Change{Tenant: "maple", Kind: change.Session, ID: fmt.Sprint("ses_", i)})
	}
	r.keep(many)
	if _, err := r.Revoke(t.Context(), change.Change{Tenant: "maple", Kind: change.Session, ID: "one more"}); !fault.Is(err, fault.Exhausted) {
		t.Errorf("one more of that clinic: %v", err)
	}
	if _, err := r.Revoke(t.Context(), change.Change{Tenant: "birch", Kind: change.Session, ID: "ses_1"}); err != nil {
		t.Errorf("another clinic's: %v", err)
	}
}
