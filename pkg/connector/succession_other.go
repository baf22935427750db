//go:build !linux

package connector

import (
	"context"
	"errors"
)

// succession is of no use where open files are not handed from one process to another.
type succession struct{}

func (c *Connector) takeOver() error { return nil }

func (s *succession) end(why error) error { return why }

func (c *Connector) succeed(ctx, _ context.Context, _ func()) error {
	close(c.owned)
	<-ctx.Done()
	return nil
}

// Restart fails: only on Linux can a running connector be replaced in place.
func Restart(context.Context, string) error {
	return errors.New("a connector can be replaced while it runs on Linux only: stop it and start it again")
}
