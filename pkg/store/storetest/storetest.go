// Package storetest owns the conformance suite of the store: what the domain's Store interfaces promise, asked of whatever
// implements them. It knows no SQL and no file; a store that passes may stand behind the edge.
package storetest

import (
	"crypto/ed25519"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// Stores are the stores of one empty database.
type Stores struct {
	Tenants  tenant.Store
	Identity identity.Store
	Sessions session.Store
	Keys     token.KeyStore
	Services token.ServiceStore
	Audit    audit.Store
	Merger   audit.Merger
	Enroll   enroll.Store
	Ingress  tenant.IngressStore
	Codes    emailotp.Store
	Changes  change.Log
	Cluster  cluster.Store
	// Later has the clock that leases are measured by go on; nil where it cannot.
	Later func(t *testing.T, by time.Duration)
	// Authority is the authority of a cluster.
	Authority cluster.AuthorityStore
	// Reopen closes the database and opens it again, as after a restart.
	Reopen func(t *testing.T) Stores
}

// Run runs the suite; open makes an empty database and has it closed at the end of the test.
func Run(t *testing.T, open func(t *testing.T) Stores) {
	for _, part := range []struct {
		name string
		test func(t *testing.T, s Stores)
	}{
		{"Tenants", testTenants},
		{"Hosts", testHosts},
		{"Apps", testApps},
		{"Users", testUsers},
		{"DisablingEndsSessions", testDisabling},
		{"Sessions", testSessions},
		{"SessionEdges", testSessionEdges},
		{"Handoffs", testHandoffs},
		{"HandoffRace", testHandoffRace},
		{"Keys", testKeys},
		{"KeyRace", testKeyRace},
		{"KeyRotation", testRotation},
		{"KeyRotationRace", testRotationRace},
		{"Authority", testAuthority},
		{"AuthorityRace", testAuthorityRace},
		{"ServiceTokens", testServiceTokens},
		{"Enrolment", testEnrolment},
		{"EnrolmentRace", testEnrolmentRace},
		{"Generations", testGenerations},
		{"Runs", testRuns},
		{"DeadRun", testDeadRun},
		{"RunRace", testRunRace},
		{"Ingress", testIngress},
		{"IngressRace", testIngressRace},
		{"Codes", testCodes},
		{"CodeRace", testCodeRace},
		{"Buckets", testBuckets},
		{"BucketRace", testBucketRace},
		{"KnownBrowsers", testKnown},
		{"Purge", testPurge},
		{"Records", testRecords},
		{"RecordsMany", testRecordsMany},
		{"RecordsOfOddBytes", testRecordsOddBytes},
		{"RecordsOnce", testRecordsOnce},
		{"RecordsRace", testRecordsRace},
		{"RecordsFailure", testRecordsFailure},
		{"Changes", testChanges},
		{"ChangesRace", testChangesRace},
		{"Edges", testEdges},
		{"Leases", testLeases},
		{"Lapse", testLapse},
		{"TenantIsolation", testIsolation},
		{"TenantIsolationOfRows", testIsolationOfRows},
		{"Durability", testDurability},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, open(t))
		})
	}
}

// racers is how many callers at once go for something that only one may have.
const racers = 32

// The fixed moment of the suite, and clinics in it. Both have a site "main" and an app "oscar", as clinics do.
var moment = time.UnixMilli(1_790_000_000_000).UTC()

const maple, birch = id.Tenant("maple"), id.Tenant("birch")

// clinic is what seed makes of one tenant.
type clinic struct {
	Tenant    id.Tenant
	User      identity.User
	App       tenant.App
	Session   session.Session
	Reference session.Reference
	Token     token.ServiceToken
	Connector enroll.Connector
}

// seed fills one tenant with one of everything.
func seed(t *testing.T, s Stores, of id.Tenant) clinic {
	t.Helper()
	c := clinic{Tenant: of}
	seedTenant(t, s, of)
	c.App = app(of, "/oscar")
	must(t, s.Tenants.CreateApp(t.Context(), c.App))
	c.User = user(of, "dr.lee@clinic.example")
	must(t, s.Identity.CreateUser(t.Context(), c.User))
	c.Session, c.Reference = login(t, s, c.User)
	c.Token = token.ServiceToken{Tenant: of, ID: id.NewToken(), Service: "booking", Created: moment, Expires: moment.Add(time.Hour)}
	must(t, s.Services.CreateServiceToken(t.Context(), c.Token))
	c.Connector = connector(t, s, of)
	return c
}

func seedTenant(t *testing.T, s Stores, of id.Tenant) {
	t.Helper()
	must(t, s.Tenants.CreateTenant(t.Context(), tenant.Tenant{
		ID: of, Name: "Clinic " + string(of),
		SignInHost: "signin." + string(of) + ".example", Zone: "America/Toronto", Created: moment,
	}))
	must(t, s.Tenants.CreateSite(t.Context(), tenant.Site{Tenant: of, ID: "main", Created: moment}))
}

func app(of id.Tenant, path string) tenant.App {
	return tenant.App{
		Tenant: of, ID: id.NewApp(), Host: "oscar." + string(of) + ".example", Path: path, Site: "main", Name: "OSCAR",
		Landing: []string{"/oscar/index.jsp"}, WebSocket: []string{"/oscar/ws"}, Created: moment, Rules: []policy.Rule{{
			ID:     "r1",
			Effect: policy.Allow, Include: []policy.Selector{{Kind: policy.ServicePrincipal, ID: "booking"}},
		}},
	}
}

func user(of id.Tenant, email string) identity.User {
	u := identity.User{Tenant: of, ID: id.NewUser(), Issuer: identity.LocalIssuer, Email: email, Created: moment}
	u.Subject = string(u.ID)
	return u
}

func login(t *testing.T, s Stores, u identity.User) (session.Session, session.Reference) {
	t.Helper()
	one := session.Session{
		Tenant: u.Tenant, ID: id.NewSession(), User: u.ID, Methods: []string{"otp", "mfa"}, Created: moment,
		LastSeen: moment, Expires: moment.Add(12 * time.Hour), IdleFor: 30 * time.Minute, Client: "Firefox", Source: "192.0.2.7",
	}
	ref := session.Reference{
		Tenant: u.Tenant, Hash: "ref-" + string(one.ID), Session: one.ID,
		Host: "signin." + string(u.Tenant) + ".example", Created: moment,
	}
	must(t, s.Sessions.CreateSession(t.Context(), one, ref))
	return one, ref
}

func connector(t *testing.T, s Stores, of id.Tenant) enroll.Connector {
	t.Helper()
	hash := invite(t, s, of)
	c, err := s.Enroll.Enroll(t.Context(), hash, publicKey(1), id.NewConnector(), moment)
	must(t, err)
	return c
}

func invite(t *testing.T, s Stores, of id.Tenant) (hash string) {
	t.Helper()
	i := enroll.Invite{Tenant: of, ID: id.NewInvite(), Site: "main", Expires: moment.Add(enroll.InviteLife), Created: moment}
	i.Hash = "hash-" + string(i.ID)
	must(t, s.Enroll.CreateInvite(t.Context(), i))
	return i.Hash
}

func publicKey(b byte) ed25519.PublicKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = b
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode checks that err carries a fault code, and words without the store's own.
func wantCode(t *testing.T, what string, err error, code fault.Code) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Errorf("%s: %v (%s), want %s", what, err, fault.CodeOf(err), code)
	}
}

// same compares values; nil and empty lists are the same.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// race calls f from many goroutines that start together and returns how many succeeded; every other error must carry one
// of codes.
func race(t *testing.T, f func(i int) error, codes ...fault.Code) int {
	t.Helper()
	var won atomic.Int64
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			<-start
			err := f(i)
			if err == nil {
				won.Add(1)
				return
			}
			for _, c := range codes {
				if fault.Is(err, c) {
					return
				}
			}
			t.Errorf("racer %d: %v", i, err)
		})
	}
	close(start)
	wg.Wait()
	return int(won.Load())
}

// errNo stands for an answer of "false" where race wants an error.
var errNo = fault.New(fault.Denied, "no")

func yes(ok bool, err error) error {
	if err == nil && !ok {
		return errNo
	}
	return err
}

func name(prefix string, i int) string { return fmt.Sprintf("%s-%d", prefix, i) }
