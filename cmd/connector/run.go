package main

import (
	"errors"
	"fmt"
	stdlog "log"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/run"
	"github.com/sallyport-dev/sallyport/pkg/service"
)

func (p *program) enrollCommand() *cobra.Command {
	e := connector.Enrolment{}
	cmd := &cobra.Command{
		Use: "enroll URL --code CODE [--ca PIN]", Short: "Register this machine at the edge, with the line that the operator sent",
		Long: "Makes this machine's key in the state directory, which it never leaves, and registers it at the edge.\n" +
			"A code works once, within a day.",
		Example: "  connector enroll https://edge.example --code ABCDEFGHIJKLMNOPQRSTUVWX27 --ca sha256:…", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if e.Code == "" || e.CAPin != "" && e.CAFile != "" && !p.config.TLSInspection {
				return &usageError{errors.New("want --code, and at most one of --ca and --ca-file, unless with --tls-inspection")}
			}
			e.StateDir, e.Edge, e.Way = p.config.StateDir, args[0], p.config
			if p.config.TLSInspection && e.CAFile != "" { // there a file can only be the firewall's CA: the edge is known by its pin
				e.Way.CAFile, e.CAFile = e.CAFile, ""
			}
			identity, err := connector.Enroll(cmd.Context(), e)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "enrolled as %s for %s/%s; next: write %s, unless the operator keeps the rules at the edge; then connector service install\n",
				identity.Connector, identity.Tenant, identity.Site, p.config.Ingress)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.Code, "code", "", "the single-use code")
	f.StringVar(&e.CAPin, "ca", "", "pin of the edge's CA, sha256:…; without it the system's CAs count")
	f.StringVar(&e.CAFile, "ca-file", "", "PEM file of the edge's CA, in place of a pin; with --tls-inspection of the firewall's, beside it")
	return cmd
}

func (p *program) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Carry exchanges until asked to stop", Args: exactly(0),
		Long: "Keeps a link to the edge up, whatever the network does, and carries exchanges to the origin.\n" +
			"SIGTERM or Ctrl-C finishes what runs first; SIGHUP reads configuration and ingress file again, which is\n" +
			"also done when they change. Exit code 3: the enrolment was revoked.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, setLevel, err := log.NewAdjustable(os.Stderr, p.config.Log.Format, p.config.Log.Level)
			if err != nil {
				return &usageError{err}
			}
			stdlog.SetFlags(0)
			stdlog.SetOutput(log.Std(logger))
			p.config.Logger = logger
			defer run.Heap(connector.LeastHeap)()
			c, err := connector.New(p.config)
			if err != nil {
				return err
			}
			if addr := c.StatusAddr(); addr != nil {
				logger.Info("status served", zap.Stringer("loopback", addr))
			}
			c.Follow(connector.Source{File: p.configFile, Load: p.reload, SetLevel: setLevel})
			defer service.OnSignal(syscall.SIGHUP, c.Reload)()
			return c.Run(cmd.Context())
		},
	}
}
