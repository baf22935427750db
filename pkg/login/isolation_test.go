package login_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/web"
)

// carried is what a request shows: cookies by their constant's name, fields of query and form by their own.
type carried map[string]string

// cookies are the names behind the constants.
func cookies() map[string]string {
	return map[string]string{
		"CookieReference": session.CookieReference, "CookieAccess": session.CookieAccess, "CookieFlow": session.CookieFlow,
		"CookieSignIn": session.CookieSignIn, "CookieKnown": session.CookieKnown,
	}
}

// Whatever a browser has from one clinic says to another clinic's hosts as little as rubbish does: alone, all together, and in place of
// what a browser of that clinic has.
func TestIsolation(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		testIsolation(t, newClinic(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		testIsolation(t, newClinicOn(t, store.Config{PostgreSQL: store.PostgreSQL{URL: pgtest.Database(t)}}))
	})
}

func testIsolation(t *testing.T, c *clinic) {
	oak := identity.User{Tenant: "birch", ID: id.NewUser(), Issuer: identity.LocalIssuer, Subject: "oak", Email: "dr.oak@birch.example", Created: c.clock.now()}
	if err := c.db.Identity().CreateUser(t.Context(), oak); err != nil {
		t.Fatal(err)
	}
	x := &knocks{t: t, c: c}
	hosts, names := source(t)
	for _, side := range []struct{ kind, file string }{{"signin", "signinhost.go"}, {"oscar", "appdoor.go"}} {
		c.clock.advance(2 * time.Hour) // as many codes may be asked for again
		ours, theirs := x.gather("maple", side.kind), x.gather("birch", side.kind)
		rubbish := carried{}
		for name, value := range ours {
			rubbish[name] = spoil(value)
		}
		told := map[string]bool{}
		for _, route := range hosts[side.file] {
			for _, name := range names {
				x.same(side.kind, route, name+" alone", carried{name: ours[name]}, carried{name: rubbish[name]}, true)
				fresh := func(clinic string, had carried) carried { return x.fresh(clinic, side.kind, route, had) }
				value := cmp.Or(fresh("maple", ours)[name], ours[name])
				x.same(side.kind, route, name+" in place of its own",
					with(fresh("birch", theirs), name, value), with(fresh("birch", theirs), name, rubbish[name]), false)
				if x.knock("maple", side.kind, route, fresh("maple", ours)) != x.knock("maple", side.kind, route, with(fresh("maple", ours), name, rubbish[name])) {
					told[name] = true
				}
			}
			x.same(side.kind, route, "all", ours, rubbish, true)
		}
		// Else all of it could have been as good as rubbish anywhere.
		for _, name := range map[string][]string{
			"signin": {"CookieReference", "CookieSignIn", "to"}, "oscar": {"CookieReference", "CookieFlow", "to", "code"},
		}[side.kind] {
			if !told[name] {
				t.Errorf("%s is as good as rubbish at its own clinic's %s too", name, side.kind)
			}
		}
	}
}

func with(all carried, name, value string) carried {
	all = maps.Clone(all)
	all[name] = value
	return all
}

// spoil makes something of the same form that nobody has.
func spoil(value string) string {
	if name, domain, ok := strings.Cut(value, "@"); ok {
		return "nobody-" + name + "@" + domain
	}
	flip := func(r rune) rune {
		switch {
		case r >= '0' && r < '9', r >= 'a' && r < 'z', r >= 'A' && r < 'Z':
			return r + 1
		}
		return r
	}
	half := len(value) / 2
	return value[:half] + strings.Map(flip, value[half:])
}

// knocks asks.
type knocks struct {
	t      *testing.T
	c      *clinic
	comers int
}

// gather is what a browser of a clinic has for a kind of host, all of it fresh: somebody who is signed in and in the midst of signing
// in once more.
func (x *knocks) gather(clinic, kind string) carried {
	x.t.Helper()
	who := map[string]string{"maple": "dr.lee@maple.example", "birch": "dr.oak@birch.example"}[clinic]
	app, host := "https://oscar."+clinic+".example:8443", kind+"."+clinic+".example:8443"
	b := newBrowser(x.t, x.c)
	p := b.typed(app + "/oscar/x")
	p = b.submit(p, "/email", url.Values{"email": {who}})
	b.submit(p, "/code", url.Values{"code": {x.c.mail.lastCode(x.t)}})
	all := carried{"email": who}
	for constant, name := range cookies() {
		all[constant] = b.cookie(host, name)
	}
	// Once more, in another browser, up to the code that comes by mail.
	again := newBrowser(x.t, x.c)
	p = again.typed(app + "/oscar/x")
	p = again.submit(p, "/email", url.Values{"email": {who}})
	all["CookieSignIn"], all["to"] = again.cookie("signin."+clinic+".example:8443", session.CookieSignIn), p.url.Query().Get("to")
	all["CookieFlow"], all["code"] = again.cookie("oscar."+clinic+".example:8443", session.CookieFlow), x.c.mail.lastCode(x.t)
	return all
}

// fresh is what a browser had, with a code that was not spent where the route spends one: by whoever is not signed in there yet.
func (x *knocks) fresh(clinic, kind, route string, had carried) carried {
	x.t.Helper()
	if !strings.HasSuffix(route, "/redeem") {
		return had
	}
	host := kind + "." + clinic + ".example"
	s, err := x.c.keeper.Lookup(x.t.Context(), id.Tenant(clinic), had["CookieReference"], host)
	if err != nil {
		x.t.Fatal(err)
	}
	code, err := x.c.keeper.Handoff(x.t.Context(), s, host, secret.Hash(had["CookieFlow"]))
	if err != nil {
		x.t.Fatal(err)
	}
	return with(with(had, "code", code), "CookieReference", "")
}

// same has birch's host answer to what is maple's and to rubbish.
func (x *knocks) same(kind, route, what string, ours, rubbish carried, silent bool) {
	x.t.Helper()
	theirs, none := x.knock("birch", kind, route, ours), x.knock("birch", kind, route, rubbish)
	if theirs != none {
		x.t.Errorf("%s, %s: %s tells what another clinic has from rubbish:\n%.1500s\n%.1500s", kind, route, what, theirs, none)
	}
	if silent && strings.Contains(theirs, "dr.oak") {
		x.t.Errorf("%s, %s: %s tells who there is: %s", kind, route, what, theirs)
	}
}

var sealed = regexp.MustCompile(`[A-Za-z0-9_-]{22,}`) // whatever is made anew each time, or was carried

// knock is the answer but for what is anew in each.
func (x *knocks) knock(clinic, kind, route string, shown carried) string {
	x.t.Helper()
	method, path, _ := strings.Cut(route, " ")
	fields, jar := url.Values{}, []*http.Cookie{}
	for name, value := range shown {
		if cookie, ok := cookies()[name]; ok && value != "" {
			jar = append(jar, &http.Cookie{Name: cookie, Value: value})
		} else if !ok {
			fields.Set(name, value)
		}
	}
	target, body, site := "https://"+kind+"."+clinic+".example:8443"+path, "", "none"
	if method == http.MethodPost {
		body, site = fields.Encode(), "same-origin"
	} else {
		target += "?" + fields.Encode()
	}
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for name, value := range map[string]string{
		"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
	} {
		r.Header.Set(name, value)
	}
	for _, cookie := range jar {
		r.AddCookie(cookie)
	}
	x.comers++
	r.RemoteAddr = fmt.Sprintf("10.2.%d.%d:4711", x.comers>>8, x.comers&255) // what strangers may ask for is by address
	w := httptest.NewRecorder()
	x.c.ServeHTTP(w, r)
	text := fmt.Sprintln(w.Code, w.Header().Get("Location"))
	for _, set := range w.Result().Cookies() {
		text += fmt.Sprintln("sets", set.Name, set.MaxAge)
	}
	text += w.Body.String()
	if typed := shown["email"]; typed != "" {
		text = strings.ReplaceAll(text, typed, "…")
	}
	return sealed.ReplaceAllString(text, "…")
}

// source reads the package: the routes of each kind of host, and the names of what requests carry to them. A name that gather does not
// know fails the test.
func source(t *testing.T) (routes map[string][]string, names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	routes = map[string][]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CaseClause:
				for _, e := range n.List {
					if route, ok := routeOf(e); ok {
						routes[name] = append(routes[name], route)
					}
				}
			case *ast.SelectorExpr:
				if strings.HasPrefix(n.Sel.Name, "Cookie") && cookies()[n.Sel.Name] != "" {
					names = append(names, n.Sel.Name)
				} else if in, ok := n.X.(*ast.Ident); ok && in.Name == "session" && strings.HasPrefix(n.Sel.Name, "Cookie") {
					t.Errorf("%s: session.%s is not in the matrix", name, n.Sel.Name)
				}
			case *ast.CallExpr:
				if field, ok := fieldOf(n); ok {
					names = append(names, field)
				}
			}
			return true
		})
	}
	slices.Sort(names)
	names = slices.Compact(names)
	known, plain := []string{"code", "email", "to"}, []string{"problem", "sent"} // the latter are words of ours, and name nothing
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(plain, name) })
	for _, name := range names {
		if cookies()[name] == "" && !slices.Contains(known, name) {
			t.Errorf("the field %s is not in the matrix: have gather make one", name)
		}
	}
	if len(routes["signinhost.go"]) < 10 || len(routes["appdoor.go"]) < 8 || len(names) < 8 {
		t.Fatalf("the source is read wrongly: %v, %v", routes, names)
	}
	return routes, names
}

// routeOf reads "GET /path", or the sum of such a text and of names that stand for more of it.
func routeOf(e ast.Expr) (string, bool) {
	var text func(e ast.Expr) string
	text = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			s, _ := strconv.Unquote(e.Value)
			return s
		case *ast.BinaryExpr:
			return text(e.X) + text(e.Y)
		case *ast.SelectorExpr: // web.Prefix
			return web.Prefix
		case *ast.Ident: // elsewherePath, backPath
			return web.Prefix + strings.TrimSuffix(e.Name, "Path")
		}
		return "style" // a call: the style sheet's, the same for everybody
	}
	route := text(e)
	method, path, ok := strings.Cut(route, " ")
	return route, ok && method == strings.ToUpper(method) && strings.HasPrefix(path, "/")
}

// fieldOf is the name in query.Get("to") and its like.
func fieldOf(call *ast.CallExpr) (string, bool) {
	get, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || get.Sel.Name != "Get" || len(call.Args) != 1 {
		return "", false
	}
	var from string
	switch x := get.X.(type) {
	case *ast.Ident:
		from = x.Name // query
	case *ast.SelectorExpr:
		from = x.Sel.Name // r.PostForm, r.Header
	case *ast.CallExpr:
		if s, ok := x.Fun.(*ast.SelectorExpr); ok {
			from = s.Sel.Name // r.URL.Query()
		}
	}
	name, ok := call.Args[0].(*ast.BasicLit)
	if !ok || !slices.Contains([]string{"query", "PostForm", "Form", "Query"}, from) {
		return "", false
	}
	text, err := strconv.Unquote(name.Value)
	return text, err == nil
}
