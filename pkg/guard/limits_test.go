package guard_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/guard"
)

func TestTenantCannotTakeEverything(t *testing.T) {
	l := guard.NewLimits(guard.LimitConfig{InFlight: 10, PerTenant: 4}, nil, nil)
	var held []guard.Ticket
	for range 4 {
		ticket, refusal := l.Admit("maple")
		if refusal != nil {
			t.Fatal(refusal)
		}
		held = append(held, ticket)
	}
	if _, refusal := l.Admit("maple"); reason(refusal) != "tenant" || refusal.Status != 503 || refusal.RetryAfter == 0 {
		t.Errorf("fifth of maple: %v", refusal)
	}
	for range 4 {
		if _, refusal := l.Admit("cedar"); refusal != nil {
			t.Errorf("cedar: %v", refusal)
		}
	}
	for range 2 {
		if _, refusal := l.Admit(""); refusal != nil {
			t.Errorf("the edge itself: %v", refusal)
		}
	}
	if _, refusal := l.Admit("birch"); reason(refusal) != "in-flight" {
		t.Errorf("eleventh: %v", refusal)
	}
	held[0].Release()
	if _, refusal := l.Admit("maple"); refusal != nil {
		t.Errorf("after a release: %v", refusal)
	}
}

func TestStrangers(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := guard.NewLimits(guard.LimitConfig{StrangerInFlight: 3, StrangerRate: 1, StrangerBurst: 5, Sources: 2}, func() time.Time { return now }, nil)
	admit := func(remote string) string {
		ticket, refusal := l.AdmitStranger(remote)
		ticket.Release()
		return reason(refusal)
	}
	for i := range 5 {
		if got := admit(fmt.Sprintf("[2001:db8:0:1::%d]:1000", i)); got != "" {
			t.Errorf("request %d: %q", i, got)
		}
	}
	if got := admit("[2001:db8:0:1::ffff]:1"); got != "stranger" {
		t.Errorf("another address of the same /64: %q", got)
	}
	if got := admit("[2001:db8:0:2::1]:1"); got != "" {
		t.Errorf("another /64: %q", got)
	}
	now = now.Add(2 * time.Second)
	if got := admit("[2001:db8:0:1::1]:1"); got != "" {
		t.Errorf("two seconds later: %q", got)
	}
	for i := range 3 {
		if _, refusal := l.AdmitStranger("192.0.2.1:1"); refusal != nil {
			t.Errorf("held request %d: %v", i, refusal)
		}
	}
	if got := admit("192.0.2.1:2"); got != "stranger" {
		t.Errorf("fourth at once: %q", got)
	}
}

// TestManySourcesShareOneAccount fills the table: it stays bounded and whoever is beyond it is still limited.
func TestManySourcesShareOneAccount(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := guard.NewLimits(guard.LimitConfig{StrangerRate: 1, StrangerBurst: 10, Sources: 100}, func() time.Time { return now }, nil)
	refused := 0
	for i := range 1000 {
		ticket, refusal := l.AdmitStranger(fmt.Sprintf("10.0.%d.%d:1", i/250, i%250))
		ticket.Release()
		if refusal != nil {
			refused++
		}
	}
	if want := 1000 - 100 - 10; refused != want {
		t.Errorf("%d refused, want %d", refused, want)
	}
	now = now.Add(time.Minute)
	if ticket, refusal := l.AdmitStranger("10.9.9.9:1"); refusal != nil {
		t.Errorf("a newcomer after a quiet minute: %v", refusal)
	} else {
		ticket.Release()
	}
}

func TestListenerBoundsConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := guard.NewLimits(guard.LimitConfig{Connections: 5, ConnectionsPerSource: 3}, nil, nil).Listener(inner)
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var first net.Conn
	for range 3 {
		dial(t, l.Addr().String())
		first = <-accepted
	}
	c := dial(t, l.Addr().String())
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a fourth connection of one source was kept")
	}
	_ = first.Close()
	_ = first.Close() // counts once
	dial(t, l.Addr().String())
	<-accepted
	c = dial(t, l.Addr().String())
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("closing twice gave two places")
	}
	_ = l.Close()
	<-done
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}
