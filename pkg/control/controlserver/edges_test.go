package controlserver_test

import (
	"testing"
	"testing/synctest"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func edgeAddresses(urls ...string) (out []*tunnelv1.EdgeAddress) {
	for _, u := range urls {
		out = append(out, &tunnelv1.EdgeAddress{Url: u, Weight: 1})
	}
	return out
}

// Told when the link is admitted and when the list changes, in canonical form; not when it does not change, and nothing at all
// without a list.
func TestConnectorsAreToldOfEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := make(chan *tunnelv1.Edges, 8)
		dialed, _, ended, served := w.up(t, controlclient.Handlers{Edges: func(e *tunnelv1.Edges) { got <- e }})
		set := func(list []*tunnelv1.EdgeAddress) {
			if err := w.server.SetEdges(list); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		expect := func(when string, want int) {
			if len(got) != want {
				t.Fatalf("%s: %d lists, want %d", when, len(got), want)
			}
		}
		expect("without a list", 0)
		set(edgeAddresses("https://a.example:443", "https://b.example"))
		expect("with a list", 1)
		if first := <-got; first.GetEdges()[0].GetUrl() != "https://a.example" || len(first.GetEdges()) != 2 {
			t.Errorf("%v", first)
		}
		set(edgeAddresses("https://a.example", "https://b.example"))
		expect("with the same list", 0)
		set(edgeAddresses("https://b.example"))
		expect("with another list", 1)
		<-got
		_, _, ended2, served2 := w.up(t, controlclient.Handlers{Edges: func(e *tunnelv1.Edges) { got <- e }})
		expect("to a new link", 1)
		_ = dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
		w.server.Close()
		<-ended
		<-served
		<-ended2
		<-served2
	})
}

func TestBadListOfEdgesChangesNothing(t *testing.T) {
	w := newWorld(t)
	for name, list := range map[string][]*tunnelv1.EdgeAddress{
		"http":   edgeAddresses("http://a.example"),
		"a user": edgeAddresses("https://u@a.example"),
		"twice":  edgeAddresses("https://a.example", "https://a.example:443"),
		"17":     make([]*tunnelv1.EdgeAddress, 17),
		"heavy":  {{Url: "https://a.example", Weight: 1001}},
	} {
		if err := w.server.SetEdges(list); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
