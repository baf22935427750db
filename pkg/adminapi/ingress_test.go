package adminapi_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func TestIngressRulesAreCheckedAndKeptInVersions(t *testing.T) {
	w := serve(t)
	w.maple(t)
	ctx := t.Context()
	good := []byte("rules:\n  - origin: https://10.0.0.5:8443\n    preset: oscar\n")
	set := func(site string, text []byte) (*adminv1.Ingress, error) {
		resp, err := w.SetIngress(ctx, &adminv1.SetIngressRequest{Tenant: "maple", Site: site, Yaml: text})
		return resp.GetIngress(), err
	}
	for name, c := range map[string]struct {
		site, text string
		code       connect.Code
		words      []string
	}{
		"every fault at once": {"main", "rules:\n  - orign: x\n  - origin: ftp://x\n", connect.CodeInvalidArgument, []string{"line 2", "line 3", "unknown key orign"}},
		"a file there":        {"main", "rules:\n  - origin: https://10.0.0.5\n    tls: {ca_file: /etc/ca.pem}\n", connect.CodeInvalidArgument, []string{"pin_sha256"}},
		"nothing":             {"main", "", connect.CodeInvalidArgument, []string{"empty"}},
		"no such site":        {"annex", string(good), connect.CodeNotFound, []string{"edge site list"}},
	} {
		_, err := set(c.site, []byte(c.text))
		if connect.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		for _, words := range c.words {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v lacks %q", name, err, words)
			}
		}
	}
	if _, err := w.ClearIngress(ctx, &adminv1.ClearIngressRequest{Tenant: "maple", Site: "main"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("clearing nothing: %v", err)
	}
	for want := uint64(1); want <= 2; want++ {
		made, err := set("main", good)
		if err != nil || made.Version != want || made.By == "" || made.CreatedMs == 0 {
			t.Fatalf("%+v, %v", made, err)
		}
	}
	cleared, err := w.ClearIngress(ctx, &adminv1.ClearIngressRequest{Tenant: "maple", Site: "main"})
	if err != nil || cleared.Ingress.Version != 3 || cleared.Ingress.Size != 0 {
		t.Fatalf("%+v, %v", cleared, err)
	}
	old, err := w.GetIngress(ctx, &adminv1.GetIngressRequest{Tenant: "maple", Site: "main", Version: 2})
	if err != nil || string(old.Ingress.Yaml) != string(good) {
		t.Errorf("%+v, %v", old, err)
	}
	list, err := w.ListIngress(ctx, &adminv1.ListIngressRequest{Tenant: "maple", Site: "main"})
	if err != nil || len(list.Versions) != 3 || list.Versions[0].Version != 3 || list.Versions[1].Size != uint32(len(good)) || list.Versions[1].Yaml != nil {
		t.Errorf("%+v, %v", list, err)
	}

	invite, err := w.InviteConnector(ctx, &adminv1.InviteConnectorRequest{Tenant: "maple", Site: "main"})
	if err != nil {
		t.Fatal(err)
	}
	c := w.enrol(t, strings.Fields(invite.Command)[4])
	status, err := w.IngressStatus(ctx, &adminv1.IngressStatusRequest{Tenant: "maple", Site: "main"})
	if err != nil || status.Version != 3 || len(status.Connectors) != 1 || status.Connectors[0].Connector != string(c.ID) || status.Connectors[0].Linked {
		t.Errorf("%+v, %v", status, err)
	}
	// Another clinic's are not found.
	if _, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "birch"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.GetIngress(ctx, &adminv1.GetIngressRequest{Tenant: "birch", Site: "main"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("another clinic's rules: %v", err)
	}
}
