package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// One clinic's connector, person and service reach for what is another's, in every field of what they can send: the answer is that to
// something which does not exist, and the other clinic notices nothing.
func TestIsolation(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); testIsolation(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { t.Parallel(); testIsolation(t, pgtest.Database(t)) })
}

func testIsolation(t *testing.T, database string) {
	i := newIsolation(t, database)
	for _, part := range []struct {
		name string
		run  func()
	}{
		{"handshake", i.handshake},
		{"control", i.control},
		{"enrolment", i.enrolment},
		{"requests", i.requests},
		{"revocations", i.revocations},
	} {
		t.Run(part.name, func(t *testing.T) {
			i.t = t
			part.run()
		})
	}
}

// names says what the fields of control messages name: of which clinic's thing, with the value; nil for a field that names nothing.
// Fields of one name mean the same in every message. What is in no row fails the test.
func names() map[string]func(c *party) any {
	plain := map[string]func(c *party) any{}
	for name := range strings.FieldsSeq(`versions features edge_time_ms nonce lane software edge_proof key_sets heartbeat_ms sequence origins
		own_file healthy state checked_ms round_trip_age_ms ingress_yaml accepted reason all edges url weight within_ms code message
		retry_after_ms jwt`) {
		plain[name] = nil
	}
	for name, value := range map[string]func(c *party) any{
		"connector":             func(c *party) any { return string(c.connector) },
		"instance":              func(c *party) any { return c.instance },
		"generation":            func(c *party) any { return c.generation },
		"proof":                 func(c *party) any { return c.proof },
		"tenant":                func(c *party) any { return string(c.tenant) },
		"site":                  func(c *party) any { return c.site },
		"session":               func(c *party) any { return string(c.session) },
		"principal":             func(c *party) any { return string(c.user) },
		"name":                  func(c *party) any { return c.origin },
		"configuration_version": func(c *party) any { return c.version },
		"configuration_digest":  func(c *party) any { return c.digest() },
		"version":               func(c *party) any { return c.version },
	} {
		plain[name] = value
	}
	return plain
}

// naming lists the fields of a message, and of those within it, that name something.
func (i *isolation) naming(m protoreflect.MessageDescriptor) (all []protoreflect.FieldDescriptor) {
	for n := range m.Fields().Len() {
		d := m.Fields().Get(n)
		value, ok := names()[string(d.Name())]
		switch {
		case !ok:
			i.t.Errorf("%s is not in the matrix: say what it names", d.FullName())
		case d.Message() != nil:
			all = append(all, i.naming(d.Message())...)
		case value != nil:
			all = append(all, d)
		}
	}
	return all
}

// fill gives every field that names something a value of c's, but for except, which gets one of other's.
func fill(m protoreflect.Message, c, other *party, except protoreflect.FieldDescriptor) {
	for n := range m.Descriptor().Fields().Len() {
		d := m.Descriptor().Fields().Get(n)
		value := names()[string(d.Name())]
		switch {
		case d.Message() != nil:
			fill(m.Mutable(d).List().AppendMutable().Message(), c, other, except)
		case value != nil && d == except:
			m.Set(d, protoreflect.ValueOf(value(other)))
		case value != nil:
			m.Set(d, protoreflect.ValueOf(value(c)))
		}
	}
}

// same has a thing done about the other clinic and about nobody, and compares what comes of it.
func (i *isolation) same(what string, do func(about *party) string) string {
	i.t.Helper()
	theirs, nobodys := do(i.other), do(i.nobody)
	if theirs != nobodys {
		i.t.Errorf("%s tells what another clinic has from what nobody has:\n%s\n%s", what, theirs, nobodys)
	}
	for _, mark := range i.other.marks() {
		if strings.Contains(theirs, mark) {
			i.t.Errorf("%s tells of another clinic's %s: %s", what, mark, theirs)
		}
	}
	i.unharmed(what)
	return theirs
}

// handshake names another clinic's things on the way in.
func (i *isolation) handshake() {
	hello, register := (&tunnelv1.Hello{}).ProtoReflect().Descriptor(), (&tunnelv1.Register{}).ProtoReflect().Descriptor()
	for _, d := range append(i.naming(hello), i.naming(register)...) {
		came := i.same("the handshake's "+string(d.FullName()), func(about *party) string {
			l := i.dial(i.by)
			defer l.close()
			l.enter(about, d.Name())
			return l.transcript(about)
		})
		admitted := strings.Contains(came, "registered")
		if identity := d.Name() == "connector" || d.Name() == "proof"; admitted == identity {
			i.t.Errorf("%s: admitted is %v: %s", d.FullName(), admitted, came)
		}
	}
}

// control names them in every message that there is, on a link that was admitted.
func (i *isolation) control() {
	kinds := (&tunnelv1.Control{}).ProtoReflect().Descriptor().Oneofs().ByName("message").Fields()
	for n := range kinds.Len() {
		kind := kinds.Get(n)
		naming := i.naming(kind.Message())
		if len(naming) == 0 {
			naming = append(naming, nil) // once as it is
		}
		for _, d := range naming {
			what := string(kind.Name())
			if d != nil {
				what += "'s " + string(d.FullName())
			}
			i.same(what, func(about *party) string {
				l := i.dial(i.by)
				defer l.close()
				l.enter(i.by, "")
				m := &tunnelv1.Control{}
				fill(m.ProtoReflect().Mutable(kind).Message(), i.by, about, d)
				l.say(m)
				l.settle()
				return l.transcript(about)
			})
		}
	}
}

// enrolment names them in what a connector posts.
func (i *isolation) enrolment() {
	values := map[string]func(c *party) string{
		"code":       func(c *party) string { return c.spent },
		"public_key": func(c *party) string { return c.public() },
	}
	fields := reflect.TypeFor[controlserver.EnrollRequest]()
	for n := range fields.NumField() {
		name := fields.Field(n).Tag.Get("json")
		value, ok := values[name]
		if !ok {
			i.t.Errorf("enrolment's %s is not in the matrix: say what it names", name)
			continue
		}
		came := i.same("enrolment's "+name, func(about *party) string {
			body := map[string]string{"code": i.invite(i.by), "public_key": i.fresh().public()}
			body[name] = value(about)
			status, answer := i.post(controlserver.EnrollPath, body)
			return fmt.Sprint(status, regexp.MustCompile(`con_[0-9a-f-]+`).ReplaceAllString(answer, "con_…"))
		})
		if name == "code" && !strings.HasPrefix(came, "403") {
			i.t.Errorf("a code that was spent: %s", came)
		}
		if name == "public_key" && !strings.Contains(came, `"tenant":"maple"`) {
			i.t.Errorf("a key that another clinic's connector has: %s", came)
		}
	}
}

// requests carries a clinic's own credentials to the other's app. What nobody has is rubbish of the same form.
func (i *isolation) requests() {
	cookie := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: value}) }
	}
	bearer := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(access.TokenHeader, value) }
	}
	reference := func(c *party) func(*http.Request) { return cookie(session.CookieReference, c.reference) }
	for _, c := range []*party{i.by, i.other} { // else all could have been refused for another reason
		for what, with := range map[string]func(*http.Request){
			"session": reference(c), "token": bearer(c.token), "session and access token": both(reference(c), cookie(session.CookieAccess, c.access)),
		} {
			if a := i.get(c.host, with); a.Code != http.StatusNoContent {
				i.t.Errorf("%s at its own, with its %s: %d %s", c.tenant, what, a.Code, code(a.Body.String()))
			}
		}
	}
	bad, good := *i.nobody, i.by
	bad.reference, bad.token, bad.access = session.NewSecret(), good.token[:len(good.token)-8]+"AAAAAAAA", good.access[:len(good.access)-8]+"AAAAAAAA"
	for what, with := range map[string]func(c *party) func(*http.Request){
		"session":                  reference,
		"token":                    func(c *party) func(*http.Request) { return bearer(c.token) },
		"access token":             func(c *party) func(*http.Request) { return cookie(session.CookieAccess, c.access) },
		"session and access token": func(c *party) func(*http.Request) { return both(reference(c), cookie(session.CookieAccess, c.access)) },
		"access token beside a session": func(c *party) func(*http.Request) {
			return both(reference(i.other), cookie(session.CookieAccess, c.access))
		},
	} {
		came := i.same("a request's "+what, func(about *party) string {
			if about == i.nobody {
				return i.answer(i.get(i.other.host, with(&bad)))
			}
			return i.answer(i.get(i.other.host, with(good)))
		})
		if what == "token" && !strings.HasPrefix(came, "401 E-TOKEN") {
			i.t.Errorf("a service is told %s", came)
		}
		if strings.HasPrefix(came, "2") || strings.HasPrefix(came, "5") {
			i.t.Errorf("a request's %s at another clinic's app: %s", what, came)
		}
	}
}

func both(a, b func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) { a(r); b(r) }
}

// answer is what there is in an answer but for what each has anew: its number, where it sends to, and what it sets.
func (i *isolation) answer(a *httptest.ResponseRecorder) string {
	at, _, _ := strings.Cut(a.Header().Get("Location"), "?")
	return strings.ReplaceAll(fmt.Sprint(a.Code, " ", code(a.Body.String()), " ", at), i.other.tenantHosts(), "…")
}

// revocations are asked for in a clinic's name while the store is away: they hold before anybody can say whose the thing is.
func (i *isolation) revocations() {
	things := map[change.Kind]func(c *party) string{
		change.Session: func(c *party) string { return string(c.session) }, change.User: func(c *party) string { return string(c.user) },
		change.Token: func(c *party) string { return string(c.tokenID) }, change.Connector: func(c *party) string { return string(c.connector) },
	}
	for _, kind := range cluster.Revocable() {
		thing, ok := things[kind]
		if !ok {
			i.t.Errorf("what a revocation of kind %s names is not in the matrix", kind)
			continue
		}
		i.same("a revocation of kind "+string(kind), func(about *party) string {
			c := change.Change{Tenant: i.by.tenant, Kind: kind, ID: thing(about)}
			i.edge.revoker.Heard("west", []change.Change{c}) // as from another edge, and as here
			peers, err := i.edge.revoker.Revoke(i.t.Context(), c)
			return fmt.Sprint(peers, err)
		})
		if a := i.get(i.other.host, func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: i.other.reference})
		}); a.Code != http.StatusNoContent {
			i.t.Errorf("the other clinic's session, after a revocation of kind %s: %d", kind, a.Code)
		}
		if a := i.get(i.other.host, func(r *http.Request) { r.Header.Set(access.TokenHeader, i.other.token) }); a.Code != http.StatusNoContent {
			i.t.Errorf("the other clinic's token, after a revocation of kind %s: %d", kind, a.Code)
		}
	}
}

var _ tunnel.Link = keyed{}
