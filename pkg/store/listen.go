package store

import (
	"context"
	"sync"
	"time"
)

// changesChannel is where an edge that added to the change log tells the others that there is something to read.
const changesChannel = "sallyport_changes"

// listenPause is between attempts to listen again; the followers look by themselves meanwhile.
const listenPause = time.Second

// listen has a connection of its own. What was said while it had none is lost, so that heard is called with each new one.
func (p *postgresEngine) listen(ctx context.Context, heard func()) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { p.hosts.watch(ctx) })
	for ctx.Err() == nil {
		_ = p.listenOnce(ctx, heard) // whoever reads the change log hears of the same trouble, and says so
		pause(ctx, listenPause)
	}
}

func (p *postgresEngine) listenOnce(ctx context.Context, heard func()) error {
	conn, err := p.hosts.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, `LISTEN `+changesChannel); err != nil {
		return err
	}
	for {
		heard()
		waiting, cancel := context.WithTimeout(ctx, listenProbe)
		_, err := conn.WaitForNotification(waiting)
		cancel()
		if err != nil {
			return err
		}
	}
}

// listenProbe is after how long without a word the connection is made anew: a dead one says nothing.
const listenProbe = 30 * time.Second
