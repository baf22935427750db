package main

import (
	"context"
	"fmt"
	stdlog "log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/edge"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/run"
	"github.com/sallyport-dev/sallyport/pkg/service"
)

func (p *program) initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "init", Short: "Prepare this machine: state directory, master.key, store, local CA", Args: cobra.NoArgs,
		Long: "Prepares the state directory. What is there already is left as it is.\n" +
			"Back up master.key apart from the store: without it, nothing that is sealed can be read.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := edge.Init(cmd.Context(), p.config)
			for _, line := range made {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return err
		},
	}
	p.settingFlags(cmd.Flags())
	return cmd
}

func (p *program) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the edge", Args: cobra.NoArgs,
		Long: "Serves until SIGTERM or Ctrl-C. The configuration file is read again when it changes, and at SIGHUP: certificates,\n" +
			"mail, edges, drain and log.level change at once, other keys with a restart. A file with a fault changes nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, setLevel, err := log.NewAdjustable(os.Stderr, p.config.Log.Format, p.config.Log.Level)
			if err != nil {
				return err
			}
			stdlog.SetFlags(0)
			stdlog.SetOutput(log.Std(logger))
			defer run.Heap(edge.LeastHeap)()
			e, err := edge.New(cmd.Context(), p.config, logger)
			if err != nil {
				return err
			}
			e.Follow(edge.Source{File: p.configFile, Load: p.reload, SetLevel: setLevel})
			defer service.OnSignal(syscall.SIGHUP, e.Reload)()
			second := make(chan os.Signal, 1)
			stop := context.AfterFunc(cmd.Context(), func() { // whoever asks twice does not want to wait for the drain
				signal.Notify(second, os.Interrupt, syscall.SIGTERM)
				<-second
				e.Cut()
			})
			defer stop()
			return e.Run(cmd.Context())
		},
	}
	p.settingFlags(cmd.Flags())
	return cmd
}

// restartLimit bounds the wait for a successor.
const restartLimit = 3 * time.Minute

func (p *program) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart", Short: "Replace the running edge by a new process that takes its sockets over", Args: cobra.NoArgs,
		Long: "The running edge starts this machine's edge program anew, as it was started itself. Once that one is ready it gets\n" +
			"the sockets, and the old one finishes what it has. If it does not get ready the old one goes on, and this fails.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), restartLimit)
			defer cancel()
			if err := edge.Restart(ctx, p.config); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "a new process serves; the old one finishes what it has")
			return nil
		},
	}
}

func (p *program) configCommand() *cobra.Command {
	validate := &cobra.Command{
		Use: "validate", Short: "Read the configuration as serve would, and report every fault", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Whoever gets here has passed load, which found no fault in the configuration itself.
			if err := p.config.CheckFiles(); err != nil {
				return fault.New(fault.Invalid, "%s", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
			return nil
		},
	}
	p.settingFlags(validate.Flags())
	return noun("config", "Check the configuration", validate)
}
