package hop

import (
	"context"
	"io"
	"sync"
	"time"
)

// closing is how long one direction of an upgraded connection may go on after the other has ended: long enough for the
// close frame that answers a close frame.
const closing = 5 * time.Second

// halfCloser is a connection that can end one direction alone.
type halfCloser interface{ CloseWrite() error }

// Splice joins two upgraded connections until either ends or ctx does, then closes both; it returns when nothing reads or
// writes any more. There is no timer while both are open. The counts are the bytes that went from a to b and from b to a.
func (b *Buffers) Splice(ctx context.Context, a, z io.ReadWriteCloser) (aToZ, zToA int64, err error) {
	closeBoth := sync.OnceFunc(func() {
		_ = a.Close()
		_ = z.Close()
	})
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()

	type end struct {
		forward bool
		n       int64
		err     error
	}
	ends := make(chan end, 2)
	go func() {
		n, err := b.Copy(z, a)
		ends <- end{true, n, err}
	}()
	go func() {
		n, err := b.Copy(a, z)
		ends <- end{false, n, err}
	}()

	record := func(e end) {
		if e.forward {
			aToZ = e.n
		} else {
			zToA = e.n
		}
	}
	first := <-ends
	record(first)
	other := z
	if !first.forward {
		other = a
	}
	h, can := other.(halfCloser)
	if first.err != nil || !can || h.CloseWrite() != nil {
		closeBoth()
	}
	timer := time.AfterFunc(closing, closeBoth)
	record(<-ends)
	timer.Stop()
	closeBoth()
	if ctx.Err() != nil {
		return aToZ, zToA, context.Cause(ctx)
	}
	return aToZ, zToA, first.err
}
