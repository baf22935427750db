package controlserver_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Lost packets are made good where both sides can, and not where one of them would not know what comes.
func TestRepairIsAgreedUpon(t *testing.T) {
	for _, edge := range []bool{false, true} {
		for _, connector := range []bool{false, true} {
			t.Run(fmt.Sprintf("edge=%v connector=%v", edge, connector), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					dialed, accepted := memPair()
					dialed.repairable, accepted.repairable = connector, edge
					served := w.serve(t.Context(), accepted)
					link, err := controlclient.Open(t.Context(), dialed, w.client())
					if err != nil {
						t.Fatal(err)
					}
					done := make(chan error, 1)
					go func() { done <- link.Serve(t.Context(), controlclient.Handlers{}) }()
					synctest.Wait()
					for name, end := range map[string]*memLink{"connector": dialed, "edge": accepted} {
						if got, want := end.repaired.Load(), edge && connector; got != want {
							t.Errorf("the %s repairs: %v, want %v", name, got, want)
						}
					}
					_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
					<-done
					<-served
				})
			})
		}
	}
}
