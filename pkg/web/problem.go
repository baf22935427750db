package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Side says where on the way from people to the clinic's application something is broken.
type Side int

// The sides, in the order of the way. SideNone draws no way: nothing is broken.
const (
	SideNone    Side = iota
	SideBrowser      // the person's own browser or network
	SideEdge         // Sallyport
	SideTunnel       // between Sallyport and the clinic
	SideClinic       // the clinic's own server
)

// Problem is something that went wrong with a request.
type Problem struct {
	// Code is one of the E-… codes; unknown ones look like E-INTERNAL.
	Code string
	// Status and Side may be left zero: the code has its own.
	Status int
	Side   Side

	RequestID id.Request
	Clinic    string // tenant.Tenant.Name
	App       string // tenant.App.Name
	// RetryAfter, where set, is told to the browser.
	RetryAfter time.Duration
	// SignInHost tells that the page is shown there, where nothing may frame it.
	SignInHost bool
}

type kind struct {
	status int
	side   Side
	words  string // key: words+".title", words+".text"
	again  bool   // "try again" makes sense
	fate   fate
}

// fate is what became of an entry that was on its way.
type fate int

const (
	fateSaid   fate = iota // the text says it, or there was none
	fateUnsent             // the clinic's server has not seen it
	fateOpen               // it may have
)

// key names the words for it; "" for none. A page that was only read may have been a link that saves.
func (f fate) key(reading bool) string {
	switch {
	case f == fateUnsent && !reading:
		return "entry.unsent"
	case f == fateOpen && !reading:
		return "entry.open"
	case f == fateOpen:
		return "entry.check"
	}
	return ""
}

// busyAfter is when a browser or program may ask a busy origin again, storeAfter when an edge whose store did not answer.
const (
	busyAfter  = 10 * time.Second
	storeAfter = 30 * time.Second
)

func kindOf(code string) kind {
	switch code {
	case "E-TUNNEL-DOWN":
		return kind{http.StatusServiceUnavailable, SideTunnel, "down", true, fateOpen}
	case "E-PROTOCOL":
		return kind{http.StatusBadGateway, SideTunnel, "lost", true, fateOpen}
	case "E-ORIGIN-REFUSED":
		return kind{http.StatusBadGateway, SideClinic, "refused", true, fateUnsent}
	case "E-ORIGIN-TIMEOUT":
		return kind{http.StatusGatewayTimeout, SideClinic, "slow", true, fateOpen}
	case "E-ORIGIN-BUSY":
		return kind{http.StatusServiceUnavailable, SideClinic, "busy", true, fateUnsent}
	case "E-ORIGIN-TLS":
		return kind{http.StatusBadGateway, SideClinic, "tls", false, fateUnsent}
	case "E-ORIGIN-PROTOCOL", "E-ORIGIN-ABORT":
		return kind{http.StatusBadGateway, SideClinic, "broken", true, fateOpen}
	case "E-NO-RULE":
		return kind{http.StatusBadGateway, SideNone, "norule", false, fateUnsent}
	case "E-CLIENT-ABORT":
		return kind{http.StatusBadRequest, SideBrowser, "aborted", true, fateOpen}
	case "E-DENIED":
		return kind{http.StatusForbidden, SideNone, "denied", false, fateSaid}
	case "E-REVOKED":
		return kind{http.StatusForbidden, SideNone, "revoked", true, fateOpen}
	case "E-CROSS-SITE":
		return kind{http.StatusForbidden, SideNone, "crosssite", false, fateSaid}
	case "E-NOT-FOUND":
		return kind{http.StatusNotFound, SideNone, "notfound", false, fateSaid}
	case "E-WRONG-HOST":
		return kind{http.StatusMisdirectedRequest, SideNone, "wronghost", false, fateSaid}
	case "E-BAD-REQUEST":
		return kind{http.StatusBadRequest, SideNone, "badrequest", false, fateSaid}
	case "E-METHOD":
		return kind{http.StatusMethodNotAllowed, SideNone, "badrequest", false, fateSaid}
	case "E-HEADERS":
		return kind{http.StatusRequestHeaderFieldsTooLarge, SideNone, "badrequest", false, fateSaid}
	case "E-WEBSOCKET":
		return kind{http.StatusForbidden, SideNone, "denied", false, fateSaid}
	case "E-TOO-LARGE":
		return kind{http.StatusRequestEntityTooLarge, SideNone, "toolarge", false, fateOpen}
	case "E-OVERLOAD":
		return kind{http.StatusServiceUnavailable, SideEdge, "overload", true, fateUnsent}
	case "E-RECORD":
		return kind{http.StatusServiceUnavailable, SideEdge, "record", true, fateUnsent}
	case "E-STORE":
		return kind{http.StatusServiceUnavailable, SideEdge, "store", true, fateUnsent}
	case "E-ASSERTION":
		return kind{http.StatusBadGateway, SideEdge, "internal", true, fateUnsent}
	default:
		return kind{http.StatusInternalServerError, SideEdge, "internal", true, fateOpen}
	}
}

// StatusOf is the HTTP status that a code is answered with.
func StatusOf(code string) int { return kindOf(code).status }

// step is one stop of the drawn way.
type step struct{ Name, State string } // keys

// trouble is the key of what the broken stop is said to be: who is only busy is not broken, a server that does not answer may be, and
// nobody is told that they do not work.
func (k kind) trouble() string {
	switch k.words {
	case "busy", "overload":
		return "way.busy"
	case "aborted":
		return "way.cut"
	case "refused", "slow":
		return "way.silent"
	}
	return "way.broken"
}

// way draws people → Sallyport → tunnel → clinic with the broken stop marked by trouble.
func way(broken Side, trouble string) []step {
	if broken == SideNone {
		return nil
	}
	out := make([]step, 0, SideClinic)
	for i, name := range []string{"way.you", "way.edge", "way.tunnel", "way.clinic"} {
		state := "way.ok"
		switch side := Side(i + 1); {
		case side == broken:
			state = trouble
		case side > broken:
			state = "way.unknown"
		}
		out = append(out, step{name, state})
	}
	return out
}

// Error writes what went wrong: a page for people, JSON for scripts.
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, pr Problem) {
	k := kindOf(pr.Code)
	if pr.Status == 0 {
		pr.Status = k.status
	}
	if pr.Side == SideNone {
		pr.Side = k.side
	}
	if pr.RetryAfter == 0 {
		switch pr.Code {
		case "E-ORIGIN-BUSY":
			pr.RetryAfter = busyAfter
		case "E-STORE":
			pr.RetryAfter = storeAfter
		}
	}
	if pr.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((pr.RetryAfter+time.Second-1)/time.Second)))
	}
	if !WantsPage(r) {
		p.writeJSON(w, r, pr.Status, answer{Error: pr.Code, Message: k.words + ".title", RequestID: pr.RequestID}, pr.App)
		return
	}
	pol := onAppHost()
	if pr.SignInHost {
		pol = onSignInHost()
	}
	reading := r.Method == http.MethodGet || r.Method == http.MethodHead
	p.render(w, r, pr.Status, "error.html", pol, struct {
		frame
		Words string
		Entry string // key of what became of an entry
		Way   []step
		Again bool
		// Typed tells that there was an entry: leaving this window would lose what Back may still show.
		Typed bool
	}{
		frame: frame{
			Title: k.words + ".title", AppName: p.appName(p.language(r), pr.App), Clinic: pr.Clinic, App: pr.App,
			RequestID: pr.RequestID, Code: pr.Code,
		},
		Words: k.words, Entry: k.fate.key(reading), Way: way(pr.Side, k.trouble()), Again: k.again && reading, Typed: !reading,
	})
}

// answer is what scripts get instead of a page.
type answer struct {
	Error     string     `json:"error"`
	Message   string     `json:"message"`
	SignIn    string     `json:"sign_in,omitempty"`
	RequestID id.Request `json:"request_id,omitempty"`
}

// challenge is the scheme that RFC 9110, section 15.5.2, asks for; browsers ignore this one and open no password window.
const challenge = "Sallyport"

// NotSignedIn answers a script that has no session: 401 with where a person can sign in again, a path of the same origin,
// and never a redirect that a script would follow to another one.
func (p *Pages) NotSignedIn(w http.ResponseWriter, r *http.Request, d Door) {
	w.Header().Set("WWW-Authenticate", challenge)
	p.writeJSON(w, r, http.StatusUnauthorized, answer{
		Error: "E-SIGN-IN", Message: "signin.ended", SignIn: Prefix + "sign-in", RequestID: d.RequestID,
	}, d.App)
}

// TokenRefused answers a service whose token is not good: 401, and no place to sign in.
func (p *Pages) TokenRefused(w http.ResponseWriter, r *http.Request, d Door) {
	w.Header().Set("WWW-Authenticate", challenge)
	p.writeJSON(w, r, http.StatusUnauthorized, answer{Error: "E-TOKEN", Message: "token.refused", RequestID: d.RequestID}, d.App)
}

// writeJSON puts words in for the key in a.Message.
func (p *Pages) writeJSON(w http.ResponseWriter, r *http.Request, status int, a answer, app string) {
	index := p.language(r)
	a.Message = p.text(index, a.Message, p.appName(index, app))
	body, err := json.Marshal(a)
	if err != nil {
		body = []byte(`{"error":"E-INTERNAL"}`)
	}
	WriteJSON(w, status, body)
}

// WriteJSON writes a JSON answer that nothing keeps.
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	secureHeaders(h, onAppHost())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (p *Pages) appName(index int, app string) string {
	if app == "" {
		return p.text(index, "app.name")
	}
	return app
}

// WantsPage tells a person's navigation from a script's request, an image's or a client program's. Sec-Fetch-Mode decides
// where there is one; Accept decides for older browsers.
func WantsPage(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	if r.Header.Get("X-Requested-With") != "" {
		return false
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}
