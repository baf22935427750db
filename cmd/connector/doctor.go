package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/connector/doctor"
)

func (p *program) doctorCommand() *cobra.Command {
	cfg, asJSON := doctor.Config{}, false
	cmd := &cobra.Command{
		Use: "doctor", Short: "Find out why it does not connect, and what to do", Args: exactly(0),
		Long: "Checks enrolment, disk, the edge's name, the outgoing proxy, TCP and UDP to the edge, the clock, the edge's certificate,\n" +
			"the running connector's link and the origins: one line each, then what to do. It changes nothing and opens no link.\n" +
			"Exit code 0: all is well; 1: there are problems.",
		Example: "  sudo connector doctor\n  connector doctor --edge https://edge.example --ca sha256:…   # before enrolment",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.CAPin != "" && cfg.Edge == "" {
				return &usageError{errors.New("--ca goes with --edge")}
			}
			cfg.Connector = p.config
			report := doctor.Run(cmd.Context(), cfg)
			var err error
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			} else {
				err = report.Write(cmd.OutOrStdout())
			}
			if err == nil && !report.Well {
				err = &exitError{1}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Edge, "edge", "", "look at the way to this edge, also before enrolment")
	f.StringVar(&cfg.CAPin, "ca", "", "pin of that edge's CA, sha256:…, from the invitation")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}
