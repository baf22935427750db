package connector

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// An edge that dies has taken with it what became of the requests that other edges had sent over it. The edge that a browser reached
// cannot know whether this connector has had such a request, and so may not send it to just anybody. But this process can tell: it
// remembers what came over another edge, and serves a request that is sent again (wire.RequestHead.Again) only if it was not among that.
// From then on the first copy is refused, should the edge live after all and send it late.
const (
	// hadFor is how long a request is remembered at least. It is sent again within 10 s or not at all (proxy), and a copy that some edge
	// has kept for longer is refused for its assertion.
	hadFor = markLife + 30*time.Second
	// maxHad bounds what came, twice over: 360 a second for the whole time. A connector that had more forgets, and serves nothing that
	// is sent again for hadFor.
	maxHad = 1 << 17
	// maxRepeated bounds what was sent again, twice over; without room nothing more of it is served.
	maxRepeated = 1 << 12
)

// once is safe for concurrent use.
type once struct {
	now  func() time.Time
	seed maphash.Seed

	mu       sync.Mutex // guards all below
	had      recent     // what came over another edge
	repeated recent     // what was sent again
	forgot   time.Time  // when had forgot something before its time
}

func newOnce(now func() time.Time) *once { return &once{now: now, seed: maphash.MakeSeed()} }

var (
	errHad      = errors.New("sent again, and it has come before")
	errLate     = errors.New("it has been sent again meanwhile")
	errForgot   = errors.New("sent again, and whether it has come before is not known any more")
	errRepeated = errors.New("sent again, as too many are")
)

// admit says that an exchange may be served: the same request never is a second time if it was sent again.
func (o *once) admit(head *wire.RequestHead) error {
	if !head.Again && (head.Hop == 0 || head.RequestID == "") {
		return nil // nobody sends it again
	}
	// Two requests with one hash, of which the edges choose neither, cost the second one its second try.
	id, now := maphash.String(o.seed, head.RequestID), o.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.had.turn(now)
	o.repeated.turn(now)
	switch {
	case !head.Again && o.repeated.has(id):
		return errLate
	case !head.Again:
		if len(o.had.young) >= maxHad {
			if len(o.had.old) > 0 {
				o.forgot = now
			}
			o.had.age(now)
		}
		o.had.add(id)
		return nil
	case o.had.has(id), o.repeated.has(id):
		return errHad
	case !o.forgot.IsZero() && now.Sub(o.forgot) < hadFor:
		return errForgot
	case len(o.repeated.young) >= maxRepeated:
		return errRepeated
	}
	o.repeated.add(id)
	return nil
}

// recent is a set of which each member stays for hadFor at least, and twice that at most while it is used.
type recent struct {
	young, old map[uint64]struct{}
	since      time.Time // of young
}

// turn forgets what is old enough.
func (r *recent) turn(now time.Time) {
	switch age := now.Sub(r.since); {
	case age >= 2*hadFor:
		r.young, r.old, r.since = nil, nil, now
	case age >= hadFor:
		r.age(now)
	}
}

// age forgets the older half.
func (r *recent) age(now time.Time) { r.young, r.old, r.since = nil, r.young, now }

func (r *recent) add(id uint64) {
	if r.young == nil {
		r.young = map[uint64]struct{}{}
	}
	r.young[id] = struct{}{}
}

func (r *recent) has(id uint64) bool {
	_, young := r.young[id]
	_, old := r.old[id]
	return young || old
}
