//go:build !linux

package wslink

import (
	"net"
	"time"
)

func askFor(net.Conn, string) string { return "" }

func measure(net.Conn) (smoothed, least time.Duration, acked uint64) { return 0, 0, 0 }
