package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// deadlines counts read deadlines.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set++
	return nil
}

// net/http takes a deadline after a body's end for the end of the connection: the next request on it would be refused.
func TestBodyThatWasReadWholeIsNotCut(t *testing.T) {
	for name, whole := range map[string]bool{"whole": true, "in its middle": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deadlines{ResponseWriter: httptest.NewRecorder()}
				body := io.Reader(strings.NewReader("a note"))
				if !whole {
					body = io.MultiReader(body, strings.NewReader(" and more"))
				}
				u := newUpload(httptest.NewRequest(http.MethodPost, "/", io.NopCloser(body)), http.NewResponseController(d))
				reads := u.try(false)
				time.AfterFunc(time.Second, reads.done) // the exchange is slow to say that it reads no more
				for range 2 {
					_, _ = reads.Read(make([]byte, 64))
				}
				u.end()
				if cut := d.set > 0; cut == whole {
					t.Errorf("%d deadlines", d.set)
				}
			})
		})
	}
}
