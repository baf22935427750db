package edgetest_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// replacements is how often each process is replaced: 2, or what SALLYPORT_REPLACEMENTS says.
func replacements() int {
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_REPLACEMENTS")); err == nil {
		return n
	}
	return 2
}

// restartWorld is a clinic whose processes do not wait long for WebSockets when they end.
func restartWorld(t *testing.T, noQUIC bool) *edgetest.World {
	t.Helper()
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	return edgetest.Start(t, edgetest.Options{Origin: origin.URL, NoQUIC: noQUIC, Upgraded: 3 * time.Second, Drain: 10 * time.Second, OwnProgram: true})
}

// ended waits until a process has ended as it should.
func ended(t *testing.T, p *edgetest.Process) {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(45 * time.Second):
		t.Fatal("the old process does not end")
	}
	if code := p.ExitCode(); code != 0 {
		t.Errorf("the old process ended with %d", code)
	}
}

// Not one request fails while edge and connector are replaced again and again under load, each by itself and both at once, with
// links over QUIC and over WebSocket. A WebSocket is cut when its old process has waited for as long as it is told to.
func TestNoRequestFailsWhileBothAreReplaced(t *testing.T) {
	transports(t, func(t *testing.T, noQUIC bool) {
		w := restartWorld(t, noQUIC)
		l := newLoad(t, atWork(t, w), without{http3: noQUIC})
		first := w.Connector.PID()
		for n := range replacements() {
			l.more() // it was at work before, and is at work after
			old := w.Edge
			if n%2 == 1 {
				restarted := make(chan error, 1)
				go func() { restarted <- w.RestartConnector() }()
				w.Edge = old.Successor()
				if err := <-restarted; err != nil {
					t.Fatal(err)
				}
			} else {
				w.Edge = old.Successor()
				l.more()
				cuts := l.cuts.Load()
				if err := w.RestartConnector(); err != nil {
					t.Fatal(err)
				}
				if before := l.echoes.Load(); l.cuts.Load() == cuts {
					w.Wait("the WebSocket to go on", func() error {
						if l.echoes.Load() < before+2 {
							return errors.New("no echo")
						}
						return nil
					})
				}
			}
			l.more()
			ended(t, old)
			if n == 0 {
				ended(t, w.Connector)
			}
		}
		l.more()
		l.end()
		if cuts, most := l.cuts.Load(), int64(2*replacements()+1); cuts > most { // the last cut is the test's
			t.Errorf("the WebSocket was cut %d times by %d processes that ended", cuts, most-1)
		}
		if strings.Contains(w.Edge.Log(), "copied connector key") {
			t.Error("the edge takes a successor for a copied key")
		}
		if w.Connector.Taken() == first {
			t.Error("the connector was not replaced")
		}
		resp, err := http.Get(w.Loopback(w.Connector) + "/ready")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := edgetest.ReadAll(resp); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("/ready of the last connector: %s %v %s", resp.Status, err, text)
		}
	})
}

// A program that does not come up, or one whose rules are bad, leaves the connector that runs as it is, and the command says so.
func TestABrokenSuccessorLeavesTheConnectorRunning(t *testing.T) {
	w := restartWorld(t, false)
	l := newLoad(t, atWork(t, w), without{})
	l.more()
	before := w.Connector.PID()
	refused := func(why string) {
		t.Helper()
		if err := w.RestartConnector(); err == nil || !strings.Contains(err.Error(), "the successor ended before it was ready (exit status") {
			t.Errorf("%s: connector restart says %v", why, err)
		}
		l.more()
		if l.cuts.Load() > 0 {
			t.Errorf("%s: the WebSocket was cut", why)
		}
	}
	good := w.ConnectorProgram()
	w.InstallConnector([]byte("#!/bin/sh\nexit 7\n"))
	refused("a broken program")
	w.InstallConnector(good)
	file := filepath.Join(w.Dir, "ingress.yaml")
	rules, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, "rules:\n  - orign: http://localhost\n")
	refused("bad rules")
	if !strings.Contains(w.Connector.Log(), "\nconnector: "+file) {
		t.Error("the successor did not say what is wrong with the rules")
	}
	write(t, file, string(rules))
	select {
	case <-w.Connector.Ended():
		t.Fatal("the connector ended")
	default:
	}
	if err := w.RestartConnector(); err != nil { // and a good one is taken after all
		t.Fatal(err)
	}
	if pid := w.Connector.Taken(); pid == 0 || pid == before {
		t.Errorf("process %d serves after %d", pid, before)
	}
	l.more()
	ended(t, w.Connector)
	l.more()
	l.end()
}

// With two connectors at a site each may simply be stopped and started: the other takes what is new, and what runs is finished. (A
// WebSocket would be waited for until drain_timeout.)
func TestNoRequestFailsWhileTwoConnectorsRestartInTurn(t *testing.T) {
	transports(t, func(t *testing.T, noQUIC bool) {
		w := restartWorld(t, noQUIC)
		both := []*edgetest.Process{w.Connector, w.AddConnector()}
		l := newLoad(t, atWork(t, w), without{http3: noQUIC, socket: true})
		for range (replacements() + 1) / 2 {
			for _, p := range both {
				l.more()
				p.Stop()
				if code := p.ExitCode(); code != 0 {
					t.Errorf("it ended with %d", code)
				}
				l.more()
				p.Start()
				w.WaitReady(p)
			}
		}
		l.more()
		l.end()
	})
}

// One of two connectors is killed, and comes back after a while: people go on at once with the other, wherever their session was.
func TestPeopleGoOnWhenOneOfTwoConnectorsIsKilled(t *testing.T) {
	w := restartWorld(t, false)
	both := []*edgetest.Process{w.Connector, w.AddConnector()}
	d := atWork(t, w)
	for n, p := range both {
		w.Wait("both to have a link for each lane", func() error {
			if strings.Count(metrics(t, w), `sallyport_registry_links{transport="websocket"} 2`) == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		p.Kill()
		w.Wait("the edge to see a link break off", func() error {
			if strings.Count(w.Edge.Log(), "a link broke off") <= n {
				return errors.New("not yet")
			}
			return nil
		})
		for i := range 20 {
			if err := readOrWrite(d.Visitor, w, i, false); err != nil {
				t.Fatalf("connector %d of 2 is gone: %v", n+1, err)
			}
		}
		p.Start()
		w.WaitReady(p)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The service manager takes the successor for the unit's main process before the old one ends, and hears no word of that one's end.
func TestTheServiceManagerLearnsOfTheSuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL, NoConnector: true})
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1000000")
	w.Connector.Start()
	t.Cleanup(w.Connector.Kill)
	await := func(want string) {
		t.Helper()
		_ = manager.SetReadDeadline(time.Now().Add(edgetest.Patience))
		for buf := make([]byte, 4096); ; {
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("no %q: %v", want, err)
			}
			switch said := string(buf[:n]); {
			case said == want:
				return
			case strings.HasPrefix(said, "STOPPING"):
				t.Fatalf("%q before %q", said, want)
			}
		}
	}
	await("READY=1")
	w.WaitReady(w.Connector)
	if err := w.RestartConnector(); err != nil {
		t.Fatal(err)
	}
	await(fmt.Sprintf("MAINPID=%d", w.Connector.Taken()))
	await("READY=1")
	await("WATCHDOG=1")
	ended(t, w.Connector)
	await("WATCHDOG=1")
}

// edge restart replaces the edge by a process that the running edge starts itself.
func TestRestartCommand(t *testing.T) {
	w := restartWorld(t, false)
	l := newLoad(t, atWork(t, w), without{})
	l.more()
	w.Admin("restart")
	pid := 0
	w.Wait("the successor in the log", func() error {
		if pid = w.Edge.Taken(); pid == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGTERM) })
	l.more()
	ended(t, w.Edge)
	l.end()
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the successor: %v", err)
	}
}

// What is open in an edge that was replaced goes on there, and a revocation, which the new one is told of, reaches it in time.
func TestRevocationReachesTheEdgeThatWasReplaced(t *testing.T) {
	origin := httptest.NewServer(edgetest.StandIn())
	t.Cleanup(origin.Close)
	w := edgetest.Start(t, edgetest.Options{Origin: origin.URL})
	d := atWork(t, w)
	o := d.openBoth()
	old := w.Edge
	w.Edge = old.Successor()
	select {
	case err := <-o.download:
		t.Fatalf("the download ended with the hand-over: %v", err)
	case err := <-o.socket:
		t.Fatalf("the WebSocket ended with the hand-over: %v", err)
	case <-old.Ended():
		t.Fatal("the old edge ended in the middle of a download")
	default:
	}
	w.Admin("session", "revoke", regexp.MustCompile(`ses_[0-9a-f-]+`).FindString(w.Admin("session", "list")))
	o.mustEnd(t)
}
