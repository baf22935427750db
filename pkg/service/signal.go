package service

import (
	"os"
	"os/signal"
)

// OnSignal calls f for each signal of a kind, one at a time, until stop is called; stop waits for a call that runs. Signals that
// come while f runs count as one.
func OnSignal(sig os.Signal, f func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, sig)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-signals:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}
}
