package adminapi_test

import (
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/route"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// One app that the route table does not take would keep the table of every clinic from being built again, and the edge from
// starting: whatever is accepted here must be routable.
func TestWhatIsPublishedCanBeRouted(t *testing.T) {
	w := serve(t)
	ctx := t.Context()
	if _, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "maple"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateSite(ctx, &adminv1.CreateSiteRequest{Tenant: "maple", Id: "main"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"", "/", "/oscar", "/oscar/ws", "/*", "/oscar/*", "/oscar/", "/a%20b", "/a:b", "/a@b", "/.sallyport", "/.sallyport/x", "/é", "/a!b", "/~a",
	} {
		_, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{Tenant: "maple", Site: "main", Host: "oscar.maple.example", Path: path})
		var table route.Current
		if fault := table.Reload(ctx, w.db.Tenants(), "edge.example"); fault != nil {
			t.Fatalf("path %q (%v): %v", path, err, fault)
		}
	}
	if apps, err := w.db.Tenants().Apps(ctx, "maple"); err != nil || len(apps) != 4 {
		t.Errorf("%d apps, want /, /oscar, /oscar/ws and /~a (%v)", len(apps), err)
	}
}
