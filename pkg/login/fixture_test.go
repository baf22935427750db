package login_test

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/login"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// outbox keeps what would have been sent.
type outbox struct {
	mu   sync.Mutex
	sent []mail.Message
}

func (o *outbox) Enqueue(m mail.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, m)
	return nil
}

func (o *outbox) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sent)
}

// lastCode is the first line of the newest message.
func (o *outbox) lastCode(t *testing.T) string {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.sent) == 0 {
		t.Fatal("no mail was sent")
	}
	first, _, _ := strings.Cut(o.sent[len(o.sent)-1].Text, "\n")
	return first
}

// clinic is one tenant with two apps on two hosts and two people, over the real store and the real keys.
type clinic struct {
	login   *login.Login
	db      *store.DB
	keys    *token.Keyring
	clock   *clock
	mail    *outbox
	keeper  *session.Keeper
	tenants map[string]tenant.Tenant // by sign-in host
	apps    map[string]tenant.App    // by host
	lee     identity.User
	roy     identity.User
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	return newClinicOn(t, store.Config{Path: filepath.Join(t.TempDir(), "edge.db")})
}

func newClinicOn(t *testing.T, database store.Config) *clinic {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	if err := secret.CreateMaster(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	sealer, err := secret.LoadMaster(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(ctx, database, sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	c := &clinic{
		db: db, clock: &clock{at: time.Now().Truncate(time.Millisecond)}, mail: &outbox{},
		tenants: map[string]tenant.Tenant{}, apps: map[string]tenant.App{},
	}
	c.populate(ctx, t)
	if c.keys, err = token.NewKeyring(ctx, db.Keys(), c.clock.now); err != nil {
		t.Fatal(err)
	}
	pages, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	c.keeper = session.NewKeeper(db.Sessions(), session.Limits{}, c.clock.now)
	c.login = login.New(login.Config{
		Sessions: c.keeper, Codes: emailotp.New(db.Codes(), db.Identity(), sealer, c.clock.now), Users: db.Identity(), Sealer: sealer,
		Minter: c.keys, Outbox: c.mail, Pages: pages, Apps: db.Tenants(), Port: 8443, Now: c.clock.now,
		JWKS:      func() []byte { return c.keys.JWKS(token.Access) },
		RequestID: func(*http.Request) id.Request { return "REQUEST" },
	})
	return c
}

func (c *clinic) populate(ctx context.Context, t *testing.T) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	for _, name := range []string{"maple", "birch"} {
		ten := tenant.Tenant{ID: id.Tenant(name), Name: strings.ToUpper(name) + " Clinic", SignInHost: "signin." + name + ".example", Zone: "UTC", Created: c.clock.now()}
		must(c.db.Tenants().CreateTenant(ctx, ten))
		must(c.db.Tenants().CreateSite(ctx, tenant.Site{Tenant: ten.ID, ID: "main", Created: c.clock.now()}))
		c.tenants[ten.SignInHost] = ten
		for _, host := range []string{"oscar." + name + ".example", "other." + name + ".example"} {
			app := tenant.App{
				Tenant: ten.ID, ID: id.NewApp(), Host: host, Path: "/", Site: "main", Name: "OSCAR",
				Landing: []string{"/oscar/index.jsp", "/kai/*"}, Created: c.clock.now(),
			}
			must(c.db.Tenants().CreateApp(ctx, app))
			c.apps[host] = app
		}
	}
	for _, who := range []struct {
		user  *identity.User
		email string
	}{{&c.lee, "dr.lee@maple.example"}, {&c.roy, "p.roy@maple.example"}} {
		uid := id.NewUser()
		*who.user = identity.User{Tenant: "maple", ID: uid, Issuer: identity.LocalIssuer, Subject: string(uid), Email: who.email, Created: c.clock.now()}
		must(c.db.Identity().CreateUser(ctx, *who.user))
	}
}

// ServeHTTP stands for the edge: sign-in hosts, our prefix on app hosts, and an app that wants a session.
func (c *clinic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.URL.Hostname()
	if ten, ok := c.tenants[host]; ok {
		c.login.SignInHost(ten).ServeHTTP(w, r)
		return
	}
	app, ok := c.apps[host]
	if !ok {
		http.Error(w, "unknown host", http.StatusMisdirectedRequest)
		return
	}
	ten := c.tenants["signin."+string(app.Tenant)+".example"]
	if strings.HasPrefix(r.URL.Path, web.Prefix) {
		c.login.AppDoor(app, ten).ServeHTTP(w, r)
		return
	}
	if _, err := c.keeper.Lookup(r.Context(), ten.ID, session.ReferenceFrom(r, session.CookieReference), app.Host); err != nil {
		c.login.Challenge(w, r, ten, app, r.URL.RequestURI())
		return
	}
	_, _ = io.WriteString(w, "chart "+r.URL.RequestURI()+" site="+r.Header.Get("Sec-Fetch-Site"))
}

// browser keeps cookies, follows redirects and sends what browsers send about where a navigation started.
type browser struct {
	t    *testing.T
	to   http.Handler
	jar  *cookiejar.Jar
	from string // RemoteAddr
	// at is the page that is shown; empty for a new window.
	at *url.URL
	// header is added to every request; an empty value removes what the browser itself would send.
	header map[string]string
}

func newBrowser(t *testing.T, c *clinic) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, to: c, jar: jar, from: "192.0.2.7:50000", header: map[string]string{}}
}

// page is what a navigation ended with.
type page struct {
	*httptest.ResponseRecorder
	url    *url.URL
	chain  []string // "303 /path" of each redirect
	passed []*httptest.ResponseRecorder
}

func (p page) text() string { return p.Body.String() }

// typed opens a URL that the person typed.
func (b *browser) typed(raw string) page {
	b.t.Helper()
	b.at = nil
	return b.navigate(http.MethodGet, raw, nil)
}

// follow opens a link of the page that is shown.
func (b *browser) follow(raw string) page {
	b.t.Helper()
	return b.navigate(http.MethodGet, raw, nil)
}

// submit sends the form with this action on the shown page, its hidden fields included.
func (b *browser) submit(p page, action string, fields url.Values) page {
	b.t.Helper()
	form := regexp.MustCompile(`(?s)<form method="post" action="` + regexp.QuoteMeta(action) + `">.*?</form>`).FindString(p.text())
	if form == "" {
		b.t.Fatalf("no form for %s on %s:\n%s", action, p.url, p.text())
	}
	if fields == nil {
		fields = url.Values{}
	}
	for _, hidden := range regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(form, -1) {
		fields.Set(hidden[1], html.UnescapeString(hidden[2]))
	}
	return b.navigate(http.MethodPost, action, fields)
}

func (b *browser) navigate(method, raw string, form url.Values) page {
	b.t.Helper()
	target, err := url.Parse(raw)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.at != nil {
		target = b.at.ResolveReference(target)
	}
	out := page{}
	site := "none"
	for range 12 {
		if b.at != nil {
			site = worse(site, relation(b.at, target))
		}
		w := b.send(method, target, form, site)
		out.ResponseRecorder, out.url = w, target
		location := w.Header().Get("Location")
		if location == "" {
			b.at = target
			if go_, ok := strings.CutPrefix(w.Header().Get("Refresh"), "0; url="); ok {
				next := b.navigate(http.MethodGet, go_, nil)
				next.chain = append(append(out.chain, "refresh "+target.Path), next.chain...)
				next.passed = append(append(out.passed, w), next.passed...)
				return next
			}
			return out
		}
		out.chain = append(out.chain, http.StatusText(w.Code)+" "+target.Host+target.Path)
		out.passed = append(out.passed, w)
		next, err := url.Parse(location)
		if err != nil {
			b.t.Fatal(err)
		}
		method, form, target = http.MethodGet, nil, target.ResolveReference(next)
	}
	b.t.Fatalf("redirects without end: %v", out.chain)
	return out
}

func (b *browser) send(method string, target *url.URL, form url.Values, site string) *httptest.ResponseRecorder {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, target.String(), body)
	r.RemoteAddr = b.from
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if b.at != nil {
			r.Header.Set("Origin", b.at.Scheme+"://"+b.at.Host)
		}
	}
	r.Header.Set("Sec-Fetch-Site", site)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	for name, value := range b.header {
		r.Header.Set(name, value)
		if value == "" {
			r.Header.Del(name)
		}
	}
	for _, cookie := range b.jar.Cookies(target) {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	b.to.ServeHTTP(w, r)
	b.jar.SetCookies(target, w.Result().Cookies())
	return w
}

// cookie returns a cookie's value at an origin.
func (b *browser) cookie(host, name string) string {
	for _, c := range b.jar.Cookies(&url.URL{Scheme: "https", Host: host, Path: "/"}) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// relation is Sec-Fetch-Site for one hop (Fetch Metadata §2.1), with the last two labels as the site.
func relation(from, to *url.URL) string {
	labels := func(u *url.URL) string {
		parts := strings.Split(u.Hostname(), ".")
		return strings.Join(parts[max(0, len(parts)-2):], ".")
	}
	switch {
	case from.Host == to.Host && from.Scheme == to.Scheme:
		return "same-origin"
	case labels(from) == labels(to):
		return "same-site"
	}
	return "cross-site"
}

func worse(a, b string) string {
	order := []string{"none", "same-origin", "same-site", "cross-site"}
	for i := len(order) - 1; i >= 0; i-- {
		if a == order[i] || b == order[i] {
			return order[i]
		}
	}
	return a
}

const (
	oscar  = "https://oscar.maple.example:8443"
	signIn = "https://signin.maple.example:8443"
)

// signInAs goes the whole way from an app's page.
func (c *clinic) signInAs(b *browser, email, target string) page {
	b.t.Helper()
	p := b.typed(oscar + target)
	p = b.submit(p, "/email", url.Values{"email": {email}})
	return b.submit(p, "/code", url.Values{"code": {c.mail.lastCode(b.t)}})
}
