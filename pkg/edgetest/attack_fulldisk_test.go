package edgetest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store/disktest"
)

// With a full disk nothing can be recorded, so nobody is let in: people are told so in words, the application hears nothing,
// and all goes on by itself when there is room again. Attack case H4.
func TestTheEdgesDiskIsFull(t *testing.T) {
	var dir string
	k := newKnocker(t, Options{EdgeDir: func(path string) {
		dir = path
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		disktest.Mount(t, path, "size=3m,mode=0700")
	}})
	v := k.w.SignIn()
	reference := session.CookieReference + "=" + v.Cookie(k.w.URL("/"), session.CookieReference)
	ask := func() answer {
		return k.must("GET /oscar/wire/status?code=204 HTTP/1.1\r\nHost: " + k.host() + "\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nCookie: " + reference + "\r\n\r\n")
	}
	if a := ask(); a.status != http.StatusNoContent {
		t.Fatalf("with room: %d", a.status)
	}

	ballast := filepath.Join(dir, "ballast")
	disktest.Fill(t, ballast)
	var refused answer
	Eventually(t, "the store to be full", func() error { // what it holds already leaves room for some
		if refused = ask(); refused.status == http.StatusNoContent {
			return errors.New("still recorded")
		}
		return nil
	})
	if refused.status != http.StatusServiceUnavailable || !strings.Contains(refused.body, "Access must be recorded before it is given") {
		t.Errorf("a person is told %d: %.1500s", refused.status, refused.body)
	}
	k.untouched(func() {
		for range 10 {
			if a := ask(); a.status != http.StatusServiceUnavailable {
				t.Errorf("a person: %d", a.status)
			}
			if a := k.must(k.get("/oscar/echo", "")); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "E-RECORD") {
				t.Errorf("a service: %d %s", a.status, a.body)
			}
		}
	})
	// Signing in needs room too, and says that it cannot rather than that a code is on its way.
	stranger := k.w.Visitor()
	resp, err := stranger.Navigate(t.Context(), k.w.URL("/oscar/index.jsp"))
	if err != nil {
		t.Fatal(err)
	}
	form, err := stranger.form(resp)
	if err != nil {
		t.Fatal(err)
	}
	form.Set("email", Doctors()[3])
	resp, err = stranger.Submit(t.Context(), resp.Request.URL.ResolveReference(&url.URL{Path: "/email"}).String(), form)
	if err != nil {
		t.Fatal(err)
	}
	if page, err := ReadAll(resp); err != nil || resp.StatusCode < 500 || !strings.Contains(page, "</html>") {
		t.Errorf("signing in: %s, %v: %.1500s", resp.Status, err, page)
	} else {
		t.Logf("signing in says: %s", resp.Status)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "recording to go on", func() error {
		if a := ask(); a.status != http.StatusNoContent {
			return fmt.Errorf("%d: %.300s", a.status, a.body)
		}
		return nil
	})
	if e := k.echo(k.must(k.get("/oscar/echo", ""))); e.RequestURI != "/oscar/echo" {
		t.Errorf("a service: %s", e.RequestURI)
	}
	k.w.SignIn()
	k.w.Edge.Kill()
	k.w.Edge.Start()
	k.w.Wait("the edge to answer again", func() error { _, err := k.w.Try("tenant", "list"); return err })
	k.w.WaitForLink()
	if a := ask(); a.status != http.StatusNoContent {
		t.Errorf("after a restart: %d", a.status)
	}
}
