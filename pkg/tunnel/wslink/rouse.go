package wslink

import (
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// firstStream is the id of the stream that the side that dialled opens first, beside the control stream of the session. A link is
// silent there most of its life, so that this one stream can rouse who reads it; to ask for all would cost each exchange something.
const firstStream = controlStream + 2

var _ tunnel.Rousing = (*stream)(nil)

// rouser counts what has begun to come on a stream, before yamux has it, and was not read.
type rouser struct {
	mu    sync.Mutex // guards all below
	due   int64
	rouse func() // nil while nobody waits
}

// add counts n bytes more, endless with the stream's end.
func (r *rouser) add(n int64) {
	r.mu.Lock()
	r.due += n
	rouse := r.rouse
	r.rouse = nil
	r.mu.Unlock()
	if rouse != nil {
		rouse()
	}
}

func (r *rouser) read(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due -= int64(n)
}

// Rouse implements tunnel.Rousing.
func (s *stream) Rouse(f func()) bool {
	if s.id != firstStream {
		return false
	}
	r := &s.link.first
	r.mu.Lock()
	now := r.due > 0
	if !now {
		r.rouse = f
	}
	r.mu.Unlock()
	if now {
		f()
	}
	return true
}
