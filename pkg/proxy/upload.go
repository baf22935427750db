package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

var errOver = errors.New("the request is over")

// keepBytes is how much of a body that went to another edge is kept until that has answered: if it has no link of the connector, not
// a byte reached one, and the request is sent another way with the same body.
const keepBytes = 64 << 10

// upload is the browser's body while the exchange reads it. There is no limit on its size or its time; that a browser sends
// at all is guard's to watch.
type upload struct {
	r        *http.Request
	control  *http.ResponseController
	declared map[string]bool
	count    atomic.Int64
	over     atomic.Bool
	whole    atomic.Bool // its end was read: nothing waits for the browser any more
	tries    []*try      // the carrying goroutine's

	reading sync.Mutex // held while the browser is waited for, so that one try reads at a time
	mu      sync.Mutex // guards all below, and the tries' at and over; never held while anything waits
	keep    bool       // what is read is kept
	kept    []byte     // the body's first bytes, or what of them the last try has not had
	spent   bool       // something was read that was not kept
}

// try is the body as one exchange reads it.
type try struct {
	u        *upload
	at       int // how much of kept it has had
	over     bool
	finished chan struct{} // closed when the exchange reads no more
}

// newUpload returns nil for a request without a body.
func newUpload(r *http.Request, control *http.ResponseController) *upload {
	if !hasBody(r) {
		return nil
	}
	u := &upload{r: r, control: control}
	if len(r.Trailer) > 0 {
		u.declared = make(map[string]bool, len(r.Trailer))
		for name := range r.Trailer {
			u.declared[name] = true
		}
	}
	return u
}

// try lends the body, from its start, to an exchange that must call done. With keep the exchange may be followed by another.
func (u *upload) try(keep bool) *try {
	t := &try{u: u, finished: make(chan struct{})}
	u.tries = append(u.tries, t)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keep = keep
	return t
}

// again takes the body back from the last try, if another one can have all of it. A nil upload, no body at all, always can be had.
func (u *upload) again() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spent {
		return false
	}
	for _, t := range u.tries {
		t.over = true
	}
	return true
}

// settled says that there will be no other try.
func (u *upload) settled() {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keep = false
}

var _ io.Reader = (*try)(nil)

// Read reads what was kept, and then on from the browser. A try that was taken back may be waiting for the browser when its
// successor begins: what it gets then is kept for that.
func (t *try) Read(p []byte) (int, error) {
	u := t.u
	u.reading.Lock()
	defer u.reading.Unlock()
	n, keep, err := t.before(p)
	if n > 0 || err != nil {
		return n, err
	}
	if keep > 0 {
		p = p[:min(keep, len(p))]
	}
	n, err = u.r.Body.Read(p)
	u.count.Add(int64(n))
	if err == io.EOF { //nolint:errorlint // a wrapped EOF is an early end
		u.whole.Store(true)
	}
	if keep > 0 {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.kept = append(u.kept, p[:n]...)
		t.at += n
	}
	return n, err
}

// before returns what there is without the browser. With n = 0 it must be read from there, and kept if keep, which is how much at
// most, is not 0.
func (t *try) before(p []byte) (n, keep int, err error) {
	u := t.u
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case t.over || u.over.Load():
		return 0, 0, errOver
	case t.at < len(u.kept):
		n = copy(p, u.kept[t.at:])
		t.at += n
		return n, 0, nil
	case u.keep && len(u.kept) < keepBytes:
		return 0, keepBytes - len(u.kept), nil
	}
	u.keep, u.kept, u.spent, t.at = false, nil, true, 0
	return 0, 0, nil
}

// trailer returns the fields that were announced before the body, which is all that the head could tell the connector.
func (u *upload) trailer() wire.Header {
	if len(u.declared) == 0 {
		return nil
	}
	announced := make(http.Header, len(u.declared))
	for name, values := range u.r.Trailer {
		if u.declared[name] {
			announced[name] = values
		}
	}
	return hop.Trailer(announced)
}

// done is called once by the exchange when it reads no more.
func (t *try) done() { close(t.finished) }

// nudge is how often a reader that is still blocked is woken: whoever watches the body's pace may have set a later deadline
// in between.
const nudge = 50 * time.Millisecond

// end returns when nobody reads the body any more: net/http waits for such a reader without a bound when the handler
// returns. A browser that is not done sending a nudge later has its body cut. One that is done is left alone: net/http would take
// the deadline for the end of the connection, and refuse the requests that come on it.
func (u *upload) end() {
	for _, t := range u.tries {
		u.await(t)
	}
	if u.r.ProtoMajor == 1 && !u.whole.Load() && u.r.Header.Get("Expect") == "" {
		u.discard()
	}
}

const (
	// discardBytes is how much of a body that nobody wants is read, so that its connection can go on to another request.
	discardBytes = 256 << 10
	discardWait  = time.Second
)

// discard takes in the rest of a body. net/http does so by itself, but when an answer may leave before its request has come
// (EnableFullDuplex) it does it too late: having found the end it watches the connection, trips over its own watch when it wants the
// next request, and drops the connection with a panic. What is not in by then is therefore not to be read at all.
func (u *upload) discard() {
	if !u.over.Load() && u.r.Context().Err() == nil {
		_ = u.control.Flush() // the answer does not wait for that
		_ = u.control.SetReadDeadline(time.Now().Add(discardWait))
		if _, err := io.CopyN(io.Discard, u.r.Body, discardBytes); err == io.EOF { //nolint:errorlint // a wrapped EOF is an early end
			_ = u.control.SetReadDeadline(time.Time{})
			return
		}
	}
	_ = u.control.SetReadDeadline(time.Unix(1, 0))
}

func (u *upload) await(t *try) {
	select {
	case <-t.finished:
		return
	default:
	}
	ticker := time.NewTicker(nudge)
	defer ticker.Stop()
	for {
		select {
		case <-t.finished:
			return
		case <-ticker.C:
		}
		if u.whole.Load() {
			continue
		}
		u.over.Store(true)
		_ = u.control.SetReadDeadline(time.Unix(1, 0))
	}
}
