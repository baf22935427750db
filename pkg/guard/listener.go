package guard

import (
	"net"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/gather"
)

// Listener bounds the open connections of a listener, in all and for one source. What is too many is closed at once, before
// TLS: a listener that merely stopped accepting would let whoever holds its places shut everybody else out.
func (l *Limits) Listener(inner net.Listener) net.Listener {
	return &listener{Listener: inner, places: l.Connections()}
}

// Connections counts the open connections of one listener, in all and for one source.
type Connections struct {
	limits *Limits

	mu    sync.Mutex // guards open and total
	open  map[string]int
	total int
}

// Connections returns a count with nothing open, for transports that have no net.Listener.
func (l *Limits) Connections() *Connections {
	return &Connections{limits: l, open: map[string]int{}}
}

// Enter takes a place for a connection from remote, host:port; leave gives it back, once however often it is called. False:
// a limit is reached, and the connection is to be closed.
func (c *Connections) Enter(remote string) (leave func(), ok bool) {
	source := sourceOf(remote)
	if limit := c.enter(source); limit != "" {
		c.limits.refused.WithLabelValues(limit).Inc()
		return nil, false
	}
	return sync.OnceFunc(func() { c.leave(source) }), true
}

// enter takes a place, or names the limit that is reached.
func (c *Connections) enter(source string) string {
	if c.limits.memory.above(refuseAt) {
		return "memory"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.total >= c.limits.cfg.Connections:
		return "connections"
	case c.open[source] >= c.limits.cfg.ConnectionsPerSource:
		return "source-connections"
	}
	c.total++
	c.open[source]++
	return ""
}

func (c *Connections) leave(source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.open[source]--; c.open[source] == 0 {
		delete(c.open, source)
	}
}

type listener struct {
	net.Listener
	places *Connections
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave, ok := l.places.Enter(c.RemoteAddr().String())
		if !ok {
			_ = c.Close() // nothing was said to it yet
			continue
		}
		return &conn{Conn: gather.NewConn(c), leave: leave}, nil
	}
}

// conn is a connection that was counted. Its writes can be held back, for large ones over TLS.
type conn struct {
	*gather.Conn
	leave func()
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}
