package linktest

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Held is what the accepting end of an idle link costs: bytes that live after a collection, and goroutines with their stacks. It
// includes one stream that the peer opened and that is waited on, as the control stream of a connector is.
type Held struct{ Heap, Stack, Goroutines float64 }

// MakeListener makes a listener of a transport; it registers what undoes it with t.Cleanup.
type MakeListener func(t testing.TB, conf *tls.Config) (address string, accept func(context.Context) (tunnel.Link, error))

// idleEnv makes the test binary the dialling side of Idle.
const idleEnv = "SALLYPORT_LINKTEST_IDLE"

// idleDial is what the dialling side is told.
type idleDial struct {
	Address string
	Links   int
	Root    []byte // the certificate to trust, DER
}

// DialIdle is for TestMain: in a process that Idle started it dials, holds the links until its standard input ends, and returns
// true; elsewhere it returns false at once.
func DialIdle(d tunnel.Dialer) bool {
	text := os.Getenv(idleEnv)
	if text == "" {
		return false
	}
	var told idleDial
	if err := json.Unmarshal([]byte(text), &told); err != nil {
		panic(err)
	}
	root, err := x509.ParseCertificate(told.Root)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	target := tunnel.Target{Address: told.Address, TLS: &tls.Config{RootCAs: roots, ServerName: ServerName}}
	links := make([]tunnel.Link, 0, told.Links) // kept, and so not collected
	for range told.Links {
		link, err := d.Dial(context.Background(), target)
		if err != nil {
			panic(err)
		}
		link.Admit()
		stream, err := link.Open(context.Background())
		if err == nil {
			_, err = stream.Write([]byte{1})
		}
		if err != nil {
			panic(err)
		}
		links = append(links, link)
	}
	fmt.Println("up")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(links)
	return true
}

// settleIdle is how long links are left alone before they are measured; timers of a first second have passed then.
const settleIdle = 1500 * time.Millisecond

// Idle measures the accepting end of idle links over real sockets. The dialling ends are in a process of their own.
func Idle(t testing.TB, listen MakeListener, links int) Held {
	t.Helper()
	server, _ := TLS(t)
	address, accept := listen(t, server)
	before := inUse()
	told, err := json.Marshal(idleDial{Address: address, Links: links, Root: server.Certificates[0].Certificate[0]})
	if err != nil {
		t.Fatal(err)
	}
	up, stop := dialInProcess(t, string(told))
	var waiting sync.WaitGroup
	accepted := make([]tunnel.Link, 0, links)
	for range links {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		link, err := accept(ctx)
		if err != nil {
			t.Fatalf("link %d: %v", len(accepted)+1, err)
		}
		link.Admit()
		stream, err := link.Accept(ctx)
		cancel()
		if err != nil {
			t.Fatalf("stream of link %d: %v", len(accepted)+1, err)
		}
		accepted = append(accepted, link)
		if r, ok := stream.(tunnel.Rousing); !ok || !r.Rouse(func() {}) {
			waiting.Go(func() {
				for buf := make([]byte, 1); err == nil; _, err = stream.Read(buf) {
				}
			})
		}
		waiting.Go(func() { _, _ = link.Accept(context.Background()) })
	}
	<-up
	pass(settleIdle)
	after := inUse()
	runtime.KeepAlive(accepted)
	stop()
	for _, link := range accepted {
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	}
	waiting.Wait()
	return Held{
		Heap: (after.Heap - before.Heap) / float64(links), Stack: (after.Stack - before.Stack) / float64(links),
		Goroutines: (after.Goroutines - before.Goroutines) / float64(links),
	}
}

// BenchIdle reports Idle of 500 links.
func BenchIdle(b *testing.B, listen MakeListener) {
	for b.Loop() {
		held := Idle(b, listen, 500)
		b.ReportMetric(held.Heap, "heap-B/link")
		b.ReportMetric(held.Stack, "stack-B/link")
		b.ReportMetric(held.Goroutines, "goroutines/link")
	}
}

func dialInProcess(t testing.TB, told string) (up <-chan struct{}, stop func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), idleEnv+"="+told)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		_, _ = bufio.NewReader(out).ReadString('\n')
	}()
	stop = sync.OnceFunc(func() {
		_ = in.Close()
		<-ready
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	return ready, stop
}

// inUse is what the whole process holds.
func inUse() Held {
	runtime.GC()
	runtime.GC() // what pools held over one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Held{Heap: float64(m.HeapAlloc), Stack: float64(m.StackInuse), Goroutines: float64(runtime.NumGoroutine())}
}
