package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// links takes the connectors' links of both transports and hands each to control, which admits it or not.
type links struct {
	control *controlserver.Server
	quic    tunnel.Listener // nil when QUIC is off
	logger  *zap.Logger

	mu      sync.Mutex // guards closed; a link may be added to serving only while it is false
	closed  bool
	stop    context.CancelFunc
	ctx     context.Context // ends every link; the links outlive the request that brought them
	serving sync.WaitGroup
}

func newLinks(control *controlserver.Server, quic tunnel.Listener, logger *zap.Logger) *links {
	ctx, stop := context.WithCancel(context.Background())
	return &links{control: control, quic: quic, logger: logger, ctx: ctx, stop: stop}
}

// Run accepts links over QUIC until ctx ends, then ends all links.
func (l *links) Run(ctx context.Context) error {
	err := l.accept(ctx)
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.control.Close()
	l.stop()
	l.serving.Wait()
	return err
}

func (l *links) accept(ctx context.Context) error {
	if l.quic == nil {
		<-ctx.Done()
		return nil
	}
	for {
		link, err := l.quic.Accept(ctx)
		switch {
		case err == nil:
			l.serve(link)
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return nil //nolint:nilerr // that ends the work, and is no failure
		default:
			return err
		}
	}
}

// serve speaks with a link until it ends.
func (l *links) serve(link tunnel.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonShutdown, Message: "the edge stops"})
		return
	}
	l.serving.Go(func() { l.ended(l.control.ServeLink(l.ctx, link)) })
}

// ended has room for a line of the log on its stack, which serve's goroutines, one for each link, are spared.
func (l *links) ended(err error) {
	if err != nil {
		l.logger.Info("link not admitted", zap.Error(err))
	}
}

// ServeHTTP takes a link over WebSocket.
func (l *links) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := comerOf(r)
	link, err := wslink.Accept(w, r, wslink.Config{Admitted: c.admitted})
	if err != nil {
		c.left()
		l.logger.Info("websocket link refused", zap.Error(err))
		return
	}
	l.serve(link)
}

// freezeLimit bounds writing down that a connector is frozen.
const freezeLimit = 5 * time.Second

// freeze writes down that a connector's key is in use twice, so that it stays out after a restart too, until an operator
// thaws it.
func (e *Edge) freeze(a registry.Alarm) {
	if !a.Frozen {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), freezeLimit)
	defer cancel()
	if err := e.store.Enroll().SetFrozen(ctx, a.Tenant, a.Connector, a.Why); err != nil {
		e.logger.Error("a frozen connector is frozen until the next restart only", log.Tenant(a.Tenant), log.Connector(a.Connector), zap.Error(err))
	}
}
