package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

var errOver = errors.New("the request is over")

// upload is the browser's body while the exchange reads it. There is no limit on its size or its time; that a browser sends
// at all is guard's to watch.
type upload struct {
	r        *http.Request
	control  *http.ResponseController
	declared map[string]bool
	count    atomic.Int64
	over     atomic.Bool
	whole    atomic.Bool // its end was read: nothing waits for the browser any more
	finished chan struct{}
	lent     bool // the exchange has it, and will say when it is done
}

// newUpload returns nil for a request without a body.
func newUpload(r *http.Request, control *http.ResponseController) *upload {
	if !hasBody(r) {
		return nil
	}
	u := &upload{r: r, control: control, finished: make(chan struct{})}
	if len(r.Trailer) > 0 {
		u.declared = make(map[string]bool, len(r.Trailer))
		for name := range r.Trailer {
			u.declared[name] = true
		}
	}
	return u
}

func (u *upload) Read(p []byte) (int, error) {
	if u.over.Load() {
		return 0, errOver
	}
	n, err := u.r.Body.Read(p)
	u.count.Add(int64(n))
	if err == io.EOF {
		u.whole.Store(true)
	}
	return n, err
}

var _ io.Reader = (*upload)(nil)

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
func (u *upload) done() { close(u.finished) }

// nudge is how often a reader that is still blocked is woken: whoever watches the body's pace may have set a later deadline
// in between.
const nudge = 50 * time.Millisecond

// end returns when nobody reads the body any more: net/http waits for such a reader without a bound when the handler
// returns. A browser that is not done sending a nudge later has its body cut. One that is done is left alone: net/http would take
// the deadline for the end of the connection, and refuse the requests that come on it.
func (u *upload) end() {
	if !u.lent {
		return
	}
	select {
	case <-u.finished:
		return
	default:
	}
	ticker := time.NewTicker(nudge)
	defer ticker.Stop()
	for {
		select {
		case <-u.finished:
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
