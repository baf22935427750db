package quiclink

import (
	"io"
	"runtime"
	"sync"
)

// firstBytes is how many bytes quic-go takes as the first ones of a stream without waiting for anything: it copies as many as fit into
// its largest packet, before it looks at any window.
const firstBytes = 1452

// together has the first bytes of streams that open at about the same time leave at the same time. Go runs a goroutine that is woken as
// soon as the one that woke it waits, and quic-go's is woken by the first byte that there is to send: each request had a packet, an
// acknowledgement and a system call at either end of its own. So the first who comes lets those run who are about to write, too, and
// writes for all. Where nobody is, it goes on at once.
type together struct {
	mu    sync.Mutex // guards round and what is in it, until the round is taken
	round *round     // that one is gathering; nil if none is
}

// round is what leaves in one go.
type round struct {
	others []*opening
	done   chan struct{}
}

// opening is one stream's first bytes, and what became of them once its round is done.
type opening struct {
	to    io.Writer
	bytes []byte
	n     int
	err   error
}

// write writes p, of firstBytes at most, as the first bytes of a stream. It must be sure that to waits for nobody.
func (t *together) write(to io.Writer, p []byte) (int, error) {
	t.mu.Lock()
	if r := t.round; r != nil {
		o := &opening{to: to, bytes: p}
		r.others = append(r.others, o)
		t.mu.Unlock()
		<-r.done
		return o.n, o.err
	}
	r := &round{done: make(chan struct{})}
	t.round = r
	t.mu.Unlock()
	runtime.Gosched()
	t.mu.Lock()
	t.round = nil
	t.mu.Unlock()
	defer close(r.done)
	n, err := to.Write(p)
	for _, o := range r.others {
		o.n, o.err = o.to.Write(o.bytes)
	}
	return n, err
}
