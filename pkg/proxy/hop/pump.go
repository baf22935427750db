package hop

import (
	"io"
	"math"
	"sync"
)

const (
	// chunk is what is read at once of most bodies: no larger than a data frame of the tunnel, so that one read makes one frame.
	chunk = 32 << 10
	// largeChunk is what is read at once of those that turn out large: half as many writes, each of which wakes a reader.
	largeChunk = 2 * chunk
	large      = 8 * chunk
)

// Buffers lends buffers for copying. The zero value is ready.
type Buffers struct{ pool, large sync.Pool }

func (b *Buffers) get() *[chunk]byte {
	if p, ok := b.pool.Get().(*[chunk]byte); ok {
		return p
	}
	return new([chunk]byte)
}

func (b *Buffers) getLarge() *[largeChunk]byte {
	if p, ok := b.large.Get().(*[largeChunk]byte); ok {
		return p
	}
	return new([largeChunk]byte)
}

// CopyError tells which end of a copy failed.
type CopyError struct {
	// Reading is true when the source failed.
	Reading bool
	Err     error
}

func (e *CopyError) Error() string {
	if e.Reading {
		return "read: " + e.Err.Error()
	}
	return "write: " + e.Err.Error()
}

// Unwrap gives what failed.
func (e *CopyError) Unwrap() error { return e.Err }

// Copy moves bytes until src ends, and returns how many dst took. Its error is a *CopyError; io.EOF is none.
func (b *Buffers) Copy(dst io.Writer, src io.Reader) (int64, error) {
	first := b.get()
	total, ended, err := pump(dst, src, first[:], large)
	b.pool.Put(first)
	if ended {
		return total, err
	}
	rest := b.getLarge()
	defer b.large.Put(rest)
	more, _, err := pump(dst, src, rest[:], math.MaxInt64)
	return total + more, err
}

// pump copies until src ends or limit bytes have been taken; ended is false for the latter.
func pump(dst io.Writer, src io.Reader, buf []byte, limit int64) (total int64, ended bool, err error) {
	for total < limit {
		n, readErr := src.Read(buf)
		if n > 0 {
			w, err := dst.Write(buf[:n])
			total += int64(w)
			if err != nil {
				return total, true, &CopyError{Err: err}
			}
		}
		switch {
		case readErr == io.EOF: //nolint:errorlint // a wrapped EOF is an early end
			return total, true, nil
		case readErr != nil:
			return total, true, &CopyError{Reading: true, Err: readErr}
		}
	}
	return total, false, nil
}
