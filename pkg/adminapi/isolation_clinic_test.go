package adminapi_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// sharedEmail is somebody who works in every clinic.
const sharedEmail = "dr.lee@shared.example"

// clinic is what a clinic has that a call can name.
type clinic struct {
	tenant, site, app, connector, session, token, email, user, service, host, signIn string
	version                                                                          uint64 // of its ingress rules, the newest
}

func (c clinic) rules() []byte {
	return []byte("# rules of " + c.tenant + "\nrules:\n  - origin: https://10.0.0.5:8443\n    preset: oscar\n")
}

// clinic makes one that has something of everything, its names beginning with tenant. Whatever has the same name in every clinic is
// there twice over: a site, a person, a service.
func (w *world) clinic(t *testing.T, running *running, tenant string, versions int) clinic {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := clinic{
		tenant: tenant, site: tenant + "-site", email: "dr@" + tenant + ".example", service: tenant + "-booking",
		host: "oscar." + tenant + ".example", signIn: "signin." + tenant + ".example",
	}
	_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: tenant, SignInHost: c.signIn})
	must(err)
	for _, site := range []string{"main", c.site} {
		_, err = w.CreateSite(ctx, &adminv1.CreateSiteRequest{Tenant: tenant, Id: site})
		must(err)
	}
	for _, email := range []string{sharedEmail, c.email} {
		made, err := w.AddUser(ctx, &adminv1.AddUserRequest{Tenant: tenant, Email: email, Quiet: true})
		must(err)
		c.user = made.User.Id
	}
	app, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{
		Tenant: tenant, Host: c.host, Site: "main", AllowUsers: []string{sharedEmail, c.email}, AllowServices: []string{"booking", c.service},
	})
	must(err)
	c.app = app.App.Id
	for _, service := range []string{"booking", c.service} {
		minted, err := w.MintToken(ctx, &adminv1.MintTokenRequest{Tenant: tenant, Service: service})
		must(err)
		c.token = minted.Token.Id
	}
	login, _, err := session.NewKeeper(w.db.Sessions(), session.Limits{}, time.Now).Create(ctx, session.Login{
		Tenant: id.Tenant(tenant), User: id.User(c.user), SignInHost: c.signIn, Methods: []string{"otp"}, Client: "browser of " + tenant, Source: "192.0.2.7",
	})
	must(err)
	c.session = string(login.ID)
	for range versions {
		set, err := w.SetIngress(ctx, &adminv1.SetIngressRequest{Tenant: tenant, Site: "main", Yaml: c.rules()})
		must(err)
		c.version = set.Ingress.Version
	}
	invited, err := w.InviteConnector(ctx, &adminv1.InviteConnectorRequest{Tenant: tenant, Site: "main"})
	must(err)
	c.connector = string(w.enrol(t, strings.Fields(invited.Command)[4]).ID)
	running.link(t, c)
	return c
}

// running is what an edge knows of connectors that are linked to it.
type running struct {
	links *registry.Registry
	of    map[id.Connector]controlserver.Ingress
}

func (r *running) Ingress() map[id.Connector]controlserver.Ingress { return r.of }

func (r *running) join(c *admin.Config) {
	r.links, r.of = registry.New(registry.Config{Logger: c.Logger, Metrics: metric.New()}), map[id.Connector]controlserver.Ingress{}
	c.Links, c.Running = r.links, r
}

// link gives a clinic's connector a link, an origin and an opinion of its rules.
func (r *running) link(t *testing.T, c clinic) {
	t.Helper()
	near, _ := exchangetest.Memory()
	leave, err := r.links.Join(registry.Member{
		Tenant: id.Tenant(c.tenant), Site: "main", Connector: id.Connector(c.connector), Generation: 1,
		Lane: tunnelv1.Lane_LANE_FAST, Link: addressed{near},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leave()
		_ = near.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	})
	r.links.Heard(id.Tenant(c.tenant), "main", addressed{near}, []*tunnelv1.OriginHealth{{Name: "origin of " + c.tenant}})
	r.of[id.Connector(c.connector)] = controlserver.Ingress{Refused: "refused by " + c.tenant}
}

// addressed is a link that comes from somewhere.
type addressed struct{ tunnel.Link }

func (a addressed) Info() tunnel.Info {
	i := a.Link.Info()
	i.Remote = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 8), Port: 443}
	return i
}
