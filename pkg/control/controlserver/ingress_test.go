package controlserver_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// ruleShelf is a tenant.IngressStore in memory, of the site maple/main.
type ruleShelf struct {
	tenant.IngressStore
	mu     sync.Mutex
	now    tenant.Ingress
	broken error
}

func (s *ruleShelf) Ingress(_ context.Context, t id.Tenant, site id.Site, _ uint64) (tenant.Ingress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return tenant.Ingress{}, s.broken
	}
	if t != "maple" || site != "main" || s.now.Version == 0 {
		return tenant.Ingress{}, fault.New(fault.NotFound, "none")
	}
	return s.now, nil
}

func (s *ruleShelf) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = tenant.Ingress{Tenant: "maple", Site: "main", Version: s.now.Version + 1, YAML: []byte(text)}
}

func (s *ruleShelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

// taker is a connector process's rules: it takes what does not begin with "bad".
type taker struct {
	mu      sync.Mutex
	got     []string
	version uint64
	text    string
	own     bool
	stuck   chan struct{} // where set, answers wait for it
}

func (k *taker) Running() (uint64, []byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.version == 0 {
		return 0, nil, k.own
	}
	sum := sha256.Sum256([]byte(k.text))
	return k.version, sum[:], k.own
}

func (k *taker) Configure(version uint64, text []byte) error {
	k.mu.Lock()
	k.got = append(k.got, string(text))
	stuck := k.stuck
	k.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.own {
		return controlclient.ErrOwnFile
	}
	if strings.HasPrefix(string(text), "bad") {
		return errors.New("line 1: " + strings.Repeat("x", 2000))
	}
	k.version, k.text = version, string(text)
	return nil
}

func (k *taker) took(t *testing.T, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if diff := cmp.Diff(want, k.got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// link opens a link of the process and serves it until the test or close ends it.
func (w *world) link(t *testing.T, k *taker, instance string) (closeLink func()) {
	t.Helper()
	dialed, accepted := memPair()
	served := w.serve(t.Context(), accepted)
	cfg := w.client()
	cfg.Instance = strings.Repeat(instance, 32)
	if k != nil {
		cfg.Rules = k
	}
	link, err := controlclient.Open(t.Context(), dialed, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- link.Serve(context.Background(), controlclient.Handlers{}) }()
	go new(acceptor).serve(t, link, link.Beat)
	synctest.Wait()
	return sync.OnceFunc(func() {
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		<-served
		<-ended
	})
}

func (w *world) tell(t *testing.T) {
	t.Helper()
	if err := w.server.Follow(t.Context(), []change.Change{
		{Tenant: "maple", Kind: change.Ingress, ID: "main"}, {Tenant: "maple", Kind: change.Ingress, ID: "annex"}, {Tenant: "cedar", Kind: change.Ingress, ID: "main"},
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) known() controlserver.Ingress { return w.server.Ingress()[connectorID] }

func TestRulesReachEachProcessOnceAndItsAnswerIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, k := newWorld(t), &taker{}
		one := w.link(t, k, "a")
		defer one()
		k.took(t, "nothing is kept yet")
		w.tell(t)
		k.took(t, "nothing is kept yet, for all that is said")

		w.rules.set("good 1")
		w.tell(t)
		synctest.Wait() // a link that opens before the answer says what ran until then; its next heartbeat corrects it
		two := w.link(t, k, "a")
		defer two()
		w.tell(t)
		k.took(t, "a new version, two links", "good 1")
		if s := w.known(); s.Running != 1 || s.Answered != 1 || s.Refused != "" || s.OwnFile {
			t.Errorf("accepted: %+v", s)
		}

		w.rules.set("bad 2")
		w.tell(t)
		two()
		two = w.link(t, k, "a")
		defer two()
		k.took(t, "refused, and not sent again to who refused", "good 1", "bad 2")
		if s := w.known(); s.Running != 1 || s.Answered != 2 || len(s.Refused) != 1000 || !strings.HasPrefix(s.Refused, "line 1") {
			t.Errorf("refused: %+v", s)
		}

		// Another process runs the newest already, another one has a version of that number with another text.
		w.rules.set("good 3")
		w.tell(t)
		one()
		two()
		same := &taker{version: 3, text: "good 3"}
		w.link(t, same, "b")()
		same.took(t, "it runs that")
		restored := &taker{version: 3, text: "from before the restore"}
		w.link(t, restored, "c")()
		restored.took(t, "the number says nothing", "good 3")
	})
}

func TestConnectorsWithTheirOwnFileAreShownAsSuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.rules.set("good 1")
		defer w.link(t, nil, "a")()
		synctest.Wait()
		if s := w.known(); s.Running != 0 || s.Answered != 1 || !s.OwnFile || !strings.Contains(s.Refused, "own file") {
			t.Errorf("%+v", s)
		}
		// A file that comes later is told of by the heartbeat.
		k := &taker{}
		defer w.link(t, k, "b")()
		synctest.Wait()
		k.mu.Lock()
		k.own, k.version = true, 0
		k.mu.Unlock()
		<-time.After(3 * controlserver.DefaultHeartbeat)
		if s := w.known(); s.Running != 0 || !s.OwnFile {
			t.Errorf("after a file came: %+v", s)
		}
		// When it goes the rules are offered again, because they were not taken beside it.
		k.mu.Lock()
		k.own = false
		k.mu.Unlock()
		<-time.After(3 * controlserver.DefaultHeartbeat)
		if s := w.known(); s.Running != 1 || s.OwnFile || s.Refused != "" {
			t.Errorf("after the file went: %+v", s)
		}
	})
}

// Rules that were sent over a link that died unanswered are brought by another; a look-up that failed is made again.
func TestRulesAreNotLostWithALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, k := newWorld(t), &taker{}
		one := w.link(t, k, "a")
		defer one()
		k.stuck = make(chan struct{})
		two := w.link(t, k, "a")
		w.rules.set("good 1")
		w.tell(t)
		k.took(t, "sent over the newest link", "good 1")
		if s := w.known(); s.Sent != 1 || s.Answered != 0 {
			t.Errorf("not answered yet: %+v", s)
		}
		stuck := k.stuck
		k.mu.Lock()
		k.stuck = nil
		k.mu.Unlock()
		// The answer to the first is written to a link that is gone.
		ended := make(chan struct{})
		go func() { defer close(ended); two() }()
		synctest.Wait()
		close(stuck)
		<-ended
		<-time.After(3 * controlserver.DefaultHeartbeat)
		k.took(t, "sent again", "good 1", "good 1")
		if s := w.known(); s.Running != 1 || s.Answered != 1 {
			t.Errorf("after that: %+v", s)
		}

		w.rules.set("good 2")
		w.rules.fail(errors.New("the store is away"))
		late := &taker{}
		one()
		defer w.link(t, late, "b")()
		late.took(t, "nothing can be looked up")
		w.rules.fail(nil)
		<-time.After(3 * controlserver.DefaultHeartbeat)
		late.took(t, "looked up again", "good 2")
	})
}
