package guard

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/session"
)

// sourceOf is the network that stands for a client: an IPv4 address or an IPv6 /64.
func sourceOf(remote string) string { return session.SourceOf(remote) }

// sources keeps an account for each network that strangers come from: a token bucket and what is at work. Their number is
// bounded; when it is reached, an account that is at rest makes room, and if none is found quickly the newcomer shares one
// account with all others.
type sources struct {
	cfg LimitConfig
	now func() time.Time

	mu       sync.Mutex // guards accounts and the fields in them, but for inFlight
	accounts map[string]*account
	shared   *account
}

type account struct {
	tokens   float64
	filled   time.Time
	inFlight atomic.Int64
}

func newSources(cfg LimitConfig, now func() time.Time) *sources {
	s := &sources{cfg: cfg, now: now, accounts: map[string]*account{}}
	s.shared = s.fresh()
	return s
}

func (s *sources) fresh() *account {
	return &account{tokens: float64(s.cfg.StrangerBurst), filled: s.now()}
}

func (s *sources) take(source string) (*atomic.Int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account(source)
	s.fill(a)
	if a.tokens < 1 || a.inFlight.Load() >= int64(s.cfg.StrangerInFlight) {
		return nil, false
	}
	a.tokens--
	a.inFlight.Add(1)
	return &a.inFlight, true
}

func (s *sources) account(source string) *account {
	if source == "" {
		return s.shared
	}
	if a, ok := s.accounts[source]; ok {
		return a
	}
	if len(s.accounts) >= s.cfg.Sources && !s.makeRoom() {
		return s.shared
	}
	a := s.fresh()
	s.accounts[source] = a
	return a
}

// makeRoom looks at a few accounts (Go's map order is random) for one that is as good as new.
func (s *sources) makeRoom() bool {
	looked := 0
	for source, a := range s.accounts {
		s.fill(a)
		if a.inFlight.Load() == 0 && a.tokens >= float64(s.cfg.StrangerBurst) {
			delete(s.accounts, source)
			return true
		}
		if looked++; looked == 16 {
			break
		}
	}
	return false
}

func (s *sources) fill(a *account) {
	now := s.now()
	if gap := now.Sub(a.filled); gap > 0 {
		a.tokens = min(float64(s.cfg.StrangerBurst), a.tokens+gap.Seconds()*float64(s.cfg.StrangerRate))
		a.filled = now
	}
}
