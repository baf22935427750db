package web

import (
	"net/http"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Door is what the sign-in pages say about where the person is going.
type Door struct {
	Clinic    string
	App       string // "" when nobody asked for an app
	Host      string // the app's host, "" likewise
	RequestID id.Request
}

func (d Door) frame(title string) frame {
	return frame{Title: title, Clinic: d.Clinic, App: d.App, Host: d.Host, RequestID: d.RequestID}
}

// SignIn is the page that asks for the address.
type SignIn struct {
	Door
	To    string // sealed destination, carried along
	Email string // what was typed before
	// Problem is the key of a message above the form: "", "signin.bad-address", "signin.too-many", "signin.expired" or
	// "signin.elsewhere".
	Problem string
	// FormAction lists the origins that a redirect after the form may lead to: browsers hold form-action against those too
	// (CSP Level 3 §6.3.1).
	FormAction []string
}

// SignIn writes the page.
func (p *Pages) SignIn(w http.ResponseWriter, r *http.Request, status int, s SignIn) {
	f := s.frame("signin.title")
	f.Quiet = true
	p.render(w, r, status, "signin.html", onSignInHost(s.FormAction...), struct {
		frame
		SignIn
	}{f, s})
}

// Code is the page that asks for the digits.
type Code struct {
	Door
	To    string
	Email string
	// Problem is "", "code.wrong", "code.too-many" or "code.form".
	Problem string
	// Sent is true right after another code was asked for.
	Sent       bool
	Minutes    int
	FormAction []string
}

// codePage is Code under a name that hides no field of frame.
type codePage Code

// Code writes the page.
func (p *Pages) Code(w http.ResponseWriter, r *http.Request, status int, c Code) {
	f := c.frame("code.title")
	f.Quiet = true
	p.render(w, r, status, "code.html", onSignInHost(c.FormAction...), struct {
		frame
		codePage
	}{f, codePage(c)})
}

// Link is a place to go to.
type Link struct{ Text, URL string }

// SignedIn is what the sign-in host shows to somebody who is signed in and asked for no app.
type SignedIn struct {
	Door
	Email string
	Apps  []Link
}

// SignedIn writes the page.
func (p *Pages) SignedIn(w http.ResponseWriter, r *http.Request, s SignedIn) {
	f := s.frame("signedin.title")
	f.Quiet = true
	p.render(w, r, http.StatusOK, "signedin.html", onSignInHost(), struct {
		frame
		SignedIn
	}{f, s})
}

// Notice is a page with one message and one way on. Its words are the keys Name+".title", ".text" and, for the way on,
// ".action".
type Notice struct {
	Door
	Status int
	// Name is one of the Notice constants.
	Name string
	// URL is where the way on leads; empty for none. Post makes it a button that posts there. NewWindow opens it beside
	// this page, where what people typed still is.
	URL       string
	Post      bool
	NewWindow bool
	OnAppHost bool
	// Refresh goes on by itself to a path of this origin, which must be canonical ASCII. The browser then counts as moving
	// within this origin, which it would not after a redirect from the sign-in host.
	Refresh string
}

// The notices.
const (
	NoticeSignedOut   = "signedout"   // after a sign-out
	NoticeSignOut     = "signout"     // asks before a sign-out that another site may have started
	NoticeExpired     = "expired"     // a form or code that is too old, or belongs to another browser
	NoticeElsewhere   = "elsewhere"   // a sign-in that this browser did not begin
	NoticeNotSaved    = "notsaved"    // a form was sent without a session
	NoticeFrame       = "frame"       // part of a page was asked for without a session
	NoticeBack        = "back"        // signed in again, beside a page with unsaved work
	NoticeOpening     = "opening"     // going on into the app
	NoticeContinue    = "continue"    // another site opened a page of the app
	NoticeTooBig      = "toobig"      // cookies have grown over what the origin takes
	NoticeUnavailable = "unavailable" // sign-in itself fails for now
	NoticeAway        = "away"        // the store is away: nobody can sign in, and whoever is signed in goes on
)

// Notice writes the page.
func (p *Pages) Notice(w http.ResponseWriter, r *http.Request, n Notice) {
	pol := onSignInHost()
	if n.OnAppHost {
		pol = onAppHost()
	}
	f := n.frame(n.Name + ".title")
	if n.Refresh != "" {
		w.Header().Set("Refresh", "0; url="+n.Refresh)
	}
	p.render(w, r, n.Status, "notice.html", pol, struct {
		frame
		Notice
	}{f, n})
}

// Continue asks before a page opens that another site pointed at: url is a path of this host.
func (p *Pages) Continue(w http.ResponseWriter, r *http.Request, d Door, url string) {
	p.Notice(w, r, Notice{Door: d, Status: http.StatusForbidden, Name: NoticeContinue, URL: url, OnAppHost: true})
}

// TooBig offers to clear cookies when a request's headers are over what the origin takes.
func (p *Pages) TooBig(w http.ResponseWriter, r *http.Request, d Door) {
	p.Notice(w, r, Notice{
		Door: d, Status: http.StatusRequestHeaderFieldsTooLarge, Name: NoticeTooBig, URL: Prefix + "clear", Post: true, OnAppHost: true,
	})
}
