package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

func ingressOf(of id.Tenant, text string) tenant.Ingress {
	return tenant.Ingress{Tenant: of, Site: "main", YAML: []byte(text), Created: moment, By: "root"}
}

func testIngress(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	_, err := s.Ingress.Ingress(ctx, maple, "main", 0)
	wantCode(t, "rules that nobody set", err, fault.NotFound)
	_, err = s.Ingress.SetIngress(ctx, tenant.Ingress{Tenant: maple, Site: "elsewhere", YAML: []byte("x"), Created: moment})
	wantCode(t, "rules for a site that is not there", err, fault.NotFound)

	for i := range tenant.IngressHistory + 5 {
		want := ingressOf(maple, fmt.Sprintf("rules %d", i+1))
		want.Version = 77 // whatever it says
		got, err := s.Ingress.SetIngress(ctx, want)
		must(t, err)
		want.Version = uint64(i + 1)
		same(t, "set", want, got)
	}
	s = s.Reopen(t)
	newest := uint64(tenant.IngressHistory + 5)
	for asked, want := range map[uint64]uint64{0: newest, newest: newest, newest - 1: newest - 1, 6: 6} {
		got, err := s.Ingress.Ingress(ctx, maple, "main", asked)
		must(t, err)
		if got.Version != want || string(got.YAML) != fmt.Sprintf("rules %d", want) || !got.Created.Equal(moment) || got.By != "root" {
			t.Errorf("version %d: %+v", asked, got)
		}
	}
	_, err = s.Ingress.Ingress(ctx, maple, "main", 5)
	wantCode(t, "a version that was forgotten", err, fault.NotFound)
	all, err := s.Ingress.IngressVersions(ctx, maple, "main")
	must(t, err)
	if len(all) != tenant.IngressHistory || all[0].Version != newest || all[len(all)-1].Version != 6 {
		t.Errorf("history: %d versions", len(all))
	}
	cleared, err := s.Ingress.SetIngress(ctx, tenant.Ingress{Tenant: maple, Site: "main", Created: moment, By: "uid 7"})
	must(t, err)
	got, err := s.Ingress.Ingress(ctx, maple, "main", 0)
	must(t, err)
	same(t, "cleared", cleared, got)
	if got.Version != newest+1 || len(got.YAML) != 0 {
		t.Errorf("cleared: %+v", got)
	}
}

// Two who set rules at once get a version each.
func testIngressRace(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	var mu sync.Mutex
	seen := map[uint64]bool{}
	race(t, func(int) error {
		got, err := s.Ingress.SetIngress(t.Context(), ingressOf(maple, "x"))
		mu.Lock()
		defer mu.Unlock()
		if seen[got.Version] {
			t.Errorf("version %d twice", got.Version)
		}
		seen[got.Version] = true
		return err
	})
}
