package route_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

const edgeHost = "edge.example"

func maple() []tenant.Tenant {
	return []tenant.Tenant{
		{ID: "maple", Name: "Maple", SignInHost: "signin.maple.example"},
		{ID: "cedar", Name: "Cedar", SignInHost: "signin.cedar.example"},
	}
}

func app(t id.Tenant, name, host, path string) tenant.App {
	return tenant.App{Tenant: t, ID: id.App(name), Host: host, Path: path, Site: "main"}
}

func TestDoors(t *testing.T) {
	table, err := route.Build(maple(), []tenant.App{
		app("maple", "all", "oscar.maple.example", "/"),
		app("maple", "ws", "oscar.maple.example", "/oscar/ws"),
		app("maple", "oscar", "oscar.maple.example", "/oscar"),
		app("cedar", "all", "oscar.cedar.example", "/oscar"),
	}, edgeHost)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]route.Kind{
		edgeHost: route.Tunnel, "signin.maple.example": route.SignIn, "oscar.maple.example": route.App,
		"oscar.cedar.example": route.App, "maple.example": 0, "x.oscar.maple.example": 0, "": 0, "OSCAR.maple.example": 0,
	} {
		d, ok := table.Host(host)
		if ok != (want != 0) || ok && d.Kind != want {
			t.Errorf("Host(%q) = %+v, %v; want kind %d", host, d, ok, want)
		}
	}
	d, _ := table.Host("oscar.maple.example")
	for path, want := range map[string]id.App{
		"/": "all", "/oscar": "oscar", "/oscar/": "oscar", "/oscarx": "all", "/oscar/ws": "ws", "/oscar/ws/x": "ws",
		"/oscar/wsx": "oscar", "/Oscar": "all",
	} {
		if a, ok := d.Match(path); !ok || a.ID != want || a.Tenant != "maple" {
			t.Errorf("Match(%q) = %q, %v; want %q", path, a.ID, ok, want)
		}
	}
	c, _ := table.Host("oscar.cedar.example")
	for _, path := range []string{"/", "/oscarx", "/manager/html", ""} {
		if a, ok := c.Match(path); ok {
			t.Errorf("Match(%q) = %q, want none", path, a.ID)
		}
	}
	if a, ok := table.App("cedar", "all"); !ok || a.Host != "oscar.cedar.example" {
		t.Errorf("App = %+v, %v", a, ok)
	}
	if _, ok := table.App("cedar", "ws"); ok {
		t.Error("cedar has maple's app")
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, apps := range map[string][]tenant.App{
		"edge's host":        {app("maple", "a", edgeHost, "/")},
		"own sign-in host":   {app("maple", "a", "signin.maple.example", "/")},
		"other's sign-in":    {app("maple", "a", "signin.cedar.example", "/x")},
		"host of two":        {app("maple", "a", "a.example", "/"), app("cedar", "b", "a.example", "/b")},
		"same path twice":    {app("maple", "a", "a.example", "/"), app("maple", "b", "a.example", "/")},
		"same id twice":      {app("maple", "a", "a.example", "/"), app("maple", "a", "b.example", "/")},
		"no tenant":          {app("birch", "a", "a.example", "/")},
		"upper case":         {app("maple", "a", "A.example", "/")},
		"port":               {app("maple", "a", "a.example:443", "/")},
		"wildcard":           {app("maple", "a", "*.example", "/")},
		"address":            {app("maple", "a", "10.0.0.1", "/")},
		"no host":            {app("maple", "a", "", "/")},
		"reserved path":      {app("maple", "a", "a.example", "/.sallyport")},
		"under reserved":     {app("maple", "a", "a.example", "/.sallyport/x")},
		"no path":            {app("maple", "a", "a.example", "")},
		"final slash":        {app("maple", "a", "a.example", "/oscar/")},
		"dots":               {app("maple", "a", "a.example", "/oscar/../x")},
		"encoded":            {app("maple", "a", "a.example", "/%6fscar")},
		"parameter":          {app("maple", "a", "a.example", "/oscar;x")},
		"not from the start": {app("maple", "a", "a.example", "oscar")},
	} {
		if _, err := route.Build(maple(), apps, edgeHost); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	same := []tenant.Tenant{{ID: "maple", SignInHost: "s.example"}, {ID: "cedar", SignInHost: "s.example"}}
	if _, err := route.Build(same, nil, edgeHost); err == nil {
		t.Error("one sign-in host for two tenants: built")
	}
	_, err := route.Build(maple(), []tenant.App{app("birch", "a", "a.example", "/"), app("maple", "b", "B.example", "/")}, edgeHost)
	if err == nil || !strings.Contains(err.Error(), "birch") || !strings.Contains(err.Error(), "B.example") {
		t.Errorf("not every fault is named: %v", err)
	}
}

type source struct {
	apps []tenant.App
	err  error
}

func (s *source) Tenants(context.Context) ([]tenant.Tenant, error)      { return maple(), s.err }
func (s *source) Apps(context.Context, id.Tenant) ([]tenant.App, error) { return s.apps, nil }

func TestReloadKeepsTheLastGoodTable(t *testing.T) {
	var current route.Current
	if current.Known(edgeHost) {
		t.Error("an empty table knows a host")
	}
	s := &source{apps: []tenant.App{app("maple", "a", "a.example", "/")}}
	if err := current.Reload(t.Context(), s, edgeHost); err != nil || !current.Known("a.example") {
		t.Fatalf("reload: %v", err)
	}
	before := current.Load()
	s.apps = append(s.apps, app("cedar", "b", "a.example", "/b"))
	if err := current.Reload(t.Context(), s, edgeHost); err == nil {
		t.Error("a host of two tenants was taken")
	}
	s.err = errors.New("away")
	if err := current.Reload(t.Context(), s, edgeHost); err == nil {
		t.Error("a source that fails was taken")
	}
	if current.Load() != before {
		t.Error("the table in force was replaced")
	}
}

// many is attack case H25: 200 tenants with 10 apps each.
func many() ([]tenant.Tenant, []tenant.App) {
	var tenants []tenant.Tenant
	var apps []tenant.App
	for i := range 200 {
		t := id.Tenant(fmt.Sprintf("t%d", i))
		tenants = append(tenants, tenant.Tenant{ID: t, SignInHost: fmt.Sprintf("signin.%s.example", t)})
		for j := range 10 {
			apps = append(apps, app(t, fmt.Sprintf("app%d", j), fmt.Sprintf("a%d.%s.example", j/2, t), fmt.Sprintf("/p%d", j)))
		}
	}
	return tenants, apps
}

func TestManyAppsBuildFast(t *testing.T) {
	tenants, apps := many()
	began := time.Now()
	table, err := route.Build(tenants, apps, edgeHost)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("2,000 apps took %s", took)
	}
	if n := table.Hosts(); n != 200+200*5+1 {
		t.Errorf("%d hosts", n)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	tenants, apps := many()
	table, err := route.Build(tenants, apps, edgeHost)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		host, _ := route.CanonicalHost("a3.t77.example:8443")
		d, ok := table.Host(host)
		if !ok {
			t.Fatal("no door")
		}
		if a, ok := d.Match("/p6/x"); !ok || a.ID != "app6" {
			t.Fatal("no app")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBuild(b *testing.B) {
	tenants, apps := many()
	for b.Loop() {
		if _, err := route.Build(tenants, apps, edgeHost); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	tenants, apps := many()
	table, _ := route.Build(tenants, apps, edgeHost)
	b.ReportAllocs()
	for b.Loop() {
		host, _ := route.CanonicalHost("a3.t77.example:8443")
		d, _ := table.Host(host)
		d.Match("/p6/x")
	}
}
