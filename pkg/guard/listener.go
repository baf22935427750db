package guard

import (
	"net"
	"sync"
)

// Listener bounds the open connections of a listener, in all and for one source. What is too many is closed at once, before
// TLS: a listener that merely stopped accepting would let whoever holds its places shut everybody else out.
func (l *Limits) Listener(inner net.Listener) net.Listener {
	return &listener{Listener: inner, limits: l, open: map[string]int{}}
}

type listener struct {
	net.Listener
	limits *Limits

	mu    sync.Mutex // guards open and total
	open  map[string]int
	total int
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(c.RemoteAddr().String())
		if limit := l.enter(source); limit != "" {
			l.limits.refused.WithLabelValues(limit).Inc()
			_ = c.Close() // nothing was said to it yet
			continue
		}
		return &conn{Conn: c, listener: l, source: source}, nil
	}
}

// enter takes a place, or names the limit that is reached.
func (l *listener) enter(source string) string {
	if l.limits.memory.above(refuseAt) {
		return "memory"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.total >= l.limits.cfg.Connections:
		return "connections"
	case l.open[source] >= l.limits.cfg.ConnectionsPerSource:
		return "source-connections"
	}
	l.total++
	l.open[source]++
	return ""
}

func (l *listener) leave(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[source]--; l.open[source] == 0 {
		delete(l.open, source)
	}
}

type conn struct {
	net.Conn
	listener *listener
	source   string
	once     sync.Once
}

func (c *conn) Close() error {
	c.once.Do(func() { c.listener.leave(c.source) })
	return c.Conn.Close()
}
