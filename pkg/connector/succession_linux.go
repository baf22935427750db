package connector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/handover"
)

// Names of what a running connector hands over.
const (
	fileLock     = "lock"
	fileLoopback = "loopback"
	fileHandover = "handover"
)

const (
	// upLimit is how long a successor may be without any link.
	upLimit = time.Minute
	// settleLimit is how long a successor with one good link waits for those to other edges, and of the other lane.
	settleLimit = 5 * time.Second
)

// succession is how a connector takes the place of the one that started it, and gives it to its own successor (package handover).
// The offer is made when the successor has read its state and its rules; from then on the running one opens no link, and the
// successor opens its own. It is ready when those had a round trip: the edge gives everything new to them.
type succession struct {
	claim  *handover.Claim // nil when no connector started this process, and once it is the one that runs
	socket *net.UnixListener
	result *prometheus.CounterVec
}

func handoverSocket(dir string) string { return filepath.Join(dir, "handover.sock") }

// takeOver asks the connector that started this process for its place; it does nothing in a process that was started otherwise:
// a second connector on one state directory is a mistake.
func (c *Connector) takeOver() error {
	c.succession.result = c.metrics.Counter("sallyport_handover_total", "What became of those who asked for this process's place.", "result")
	if !handover.Started() {
		return nil
	}
	claim, err := handover.Ask(context.Background(), handoverSocket(c.cfg.StateDir), build.Version())
	if claim == nil || err != nil {
		return err
	}
	c.succession.claim = claim
	c.logger.Info("taking over from a running connector", zap.Int("predecessor", claim.PID), zap.String("version", claim.Software))
	if c.lock = claim.Files[fileLock]; c.lock == nil {
		return c.succession.end(errors.New("hand-over: no lock of the state directory came"))
	}
	delete(claim.Files, fileLock)
	var errStatus, errSocket error
	if c.cfg.Loopback != "" {
		c.status, errStatus = claim.Files.Listener(fileLoopback, c.cfg.Loopback)
	}
	c.succession.socket, errSocket = claim.Files.Socket(fileHandover)
	return c.succession.end(errors.Join(errStatus, errSocket))
}

// end tells a predecessor that waits why nothing comes of this process; it does nothing, and returns nil, without a reason.
func (s *succession) end(why error) error {
	if s.claim != nil && why != nil {
		s.claim.Fail(why)
		s.claim.Files.Close()
		s.claim = nil
	}
	return why
}

// succeed makes this process the one that runs, and then answers at the hand-over socket until ctx ends. stopping is over when the
// process was asked to stop; leave has it drain.
func (c *Connector) succeed(ctx, stopping context.Context, leave func()) error {
	if err := c.claimPlace(stopping); err != nil {
		return err
	} else if stopping.Err() != nil {
		<-ctx.Done()
		return nil
	}
	close(c.owned)
	if c.succession.socket == nil {
		var err error
		if c.succession.socket, err = handover.Listen(handoverSocket(c.cfg.StateDir)); err != nil {
			// A clinic is better served by a connector that cannot be replaced in place than by none.
			c.logger.Error("connector restart will not work", zap.Error(err))
			<-ctx.Done()
			return nil
		}
	}
	defer func() { _ = c.succession.socket.Close() }()
	yielded := make(chan struct{})
	host := &handover.Host{
		Listener: c.succession.socket, Software: build.Version(), Logger: c.logger,
		Offer:    c.offer,
		Withdraw: func() { c.links.resume() },
		Yield: func(successor int) {
			c.notify.MainPID(successor)
			c.passOn()
			c.logger.Info("the place is the successor's: finishing what is here", zap.Int("successor", successor))
			close(yielded)
		},
		Restart: func(ctx context.Context) error { return handover.Start(ctx, yielded) },
		Count:   func(result string) { c.succession.result.WithLabelValues(result).Inc() },
	}
	gone, err := host.Serve(stopping)
	if gone {
		leave()
	}
	if err == nil {
		<-ctx.Done()
	}
	return err
}

// claimPlace waits until this process has links, and then takes the place of the predecessor, if there is one.
func (c *Connector) claimPlace(ctx context.Context) error {
	claim := c.succession.claim
	if claim == nil {
		return nil
	}
	err := c.awaitLinks(ctx)
	if err == nil {
		if err = claim.Ready(ctx); err == nil {
			claim.Files.Close()
			c.succession.claim = nil
			return nil
		}
	}
	if ctx.Err() != nil {
		_ = c.succession.end(errors.New("it was asked to stop"))
		return nil //nolint:nilerr // to be stopped is no failure
	}
	return c.succession.end(err)
}

func (c *Connector) awaitLinks(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	var first time.Time // when there was some link
	for {
		all, some := c.links.settled()
		if some && first.IsZero() {
			first = time.Now()
		}
		switch {
		case all, some && time.Since(first) > settleLimit:
			return nil
		case !some && time.Since(began) > upLimit:
			return fmt.Errorf("it had no link to the edge within %s", upLimit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// offer is what a successor gets.
func (c *Connector) offer() (files handover.Files, err error) {
	if c.links.isLeaving() {
		return nil, errors.New("this connector stops")
	}
	files = handover.Files{}
	add := func(name string, of handover.Descriptor) {
		var f *os.File
		if err == nil {
			if f, err = handover.Copy(of, name); err == nil {
				files[name] = f
			}
		}
	}
	add(fileLock, c.lock)
	add(fileHandover, c.succession.socket)
	if tcp, ok := c.status.(*net.TCPListener); ok {
		add(fileLoopback, tcp)
	}
	if err != nil {
		files.Close()
		return nil, err
	}
	c.links.dials.pause()
	return files, nil
}

// Restart asks the connector that runs with the state in dir to start its successor, and returns when that serves.
func Restart(ctx context.Context, dir string) error {
	if err := handover.Restart(ctx, handoverSocket(dir)); err != nil {
		return fmt.Errorf("the connector with the state in %s: %w", dir, err)
	}
	return nil
}
