package edge

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Many clinics with ten apps each on two edges (attack case H25): a change is live on both at once, and changes leave nothing behind
// in memory. SALLYPORT_TENANTS=200 is the case in full; it takes a minute to set up.
func TestAChangeAmongManyAppsIsLiveAtOnce(t *testing.T) {
	tenants, apps := 10, 10
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_TENANTS")); err == nil {
		tenants = n
	}
	east, west := nodes(t, pgtest.Database(t), same)
	ctx, now := t.Context(), time.Now()
	create := func(clinic, number int) string {
		t.Helper()
		host := fmt.Sprintf("app%d.c%d.example", number, clinic)
		rule := policy.Rule{ID: "r", Effect: policy.Allow, Include: []policy.Selector{{Kind: policy.UserPrincipal, ID: string(doctor)}}}
		if err := east.store.Tenants().CreateApp(ctx, tenant.App{
			Tenant: id.Tenant(fmt.Sprintf("c%d", clinic)), ID: id.App(fmt.Sprintf("app_%d_%d", clinic, number)), Host: host, Path: "/", Site: "main",
			Name: "OSCAR", Rules: []policy.Rule{rule}, Created: now,
		}); err != nil {
			t.Fatal(err)
		}
		return host
	}
	began := time.Now()
	var last string
	for clinic := range tenants {
		name := id.Tenant(fmt.Sprintf("c%d", clinic))
		if err := east.store.Tenants().CreateTenant(ctx, tenant.Tenant{ID: name, SignInHost: fmt.Sprintf("signin.c%d.example", clinic), Created: now}); err != nil {
			t.Fatal(err)
		}
		if err := east.store.Tenants().CreateSite(ctx, tenant.Site{Tenant: name, ID: "main", Created: now}); err != nil {
			t.Fatal(err)
		}
		for number := range apps {
			last = create(clinic, number)
		}
	}
	live := func(host string) time.Duration {
		t.Helper()
		began := time.Now()
		for _, n := range []*node{east, west} {
			eventually(t, host, func() bool { _, ok := n.routes.Load().Host(host); return ok })
		}
		return time.Since(began)
	}
	live(last)
	t.Logf("made in %s", time.Since(began))
	before := alive()
	var took []time.Duration
	for number := range 60 {
		took = append(took, live(create(number%tenants, apps+number)))
	}
	slices.Sort(took)
	most := took[50] // what else the machine does may hold a few up
	t.Logf("changes are live on both within %s, the last within %s", most, took[59])
	if most > 3*time.Second {
		t.Errorf("ten changes of 60 took %s and more", most)
	}
	// What a change made is let go of when the next view of the tables has replaced it, which a slow machine does later.
	eventually(t, "the heap back where it was", func() bool { return alive()-before < 16<<20 })
}

// alive is what the heap holds after two collections.
func alive() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
