package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/connector/doctor"
)

func (p *program) readyCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use: "ready", Short: "Ask the running connector whether a link is up and the origin answers", Args: exactly(0),
		Long: "Exit code 0 when a link is up and every origin answered lately, 4 when not.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.config.Loopback == "" {
				return &usageError{fmt.Errorf("loopback is switched off; --loopback says where to ask")}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			status, err := doctor.AskReady(ctx, p.config.Loopback)
			if err != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "not ready: no connector answers at %s: is it running? (%v)\n", p.config.Loopback, err)
				return &exitError{exitNotReady}
			}
			printStatus(cmd.OutOrStdout(), status, asJSON)
			if status.Status != connector.StatusReady {
				return &exitError{exitNotReady}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	return cmd
}

func printStatus(w io.Writer, s connector.Status, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(w).Encode(s) // strings, numbers and times only
		return
	}
	link := "no link to the edge"
	if s.ReadyConnections > 0 {
		link = fmt.Sprintf("linked over %s, round trip %.1f ms", s.Way(), s.RoundTripMS)
	}
	fmt.Fprintf(w, "%s: %s (%s)\n", s.Status, link, s.ConnectorID)
	for _, lane := range slices.Sorted(maps.Keys(s.Lanes)) {
		fmt.Fprintf(w, "  %s lane: %s\n", lane, strings.ReplaceAll(s.Lanes[lane], "\n", "; "))
	}
	fmt.Fprintf(w, "  ingress rules: %s\n", rulesFrom(s.Ingress))
	if s.Ingress.Problem != "" {
		fmt.Fprintf(w, "  newer rules were refused, and the ones before are in force: %s\n", s.Ingress.Problem)
	}
	if s.Config != "" {
		fmt.Fprintf(w, "  configuration file: %s\n", s.Config)
	}
	for _, o := range s.Origins {
		state := "answers"
		if !o.Healthy {
			state = "does not answer as it should"
			if o.Problem != "" {
				state += ": " + o.Problem
			}
		}
		fmt.Fprintf(w, "  %s %s\n", o.Origin, state)
	}
}

func rulesFrom(i connector.IngressStatus) string {
	switch i.From {
	case connector.IngressFile:
		return "from this machine's file"
	case connector.IngressEdge:
		return fmt.Sprintf("version %d from the edge", i.Version)
	}
	return "none yet: write the file, or ask the operator to keep some at the edge"
}
