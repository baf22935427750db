package linktest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// Bench runs the benchmarks over m, which uses real sockets, beside a calibration row: the same bytes over plain TLS on
// TCP. Only ratios of one run count.
func Bench(b *testing.B, m Make) {
	b.Run("open and echo", func(b *testing.B) { benchEcho(b, m) })
	for _, size := range []int64{16 << 20, 1 << 30} {
		mib := size >> 20
		b.Run(fmt.Sprintf("edge to connector/%d MiB", mib), func(b *testing.B) { benchBulk(b, m, Listener, size) })
		b.Run(fmt.Sprintf("connector to edge/%d MiB", mib), func(b *testing.B) { benchBulk(b, m, Dialer, size) })
		b.Run(fmt.Sprintf("calibration TLS/%d MiB", mib), func(b *testing.B) { benchTLS(b, size) })
	}
}

// benchEcho opens a stream per turn, sends 1 KiB each way and ends it, as an exchange does.
func benchEcho(b *testing.B, m Make) {
	p := m.Admitted(b)
	served := make(chan error, 1)
	go func() {
		for {
			s, err := p.Dialed.Accept(context.Background())
			if err != nil {
				served <- nil
				return
			}
			if err := echo(s); err != nil {
				served <- err
				return
			}
		}
	}()
	message, answer := make([]byte, 1024), make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		s := open(b, p.Accepted)
		if _, err := s.Write(message); err != nil {
			b.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s, answer); err != nil {
			b.Fatal(err)
		}
		if n, err := s.Read(answer); n != 0 || !errors.Is(err, io.EOF) {
			b.Fatalf("%d bytes after the end, %v", n, err)
		}
	}
	_ = p.Dialed.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye})
	if err := <-served; err != nil {
		b.Fatal(err)
	}
}

func echo(s tunnel.Stream) error {
	_, err := io.Copy(struct{ io.Writer }{s}, s)
	return errors.Join(err, s.CloseWrite())
}

func benchBulk(b *testing.B, m Make, sender End, size int64) {
	p := m.Admitted(b)
	from, to := p.Ends(sender)
	b.SetBytes(size)
	for b.Loop() {
		w, r := joined(b, from, to)
		transfer(b, w, w.CloseWrite, r, size)
		if err := r.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
}

func benchTLS(b *testing.B, size int64) {
	server, client := TLS(b)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", server)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.SetBytes(size)
	for b.Loop() {
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				err = c.(*tls.Conn).Handshake()
			}
			if err != nil {
				b.Error(err)
			}
			accepted <- c
		}()
		w, err := tls.Dial("tcp4", l.Addr().String(), client)
		if err != nil {
			b.Fatal(err)
		}
		r := <-accepted
		transfer(b, w, w.CloseWrite, r, size)
		_, _ = w.Close(), r.Close()
	}
}

// transfer sends size bytes and waits until the reader has counted them.
func transfer(b *testing.B, w io.Writer, end func() error, r io.Reader, size int64) {
	b.Helper()
	got := make(chan error, 1)
	go func() {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 128<<10))
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes of %d", n, size)
		}
		got <- err
	}()
	chunk := make([]byte, 128<<10)
	for sent := int64(0); sent < size; sent += int64(len(chunk)) {
		if _, err := w.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(end(), <-got); err != nil {
		b.Fatal(err)
	}
}
