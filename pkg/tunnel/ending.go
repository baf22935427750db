package tunnel

import "sync"

// Ending is the part of every Link that remembers why it ended: the first cause wins, whoever finds it. Its zero value
// is a link that lives.
type Ending struct {
	mu    sync.Mutex
	done  chan struct{}
	cause *ClosedError
}

// End records cause and closes Done; it reports whether this was the first call.
func (e *Ending) End(cause *ClosedError) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cause != nil {
		return false
	}
	e.cause = cause
	close(e.channel())
	return true
}

// Done is closed by the first End.
func (e *Ending) Done() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.channel()
}

// Cause is nil before End.
func (e *Ending) Cause() error {
	if c := e.Closed(); c != nil {
		return c
	}
	return nil
}

// Closed is Cause with its type.
func (e *Ending) Closed() *ClosedError {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause
}

func (e *Ending) channel() chan struct{} {
	if e.done == nil {
		e.done = make(chan struct{})
	}
	return e.done
}
