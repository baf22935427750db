package adminapi_test

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// meaning is what a field of a request names, and so what becomes of it when it names what is another clinic's.
type meaning int

const (
	// asks names the clinic in whose name the call is made: at this API, that is its credentials.
	asks meaning = iota + 1
	// thing names something that exists: another clinic's is answered as one that does not exist at all, with the same words.
	thing
	// name names something within the clinic: another clinic's of the same name is of no account, whether there is one or not.
	name
	// taken names what can be in one clinic only and is public (a host): it is said to be taken, and not whose it is.
	taken
	// plain names nothing.
	plain
)

// field says of a field what it names, with the value in a call for c's own and, where that differs, the values that name something
// that c has.
type field struct {
	means meaning
	own   func(c clinic) any
	of    []func(c clinic) any
}

// fields are keyed by message and field, or by the name of a field that means the same in every message. What is in no row fails the
// test.
func fields() map[string]field {
	value := func(v any) func(clinic) any { return func(clinic) any { return v } }
	of := func(values ...func(clinic) any) []func(clinic) any { return values }
	// What a clinic does to its own has a name that the other one has too.
	email, site, main := func(c clinic) any { return c.email }, func(c clinic) any { return c.site }, value("main")
	host, signIn := func(c clinic) any { return c.host }, func(c clinic) any { return c.signIn }
	fresh := strings.ReplaceAll(string(id.NewApp()), "_", "-") + ".example"
	return map[string]field{
		"tenant":    {means: asks, own: func(c clinic) any { return c.tenant }},
		"site":      {means: thing, own: main, of: of(site)},
		"app":       {means: thing, own: func(c clinic) any { return c.app }},
		"connector": {means: thing, own: func(c clinic) any { return c.connector }},
		"session":   {means: thing, own: func(c clinic) any { return c.session }},
		"token":     {means: thing, own: func(c clinic) any { return c.token }},
		"version":   {means: thing, own: func(c clinic) any { return c.version }},
		"email":     {means: thing, own: value(sharedEmail), of: of(email)},

		"allow_users":    {means: thing, own: value([]string{sharedEmail}), of: of(func(c clinic) any { return []string{c.email} })},
		"allow_services": {means: name, own: value([]string{"booking"}), of: of(func(c clinic) any { return []string{c.service} })},
		"service":        {means: name, own: value("booking"), of: of(func(c clinic) any { return c.service })},

		"CreateTenantRequest.id":           {means: taken, own: value("new"), of: of(func(c clinic) any { return c.tenant })},
		"CreateTenantRequest.sign_in_host": {means: taken, own: value(fresh), of: of(host, signIn)},
		"CreateSiteRequest.id":             {means: name, own: value("new"), of: of(site)},
		"AddUserRequest.email":             {means: name, own: value("new@example.org"), of: of(email)},
		"host":                             {means: taken, own: value(fresh), of: of(host, signIn)},

		"name": {means: plain}, "zone": {means: plain}, "landing": {means: plain}, "websocket": {means: plain}, "path": {means: plain},
		"quiet": {means: plain}, "disabled": {means: plain, own: value(true)}, "life_s": {means: plain}, "to": {means: plain},
		"kinds": {means: plain}, "emergency": {means: plain}, "yaml": {means: plain, own: func(c clinic) any { return c.rules() }},
	}
}

func fieldOf(table map[string]field, d protoreflect.FieldDescriptor) (field, bool) {
	if f, ok := table[string(d.Parent().Name())+"."+string(d.Name())]; ok {
		return f, true
	}
	f, ok := table[string(d.Name())]
	return f, ok
}

// operators are the methods that are in nobody's name: only whoever runs the edge has a use for them.
func operators() []string {
	return []string{"CreateTenant", "ListTenants", "TestMail", "RotateKeys", "ClusterStatus"}
}

func methods() (all []protoreflect.MethodDescriptor) {
	list := adminv1.File_admin_v1_admin_proto.Services().ByName("AdminService").Methods()
	for i := range list.Len() {
		all = append(all, list.Get(i))
	}
	return all
}

func fieldsOf(m protoreflect.MethodDescriptor) (all []protoreflect.FieldDescriptor) {
	for i := range m.Input().Fields().Len() {
		all = append(all, m.Input().Fields().Get(i))
	}
	return all
}

// A clinic reaches for what is another's in every field of every method: nothing of it is read, changed, or told to exist.
func TestIsolation(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		testIsolation(t, store.Config{Path: filepath.Join(t.TempDir(), "edge.db")})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		testIsolation(t, store.Config{PostgreSQL: store.PostgreSQL{URL: pgtest.Database(t)}})
	})
}

func testIsolation(t *testing.T, database store.Config) {
	running := &running{}
	w := serveOn(t, database, running.join)
	other := w.clinic(t, running, "birch", 2)
	nobody := clinic{
		tenant: "elm", site: "elm-site", app: "app_elm", connector: "con_elm", session: "ses_elm", token: "tok_elm", email: "dr@elm.example",
		service: "elm-booking", host: "oscar.elm.example", signIn: "signin.elm.example", version: 99,
	}
	before := w.all(t, other)
	if len(before) < 7 {
		t.Fatalf("only %d kinds of lists", len(before))
	}
	for _, m := range methods() {
		method := string(m.Name())
		alone := slices.Contains(operators(), method)
		by := clinic{}
		if !alone {
			by = w.clinic(t, running, "asks-"+strings.ToLower(method), 1)
		}
		x := &reach{world: w, t: t, method: m, by: by, other: other, nobody: nobody, alone: alone}
		x.all()
		if diff := cmp.Diff(before, w.all(t, other), protocmp.Transform(), protocmp.IgnoreFields(&adminv1.Link{}, "up")); diff != "" {
			t.Errorf("%s changed what is another clinic's: %s", method, diff)
		}
	}
}

// all is what every list says to a clinic of itself.
func (w *world) all(t *testing.T, c clinic) map[string]proto.Message {
	t.Helper()
	lists := map[string]proto.Message{}
	for _, m := range methods() {
		name := string(m.Name())
		reads := strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Get") || strings.HasSuffix(name, "Status")
		if !reads || slices.Contains(operators(), name) {
			continue
		}
		got, err := w.call(t.Context(), m, (&reach{world: w, t: t, method: m, by: c}).request(nil, nil))
		if err != nil {
			t.Fatalf("%s for its own: %v", name, err)
		}
		lists[name] = got
	}
	return lists
}

// call calls a method by its name.
func (w *world) call(ctx context.Context, m protoreflect.MethodDescriptor, r proto.Message) (proto.Message, error) {
	out := reflect.ValueOf(w.AdminServiceClient).MethodByName(string(m.Name())).Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(r)})
	if err, _ := out[1].Interface().(error); err != nil {
		return nil, err
	}
	return out[0].Interface().(proto.Message), nil
}

// reach is one method, asked by a clinic about another's.
type reach struct {
	*world
	t                 *testing.T
	method            protoreflect.MethodDescriptor
	by, other, nobody clinic
	alone             bool // the method is the operator's alone
}

func (x *reach) all() {
	asked := false
	for _, d := range fieldsOf(x.method) {
		f, ok := fieldOf(fields(), d)
		if !ok {
			x.t.Errorf("%s.%s is not in the matrix: say what it names", d.Parent().Name(), d.Name())
			continue
		}
		asked = asked || f.means == asks
		if f.means != asks && f.means != plain {
			x.probe(d, f)
		}
	}
	if asked == x.alone {
		x.t.Errorf("%s: a method is in a clinic's name (a field tenant), or listed as the operator's alone", x.method.Name())
	}
	if x.alone {
		return
	}
	// At last the same call about what is its own: else all of it could have been refused for another reason.
	got, err := x.call(x.t.Context(), x.method, x.request(nil, nil))
	if err != nil {
		x.t.Errorf("%s about its own: %v", x.method.Name(), err)
		return
	}
	x.silent("about its own", fmt.Sprint(got))
}

// probe asks about the other clinic's thing and about nobody's; the answers must not differ.
func (x *reach) probe(d protoreflect.FieldDescriptor, f field) {
	if f.of == nil {
		f.of = append(f.of, f.own)
	}
	for _, of := range f.of {
		x.probeOne(d, f, of)
	}
}

func (x *reach) probeOne(d protoreflect.FieldDescriptor, f field, of func(clinic) any) {
	where := fmt.Sprintf("%s.%s", d.Parent().Name(), d.Name())
	code, words := x.answer(x.request(d, of(x.other)), of(x.other))
	if !x.alone {
		x.silent(where, words)
	}
	if f.means == taken {
		if code != connect.CodeAlreadyExists {
			x.t.Errorf("%s takes what is another clinic's: %v %s", where, code, words)
		}
		return
	}
	none, noWords := x.answer(x.request(d, of(x.nobody)), of(x.nobody))
	if code != none || code != 0 && words != noWords {
		x.t.Errorf("%s tells what another clinic has from what nobody has:\n%v %s\n%v %s", where, code, words, none, noWords)
	}
	if f.means == thing && code != connect.CodeNotFound {
		x.t.Errorf("%s reaches for what is another clinic's: %v %s", where, code, words)
	}
}

// answer is a call's code, 0 for none, and its words without the value that was asked about.
func (x *reach) answer(r proto.Message, value any) (code connect.Code, words string) {
	got, err := x.call(x.t.Context(), x.method, r)
	if words = fmt.Sprint(got); err != nil {
		code, words = connect.CodeOf(err), err.Error()
	}
	return code, strings.ReplaceAll(words, strings.Trim(fmt.Sprint(value), "[]"), "…")
}

// silent fails if an answer has something of the other clinic in it.
func (x *reach) silent(where, words string) {
	for _, mark := range []string{"birch", x.other.app, x.other.connector, x.other.session, x.other.token, x.other.user} {
		if strings.Contains(words, mark) {
			x.t.Errorf("%s tells of another clinic's %s: %s", where, mark, words)
		}
	}
}

// request is a call for what is the asking clinic's own, but for one field.
func (x *reach) request(except protoreflect.FieldDescriptor, value any) proto.Message {
	kind := reflect.ValueOf(x.AdminServiceClient).MethodByName(string(x.method.Name())).Type().In(1)
	r := reflect.New(kind.Elem()).Interface().(proto.Message)
	for _, d := range fieldsOf(x.method) {
		f, _ := fieldOf(fields(), d)
		switch {
		case d == except:
			set(r.ProtoReflect(), d, value)
		case f.own != nil:
			set(r.ProtoReflect(), d, f.own(x.by))
		}
	}
	return r
}

func set(m protoreflect.Message, d protoreflect.FieldDescriptor, value any) {
	if all, ok := value.([]string); ok {
		list := m.NewField(d)
		for _, one := range all {
			list.List().Append(protoreflect.ValueOfString(one))
		}
		m.Set(d, list)
		return
	}
	m.Set(d, protoreflect.ValueOf(value))
}
