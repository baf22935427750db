package linktest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// noise returns n bytes that are the same for the same seed.
func noise(seed uint64, n int64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), n)
}

func digest(r io.Reader) (sum [32]byte, n int64, err error) {
	h := sha256.New()
	n, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, make([]byte, 64<<10))
	return [32]byte(h.Sum(nil)), n, err
}

// send writes noise and ends the direction.
func send(s tunnel.Stream, seed uint64, n int64) error {
	if _, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{noise(seed, n)}, make([]byte, 64<<10)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return s.CloseWrite()
}

// receive reads to the end and compares with what send wrote.
func receive(s tunnel.Stream, seed uint64, n int64) error {
	got, length, err := digest(s)
	if err != nil {
		return fmt.Errorf("receive: %w after %d bytes", err, length)
	}
	want, _, _ := digest(noise(seed, n))
	if length != n || got != want {
		return fmt.Errorf("received %d bytes for %d, digest equal: %v", length, n, got == want)
	}
	return nil
}

// exchange sends both ways at once and compares.
func exchange(a, b tunnel.Stream, n int64) error {
	results := make(chan error, 4)
	go func() { results <- send(a, 1, n) }()
	go func() { results <- send(b, 2, n) }()
	go func() { results <- receive(a, 2, n) }()
	go func() { results <- receive(b, 1, n) }()
	var errs []error
	for range 4 {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

func testBytes(t *testing.T, m Make) {
	p := m.Admitted(t)
	for _, size := range []int64{0, 1, 16<<10 - 1, 16 << 10, 16<<10 + 1, 1 << 20, 32 << 20} {
		for _, end := range []End{Dialer, Listener} {
			from, to := p.Ends(end)
			a, b := joined(t, from, to)
			if err := exchange(a, b, size); err != nil {
				t.Errorf("%d bytes, opened by end %d: %v", size, end, err)
			}
		}
	}
}

func testManyStreams(t *testing.T, m Make) {
	const streams = 1000
	p := m.Admitted(t)
	gate := make(chan struct{})
	results := make(chan error, 2*streams)
	go func() {
		for range streams {
			s, err := p.Dialed.Accept(t.Context())
			if err != nil {
				results <- err
				continue
			}
			go func() {
				<-gate // all of them are open before the first one goes on
				_, err := io.Copy(struct{ io.Writer }{s}, s)
				results <- errors.Join(err, s.CloseWrite())
			}()
		}
	}()
	opened := make([]tunnel.Stream, streams)
	for i := range opened {
		opened[i] = open(t, p.Accepted)
		if _, err := opened[i].Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	for i, s := range opened {
		go func() {
			_, err := io.Copy(struct{ io.Writer }{s}, noise(uint64(i), 3000))
			err = errors.Join(err, s.CloseWrite())
			first := make([]byte, 1)
			if _, e := io.ReadFull(s, first); e != nil || first[0] != byte(i) {
				err = errors.Join(err, fmt.Errorf("first byte %v, %w", first, e))
			}
			results <- errors.Join(err, receive(s, uint64(i), 3000))
		}()
	}
	for range 2 * streams {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
}
