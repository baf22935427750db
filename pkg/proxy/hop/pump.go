package hop

import (
	"io"
	"sync"
)

// chunk is what is read at once: no larger than a data frame of the tunnel, so that one read makes one frame.
const chunk = 32 << 10

// Buffers lends buffers for copying. The zero value is ready.
type Buffers struct{ pool sync.Pool }

func (b *Buffers) get() *[chunk]byte {
	if p, ok := b.pool.Get().(*[chunk]byte); ok {
		return p
	}
	return new([chunk]byte)
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
	buf := b.get()
	defer b.pool.Put(buf)
	var total int64
	for {
		n, readErr := src.Read(buf[:])
		if n > 0 {
			w, err := dst.Write(buf[:n])
			total += int64(w)
			if err != nil {
				return total, &CopyError{Err: err}
			}
		}
		switch {
		case readErr == io.EOF: //nolint:errorlint // a wrapped EOF is an early end
			return total, nil
		case readErr != nil:
			return total, &CopyError{Reading: true, Err: readErr}
		}
	}
}
