// Package porttest finds ports for tests whose programs keep them over restarts.
package porttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below the range from which the system gives sockets theirs (ip_local_port_range begins at 32768 unless set): of those
// that it gives, one that is free now may be a stranger's a moment later.
const (
	least = 10_000
	most  = 32_767
)

// Free is a port that nobody has at 127.0.0.1, neither over TCP nor over UDP.
func Free(t testing.TB) int {
	t.Helper()
	for range 50 {
		port := least + rand.IntN(most-least+1)
		if free(t.Context(), net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) {
			return port
		}
	}
	t.Fatal("no port is free for both TCP and UDP")
	return 0
}

func free(ctx context.Context, address string) bool {
	var conf net.ListenConfig
	tcp, err := conf.Listen(ctx, "tcp", address)
	if err != nil {
		return false
	}
	udp, err := conf.ListenPacket(ctx, "udp", address)
	if err == nil {
		err = udp.Close()
	}
	return errors.Join(err, tcp.Close()) == nil
}
