package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/connector"
)

// restartLimit bounds the wait for a successor.
const restartLimit = 3 * time.Minute

func (p *program) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart", Short: "Replace the running connector by a new process without dropping a request", Args: exactly(0),
		Long: "The running connector starts this machine's connector program anew, as it was started itself. Once that one has links\n" +
			"to the edge, everything new goes to it; the old one finishes what it has within drain_timeout, and ends. If the new one\n" +
			"does not get ready the old one goes on, and this fails. It is for root, or for whoever the connector runs as.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), restartLimit)
			defer cancel()
			if err := connector.Restart(ctx, p.config.StateDir); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "a new process serves; the old one finishes what it has")
			return nil
		},
	}
}
