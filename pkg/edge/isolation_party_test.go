package edge

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// isolation is an edge with two clinics of which everything is up, and a third that there is not.
type isolation struct {
	t                 testing.TB
	edge              *Edge
	by, other, nobody *party
	before            string // what the edge shows the other clinic of itself
	lines             map[*party]*line
	comers            atomic.Uint32
}

// party is a clinic with what can be named of it, and what it shows to be believed.
type party struct {
	tenant                    id.Tenant
	site, host, origin, spent string
	connector                 id.Connector
	key                       ed25519.PrivateKey
	instance                  string
	generation                uint64
	proof                     string // of its own link, long over
	version                   uint64 // of its ingress rules
	user                      id.User
	session                   id.Session
	tokenID                   id.Token
	reference, access, token  string
}

func (c *party) rules() []byte {
	return []byte("# rules of " + string(c.tenant) + "\nrules:\n  - origin: https://10.0.0.5:8443\n    preset: oscar\n")
}

func (c *party) digest() []byte { sum := sha256.Sum256(c.rules()); return sum[:] }

func (c *party) public() string {
	return base64.RawURLEncoding.EncodeToString(c.key.Public().(ed25519.PublicKey))
}

func (c *party) tenantHosts() string { return string(c.tenant) + ".example" }

// marks are what must not be seen by others.
func (c *party) marks() []string {
	return []string{string(c.tenant), string(c.connector), string(c.user), string(c.session), string(c.tokenID), c.instance}
}

func newIsolation(t testing.TB, database string) *isolation {
	c := Default()
	c.StateDir, c.Host, c.Listen, c.Loopback = filepath.Join(t.TempDir(), "state"), "edge.example", "127.0.0.1:0", "127.0.0.1:0"
	c.Store = database
	if _, err := Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	i := &isolation{t: t, edge: running(t, c), lines: map[*party]*line{}}
	i.by, i.other = i.clinic("maple", 1), i.clinic("birch", 3)
	i.nobody = i.fresh()
	i.nobody.tenant, i.nobody.site, i.nobody.origin, i.nobody.version = "elm", "elm-site", "origin of elm", 9
	i.nobody.spent = strings.Repeat("A", len(i.other.spent))
	i.before = i.shows(i.other)
	if !strings.Contains(i.before, "origin of birch") {
		t.Fatalf("nothing is shown: %s", i.before)
	}
	return i
}

// fresh is a party that the edge does not know.
func (i *isolation) fresh() *party {
	_, key, _ := ed25519.GenerateKey(nil)
	return &party{
		connector: id.NewConnector(), key: key, instance: newInstance(), generation: 1 << 40, user: id.NewUser(), session: id.NewSession(),
		tokenID: id.NewToken(),
	}
}

func newInstance() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (i *isolation) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// clinic makes one whose every name begins with its own, with a link over which all is answered with 204.
func (i *isolation) clinic(name id.Tenant, versions int) *party {
	i.t.Helper()
	ctx, e, c := i.t.Context(), i.edge, i.fresh()
	c.tenant, c.site, c.host, c.origin = name, string(name)+"-site", "oscar."+string(name)+".example", "origin of "+string(name)
	_, err := e.admin().CreateTenant(ctx, tenant.Tenant{ID: name, SignInHost: "signin." + c.tenantHosts()})
	i.must(err)
	_, err = e.admin().CreateSite(ctx, name, c.site)
	i.must(err)
	user, _, err := e.admin().AddUser(ctx, name, "dr.lee@shared.example", true)
	i.must(err)
	c.user = user.ID
	_, err = e.admin().CreateApp(ctx, tenant.App{Tenant: name, Host: c.host, Site: id.Site(c.site)},
		admin.Who{Users: []string{user.Email}, Services: []string{"booking"}})
	i.must(err)
	for range versions {
		rules, err := e.admin().SetIngress(ctx, name, id.Site(c.site), c.rules(), "root")
		i.must(err)
		c.version = rules.Version
	}
	record, jwt, err := e.admin().MintToken(ctx, name, "booking", 0)
	i.must(err)
	c.tokenID, c.token = record.ID, jwt
	c.spent = i.invite(c)
	enrolled, err := enroll.NewService(e.store.Enroll(), time.Now).Enroll(ctx, c.spent, c.key.Public().(ed25519.PublicKey))
	i.must(err)
	c.connector = enrolled.ID
	i.signIn(c)
	i.lines[c] = i.dial(c)
	i.lines[c].enter(c, "")
	if c.generation = i.lines[c].generation; c.generation == 0 {
		i.t.Fatalf("%s: not admitted: %s", name, i.lines[c].transcript(c))
	}
	eventually(i.t, "the app to be served", func() bool {
		a := i.get(c.host, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: c.reference}) })
		for _, set := range a.Result().Cookies() {
			if set.Name == session.CookieAccess {
				c.access = set.Value
			}
		}
		return a.Code == http.StatusNoContent
	})
	return c
}

func (i *isolation) signIn(c *party) {
	now, value := time.Now(), session.NewSecret()
	i.must(i.edge.store.Sessions().CreateSession(i.t.Context(), session.Session{
		Tenant: c.tenant, ID: c.session, User: c.user, Methods: []string{"otp"}, Created: now, LastSeen: now,
		Expires: now.Add(session.DefaultAbsolute), IdleFor: session.DefaultIdle,
	}, session.Reference{Tenant: c.tenant, Hash: secret.Hash(value), Session: c.session, Host: c.host, Created: now}))
	c.reference = value
}

func (i *isolation) invite(c *party) string {
	i.t.Helper()
	code, _, err := enroll.NewService(i.edge.store.Enroll(), time.Now).Invite(i.t.Context(), c.tenant, id.Site(c.site))
	i.must(err)
	return code
}

// shows is all that the edge says of a clinic's connectors.
func (i *isolation) shows(c *party) string {
	i.t.Helper()
	connectors, links, err := i.edge.admin().ListConnectors(i.t.Context(), c.tenant)
	i.must(err)
	version, running, err := i.edge.admin().IngressStatus(i.t.Context(), c.tenant, id.Site(c.site))
	i.must(err)
	text := fmt.Sprintf("%+v\nversion %d\n", connectors, version)
	for _, one := range connectors {
		for _, l := range links[one.ID] {
			text += fmt.Sprintf("link of generation %d, origins %v\n", l.Generation, registry.Origins(links[one.ID]))
		}
	}
	for _, r := range running {
		text += fmt.Sprintf("%s linked %v, runs %d, sent %d, answered %d %q\n", r.Connector.ID, r.Linked, r.Running, r.Sent, r.Answered, r.Refused)
	}
	return text
}

// unharmed fails if the other clinic has noticed anything.
func (i *isolation) unharmed(what string) {
	i.t.Helper()
	if now := i.shows(i.other); now != i.before {
		i.t.Errorf("%s changed what is another clinic's:\n%s\n%s", what, i.before, now)
		i.before = now
	}
	if heard := i.lines[i.other].transcript(i.other); strings.Contains(heard, string(i.by.tenant)) || strings.Contains(heard, "closed") {
		i.t.Errorf("%s was heard at another clinic: %s", what, heard)
	}
}

// get asks an app for a page, as a browser from an address of its own.
func (i *isolation) get(host string, with func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/x", nil)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "none")
	with(r)
	return i.ask(host, r)
}

func (i *isolation) post(path string, body map[string]string) (int, string) {
	i.t.Helper()
	text, err := json.Marshal(body)
	i.must(err)
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(text)))
	r.Header.Set("Content-Type", "application/json")
	w := i.ask("edge.example", r)
	return w.Code, w.Body.String()
}

func (i *isolation) ask(host string, r *http.Request) *httptest.ResponseRecorder {
	n := i.comers.Add(1)
	r.Host, r.TLS = host, &tls.ConnectionState{ServerName: host}
	r.RemoteAddr = net.JoinHostPort(fmt.Sprintf("10.1.%d.%d", n>>8, n&255), "4711") // what strangers may cost is by address
	w := httptest.NewRecorder()
	i.edge.ServeHTTP(w, r)
	return w
}

// keyed is a link in memory with keying material.
type keyed struct{ tunnel.Link }

func (keyed) Export(label string, _ []byte, n int) ([]byte, error) {
	sum := sha256.Sum256([]byte(label))
	return sum[:n], nil
}

// line is a link that a test speaks on by hand, with the key of a clinic's connector.
type line struct {
	i          *isolation
	who        *party
	link       tunnel.Link
	stream     tunnel.Stream
	reader     *bufio.Reader
	generation uint64
	over       bool // everything was read
	end        context.CancelFunc
	running    sync.WaitGroup

	mu    sync.Mutex // guards heard
	heard []string
	acks  chan uint64
}

func (i *isolation) dial(who *party) *line {
	i.t.Helper()
	near, far := exchangetest.Memory()
	ctx, end := context.WithCancel(context.Background())
	l := &line{i: i, who: who, link: far, end: end, acks: make(chan uint64, 64)}
	l.running.Go(func() { _ = i.edge.control.ServeLink(ctx, keyed{near}) })
	i.t.Cleanup(l.close)
	var err error
	l.stream, err = far.Open(ctx)
	i.must(err)
	l.reader = bufio.NewReader(l.stream)
	i.must(wire.WriteKind(l.stream, wire.StreamControl))
	return l
}

func (l *line) close() {
	_ = l.link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	l.end()
	l.running.Wait()
}

// enter opens the link with who's key, but for one field, which is about somebody else.
func (l *line) enter(about *party, field protoreflect.Name) {
	own := *l.who
	own.instance, own.version, own.generation = newInstance(), 0, 0
	if field == "" {
		about = &own
	}
	hello := &tunnelv1.Hello{Versions: []uint32{wire.Version}, Nonce: make([]byte, 32), Lane: tunnelv1.Lane_LANE_FAST, Software: "test"}
	fill(hello.ProtoReflect(), &own, about, hello.ProtoReflect().Descriptor().Fields().ByName(field))
	l.say(&tunnelv1.Control{Message: &tunnelv1.Control_Hello{Hello: hello}})
	nonce := l.read().GetHello().GetNonce()
	exporter, _ := keyed{}.Export(controlserver.ExporterLabel, nil, 32)
	var err error
	own.proof, err = token.SignLinkProof(l.who.key, id.Connector(hello.GetConnector()), nonce, exporter)
	if l.i.must(err); l.who.proof == "" {
		l.who.proof = own.proof
	}
	if field == "proof" && about == l.i.nobody { // as good as the other's, and of somebody whom the edge does not know
		about = &party{}
		about.proof, err = token.SignLinkProof(l.i.nobody.key, l.i.nobody.connector, make([]byte, 32), exporter)
		l.i.must(err)
	}
	register := &tunnelv1.Register{}
	fill(register.ProtoReflect(), &own, about, register.ProtoReflect().Descriptor().Fields().ByName(field))
	l.say(&tunnelv1.Control{Message: &tunnelv1.Control_Register{Register: register}})
	registered := l.read().GetRegistered()
	if registered == nil {
		l.drain()
		return
	}
	l.generation = registered.GetGeneration()
	l.heartbeat(1)
	l.running.Go(func() {
		l.drain()
		close(l.acks)
	})
	l.running.Go(l.serve)
	l.await(1)
	l.heartbeat(2) // its answer is queued, behind all that a new link is told
	l.await(2)
}

// drain reads until the link has ended.
func (l *line) drain() {
	for !l.over {
		l.read()
	}
}

// serve answers every exchange with 204.
func (l *line) serve() {
	for {
		s, err := l.link.Accept(context.Background())
		if err != nil {
			return
		}
		l.running.Go(func() {
			if _, err := wire.ReadKind(s); err == nil {
				_ = exchange.Serve(context.Background(), s, empty{})
			}
		})
	}
}

func (l *line) say(m *tunnelv1.Control) { _ = wire.WriteControl(l.stream, m) } // a link that was closed says so when it is read

func (l *line) heartbeat(sequence uint64) {
	l.say(&tunnelv1.Control{Message: &tunnelv1.Control_Heartbeat{Heartbeat: &tunnelv1.Heartbeat{
		Sequence: sequence, Origins: []*tunnelv1.OriginHealth{{Name: l.who.origin, Healthy: true}},
	}}})
}

// settle waits until the edge has dealt with what was said, or has closed the link.
func (l *line) settle() {
	l.heartbeat(77)
	l.await(77)
}

func (l *line) await(sequence uint64) {
	for {
		select {
		case got, open := <-l.acks:
			if !open || got == sequence {
				return
			}
		case <-time.After(20 * time.Second):
			l.i.t.Error("the edge does not answer")
			return
		}
	}
}

// read returns the next message, nil when the link has ended.
func (l *line) read() *tunnelv1.Control {
	if l.over {
		return nil
	}
	m, err := wire.ReadControl(l.reader, wire.MaxControl)
	if err != nil {
		<-l.link.Done()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.over = true
		var closed *tunnel.ClosedError
		errors.As(l.link.Cause(), &closed)
		l.heard = append(l.heard, fmt.Sprintf("closed: %+v", closed.Reason))
		return nil
	}
	told := proto.Clone(m).(*tunnelv1.Control)
	switch { // what is anew in each
	case told.GetHello() != nil:
		told.GetHello().Nonce, told.GetHello().EdgeTimeMs = nil, 0
	case told.GetRegistered() != nil:
		r := told.GetRegistered()
		r.EdgeProof, r.Generation, r.KeySets = "", 0, nil
	case told.GetGoodbye() != nil: // which the close may overtake; it says the same
		return m
	case told.GetHeartbeatAck() != nil:
		l.acks <- told.GetHeartbeatAck().GetSequence()
		return m
	}
	l.heard = append(l.heard, fmt.Sprint(told))
	return m
}

// transcript is all that the edge said, without the value that was asked about.
func (l *line) transcript(about *party) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.Join(l.heard, "\n")
	if about != l.who {
		for _, value := range about.marks() {
			if value != "" && about != l.i.other {
				text = strings.ReplaceAll(text, value, "…")
			}
		}
	}
	return text
}
