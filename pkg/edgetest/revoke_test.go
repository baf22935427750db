package edgetest_test

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// within is how soon what is revoked must be cut.
const within = 5 * time.Second

// open is what somebody has open: a slow download and a WebSocket.
type open struct {
	download, socket chan error
}

// openBoth starts a download that nobody finishes and a WebSocket that echoes, and returns once both carry bytes.
func (d doctor) openBoth() open {
	d.t.Helper()
	o := open{download: make(chan error, 1)}
	resp, err := d.Navigate(context.Background(), d.w.URL("/oscar/servlet/BackupDownload?bytes=1000000000000"))
	if err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("download: %v, %v", resp, err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		o.download <- err
	}()
	o.socket = d.openSocket()
	return o
}

// openSocket starts a WebSocket that echoes; what ends it comes through the channel.
func (d doctor) openSocket() chan error {
	d.t.Helper()
	one := edgetest.NewVisitor(edgetest.VisitorConfig{Edge: d.w.EdgeAddr(), Roots: d.w.Roots, HTTP1: true})
	d.t.Cleanup(one.Close)
	one.Client.Jar = d.Client.Jar
	ws, err := dialEcho(d.ctx(), one, d.w)
	if err != nil {
		d.t.Fatalf("websocket: %v", err)
	}
	if err := ws.Write(d.ctx(), websocket.MessageText, []byte("hello")); err != nil {
		d.t.Fatal(err)
	}
	if _, text, err := ws.Read(d.ctx()); err != nil || !strings.Contains(string(text), "hello") {
		d.t.Fatalf("websocket echo: %q, %v", text, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := ws.Read(context.Background())
		ended <- err
	}()
	return ended
}

func (o open) mustEnd(t *testing.T) {
	t.Helper()
	limit := time.After(within)
	for range 2 {
		select {
		case err := <-o.download:
			if err == nil {
				t.Error("the cut download looked whole")
			}
			o.download = nil
		case err := <-o.socket:
			if err == nil {
				t.Error("the WebSocket delivered a message that nobody sent")
			}
			o.socket = nil
		case <-limit:
			t.Fatalf("still open after %s: download %t, websocket %t", within, o.download != nil, o.socket != nil)
		}
	}
}

// Whatever takes a permission away ends what was open under it.
func TestWhatIsRevokedIsCut(t *testing.T) {
	w, _ := oscarWorld(t, false)
	sessionID := regexp.MustCompile(`ses_[0-9a-f-]+`)
	appID := regexp.MustCompile(`app_[0-9a-f-]+`)
	for _, c := range []struct {
		name         string
		revoke, undo func(d doctor)
	}{
		{"the session is revoked", func(doctor) { w.Admin("session", "revoke", sessionID.FindString(w.Admin("session", "list"))) }, func(doctor) {}},
		{"the user is disabled", func(d doctor) { w.Admin("user", "disable", d.Email) }, func(d doctor) { w.Admin("user", "enable", d.Email) }},
		{
			"the app no longer allows the user", func(doctor) { w.Admin("app", "access", appID.FindString(w.Admin("app", "list"))) },
			func(doctor) {
				w.Admin("app", "access", appID.FindString(w.Admin("app", "list")), "--allow", strings.Join(edgetest.Doctors(), ","))
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := atWork(t, w)
			o := d.openBoth()
			c.revoke(d)
			o.mustEnd(t)
			resp, err := d.Fetch(d.ctx(), http.MethodGet, w.URL("/oscar/index.jsp"), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
				t.Errorf("a new request: %s", resp.Status)
			}
			c.undo(d)
		})
	}
	t.Run("the person signs out", func(t *testing.T) {
		d := atWork(t, w)
		o := d.openBoth()
		d.signOut()
		o.mustEnd(t)
	})
	t.Run("the connector is revoked", func(t *testing.T) {
		d := atWork(t, w)
		o := d.openBoth()
		w.Admin("connector", "revoke", regexp.MustCompile(`con_[0-9a-f-]+`).FindString(w.Admin("connector", "list")))
		o.mustEnd(t)
		select {
		case <-w.Connector.Ended():
		case <-time.After(edgetest.Patience):
			t.Error("a revoked connector goes on dialling")
		}
	})
}
