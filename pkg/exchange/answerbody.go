package exchange

import (
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// answerBody is an answer's body with a Close that frees the stream.
type answerBody call

func (a *answerBody) Read(p []byte) (int, error) { return a.in.Read(p) }

// Close gives up what has not been read; the peer's handler learns of it. It may be called during a Read, which then
// fails.
func (a *answerBody) Close() error {
	b := &a.in
	if b.closed.Swap(true) {
		return nil
	}
	if !b.mu.TryLock() {
		(*call)(a).stop(tunnel.ResetCancelled)
		go func() { // the Read, which ends now, may have found bytes and no error
			b.mu.Lock()
			defer b.mu.Unlock()
			b.quit()
		}()
		return nil
	}
	defer b.mu.Unlock()
	if b.complete() {
		// Who reads exactly the declared length has it all, and should not cost the peer a cancelled exchange.
		_ = b.stream.SetReadDeadline(time.Now().Add(closeTimeout))
		b.next()
	}
	if b.err == nil {
		(*call)(a).stop(tunnel.ResetCancelled)
		b.quit()
	}
	return nil
}
