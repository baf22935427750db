package edge

import (
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/gather"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// inside is the listener of connections that connectors make inside a WebSocket, because a firewall opens the TLS around it. Each
// is as good as one to the edge's port: it begins with TLS, and goes the way of every request. Who may come in that way needs no
// word of the operator's: what is proved in a link or paid for in an enrolment hangs on the TLS inside, which nobody opened.
type inside struct {
	at     net.Addr
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
	logger *zap.Logger
	count  *prometheus.CounterVec
}

var (
	_ net.Listener = (*inside)(nil)
	_ http.Handler = (*inside)(nil)
)

func newInside(at net.Addr, logger *zap.Logger, metrics *metric.Registry) *inside {
	return &inside{
		at: at, conns: make(chan net.Conn), closed: make(chan struct{}), logger: logger,
		count: metrics.Counter("sallyport_edge_inside_total", "Connections that connectors asked for inside a WebSocket, where a firewall opens TLS.", "result"),
	}
}

// ServeHTTP takes a connection. There is none inside another one, which would be a way to have the edge work without end.
func (i *inside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	outer := comerOf(r)
	if outer == nil || outer.inner != nil {
		i.count.WithLabelValues("refused").Inc()
		http.Error(w, "a connection inside a WebSocket is made from outside of one", http.StatusBadRequest)
		return
	}
	inner, err := wslink.AcceptInner(w, r)
	if err != nil {
		outer.left()
		i.count.WithLabelValues("refused").Inc()
		i.logger.Info("connection inside a WebSocket refused", zap.Error(err))
		return
	}
	i.count.WithLabelValues("taken").Inc()
	c := &comer{Conn: gather.NewConn(inner), inner: inner}
	outer.handOn(c)
	select {
	case i.conns <- c:
	case <-i.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (i *inside) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (i *inside) Close() error {
	i.close.Do(func() { close(i.closed) })
	return nil
}

// Addr implements net.Listener: the edge's port.
func (i *inside) Addr() net.Addr { return i.at }
