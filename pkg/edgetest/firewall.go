package edgetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// FirewallName is in the certificates of a Firewall.
const FirewallName = "Fortress Inspection CA"

// Firewall opens TLS as those do that clinics buy: it is an HTTP proxy that ends every TLS which it is to carry with a certificate
// of its own making, begins another one to where that went, and keeps all that it can read, WebSockets unmasked.
type Firewall struct {
	// URL is the proxy's, CAFile holds the CA that signs what it shows.
	URL, CAFile string

	opt  FirewallOptions
	ca   *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
	read lockedBuffer
	open sync.WaitGroup

	mu    sync.Mutex // guards both
	conns map[net.Conn]struct{}
	ended bool
}

// FirewallOptions says what a Firewall does besides.
type FirewallOptions struct {
	// OldTLS has it speak TLS 1.2, to both sides.
	OldTLS bool
	// Hostile has it also end the TLS that it finds inside a WebSocket.
	Hostile bool
}

// StartFirewall starts one; it ends with the test.
func StartFirewall(t testing.TB, opt FirewallOptions) *Firewall {
	t.Helper()
	f := &Firewall{opt: opt, CAFile: filepath.Join(t.TempDir(), "firewall.pem"), conns: map[net.Conn]struct{}{}}
	if err := f.makeCA(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.URL = "http://" + l.Addr().String()
	f.open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.open.Go(func() { f.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.cut()
		f.open.Wait()
	})
	return f
}

// Settings is what a connector's configuration says of it.
func (f *Firewall) Settings() string {
	return fmt.Sprintf("proxy: %q\nca_file: %q\ntls_inspection: true\n", f.URL, f.CAFile)
}

// Read is everything that it could read so far.
func (f *Firewall) Read() string { return f.read.String() }

func (f *Firewall) makeCA() (err error) {
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	f.ca = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: FirewallName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if f.pem, err = x509.CreateCertificate(rand.Reader, f.ca, f.ca, f.key.Public(), f.key); err != nil {
		return err
	}
	return os.WriteFile(f.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.pem}), 0o600)
}

// shows is the configuration by which it passes for whom a client asks for.
func (f *Firewall) shows() *tls.Config {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{hello.ServerName}, NotBefore: f.ca.NotBefore, NotAfter: f.ca.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}, f.ca, f.key.Public(), f.key)
		return &tls.Certificate{Certificate: [][]byte{der, f.pem}, PrivateKey: f.key}, err
	}}
	return f.aged(conf)
}

func (f *Firewall) aged(conf *tls.Config) *tls.Config {
	if f.opt.OldTLS {
		conf.MaxVersion = tls.VersionTLS12
	}
	return conf
}

// carry serves one client: CONNECT, and then TLS on both sides.
func (f *Firewall) carry(client net.Conn) {
	if !f.keep(client) {
		return
	}
	defer f.drop(client)
	r, err := http.ReadRequest(bufio.NewReader(client))
	if err != nil || r.Method != http.MethodConnect {
		return
	}
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	near := tls.Server(client, f.shows())
	if err := near.HandshakeContext(context.Background()); err != nil {
		return
	}
	name := near.ConnectionState().ServerName
	if f.opt.Hostile {
		f.goInside(near, r.Host, name)
		return
	}
	f.relay(near, r.Host, name)
}

// relay carries what was opened on, to address in a TLS for name.
func (f *Firewall) relay(near net.Conn, address, name string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return
	}
	to, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil || !f.keep(to) {
		return
	}
	defer f.drop(to)
	// It trusts whom it reaches: what matters is what it can read.
	far := tls.Client(to, f.aged(&tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"http/1.1"}}))
	if err := far.HandshakeContext(context.Background()); err != nil {
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() {
		_, _ = io.Copy(io.MultiWriter(far, &unmasked{to: &f.read}), near)
		f.drop(to)
	})
	_, _ = io.Copy(io.MultiWriter(near, &f.read), far)
	_ = near.Close()
	ways.Wait()
}

// goInside ends the WebSocket that a client asks for, and the TLS in it.
func (f *Firewall) goInside(near *tls.Conn, address, name string) {
	served := make(chan net.Conn, 1)
	done := make(chan struct{})
	server := &http.Server{ErrorLog: nil, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		inner, err := wslink.AcceptInner(w, r)
		if err != nil {
			return
		}
		defer inner.Close()
		inner.Admit()
		inside := tls.Server(inner, f.shows())
		if err := inside.HandshakeContext(context.Background()); err != nil {
			return
		}
		f.relay(inside, address, name)
	})}
	served <- near
	go func() { _ = server.Serve(&oneConn{conns: served, done: done, addr: near.LocalAddr()}) }()
	<-done
	_ = server.Close()
}

type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
	addr  net.Addr
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.addr }

func (f *Firewall) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		_ = c.Close()
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *Firewall) drop(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	_ = c.Close()
}

func (f *Firewall) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for c := range f.conns {
		_ = c.Close()
	}
}

// unmasked passes on what a client writes as its peer reads it: behind the head of a request for a WebSocket, the payload of frames
// (RFC 6455 §5.2).
type unmasked struct {
	to      io.Writer
	pending []byte
	head    bool // has passed
	frames  bool // follow it
}

func (u *unmasked) Write(p []byte) (int, error) {
	u.pending = append(u.pending, p...)
	if !u.head {
		end := bytes.Index(u.pending, []byte("\r\n\r\n"))
		if end < 0 {
			return len(p), nil
		}
		u.head, u.frames = true, bytes.Contains(bytes.ToLower(u.pending[:end]), []byte("upgrade: websocket"))
		u.pass(u.pending[:end+4])
		u.pending = u.pending[end+4:]
	}
	if !u.frames {
		u.pass(u.pending)
		u.pending = nil
		return len(p), nil
	}
	for u.frame() {
	}
	return len(p), nil
}

// frame passes one on, if it is there whole.
func (u *unmasked) frame() bool {
	b := u.pending
	if len(b) < 2 {
		return false
	}
	size, at := int(b[1]&0x7f), 2
	if long := map[int]int{126: 2, 127: 8}[size]; long > 0 {
		if len(b) < 2+long {
			return false
		}
		at, size = 2+long, 0
		for _, digit := range b[2:at] {
			size = size<<8 | int(digit)
		}
	}
	if b[1]&0x80 == 0 || len(b) < at+4+size {
		return false
	}
	key, payload := b[at:at+4], b[at+4:at+4+size]
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	u.pass(payload)
	u.pending = b[at+4+size:]
	return true
}

func (u *unmasked) pass(p []byte) { _, _ = u.to.Write(p) }
