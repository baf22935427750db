package proxy_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

type rogue func(ctx context.Context, in *exchange.Incoming, out *exchange.Answer)

func (r rogue) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	r(ctx, in, out)
}

// rogue puts another connector in place for the next exchange, one that does not go through ingress.
func (w *way) rogue(h rogue) {
	edgeEnd, connectorEnd := exchangetest.Memory()
	ctx, cancel := context.WithCancel(w.t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { serve(ctx, connectorEnd, h, &serving) })
	w.t.Cleanup(func() {
		cancel()
		_ = edgeEnd.Close(tunnel.Reason{Code: "goodbye"})
		serving.Wait()
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.picks = append(w.picks, func() (*registry.Member, error) {
		return &registry.Member{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 3, Link: edgeEnd}, nil
	})
}

// A connector that switches protocols with an address which may not leave must not get an empty 200 for it, nor anything else
// of its head to the browser.
func TestSwitchThatPointsElsewhere(t *testing.T) {
	w := newWay(t, socketOrigin(t), wayConfig{})
	w.rogue(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
		conn, err := out.Upgrade(wire.ResponseHead{Status: 101, Upgrade: "websocket", Header: wire.Header{
			{Name: "Set-Cookie", Value: "a=b"}, {Name: "Location", Value: "//evil.example/"},
		}})
		if err == nil {
			_, _ = conn.Read(make([]byte, 1))
		}
	})
	_, resp, err := dialSocket(t, w, "/oscar/ws/echo")
	if err == nil || resp == nil || resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("%v %v", resp, err)
	}
	if r := w.result(); r.Status != http.StatusBadGateway || r.ErrorCode != wire.CodeOriginProtocol {
		t.Errorf("outcome %+v", r)
	}
}
