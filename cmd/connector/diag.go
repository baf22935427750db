package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/connector/diag"
)

func (p *program) diagCommand() *cobra.Command {
	cfg, output := diag.Config{}, ""
	cmd := &cobra.Command{
		Use: "diag", Short: "Gather what support needs into one archive", Args: exactly(0),
		Long: "Gathers what connector doctor finds, the configuration, the running connector's status and metrics, the last lines of its\n" +
			"log, and what the machine is like, into a .tar.gz that only you may read, and prints which lanes run over what. Keys,\n" +
			"codes, passwords and whatever could tell of a patient stay out. Run it with sudo, or part of it is missing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Doctor.Connector, cfg.Settings = p.config, p.shown.String()
			bundle := diag.Gather(cmd.Context(), cfg)
			if output == "" {
				output = bundle.DefaultName()
			}
			if err := bundle.Save(output); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s is written; connector doctor says what to do\n", bundle.Lanes, output)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Doctor.Edge, "edge", "", "look at the way to this edge, also before enrolment")
	f.StringVar(&cfg.Doctor.CAPin, "ca", "", "pin of that edge's CA, sha256:…, from the invitation")
	f.StringVar(&output, "output", "", "where to write it; default: sallyport-diag-DATE.tar.gz in this directory")
	return cmd
}
