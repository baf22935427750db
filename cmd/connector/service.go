package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/service"
)

func (p *program) serviceCommand() *cobra.Command {
	cmd := grouping(&cobra.Command{Use: "service", Short: "Run the connector under systemd"})
	cmd.AddCommand(p.serviceInstall(), serviceUninstall(), serviceStatus())
	return cmd
}

func (p *program) serviceInstall() *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use: "install", Short: "Write the unit, enable it and start it", Args: exactly(0),
		Long: "Writes " + service.ConnectorUnit + ", which runs this binary as a user of its own with nothing but its state\n" +
			"directory to write to, enables it and starts it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := p.unit()
			if err != nil {
				return err
			}
			if dryRun {
				fmt.Fprint(cmd.OutOrStdout(), text)
				return nil
			}
			if err := p.installable(os.Executable); err != nil {
				return err
			}
			if err := (service.Manager{}).Install(cmd.Context(), service.ConnectorUnit, text); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is installed and started; connector ready says how it fares\n", service.ConnectorUnit)
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the unit and change nothing")
	return cmd
}

func (p *program) unit() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	rules, err := filepath.Abs(p.config.Ingress)
	if err != nil {
		return "", err
	}
	unit := service.Connector{Program: program, Ingress: rules}
	standard := connector.Default()
	if p.config.IngressFrom != standard.IngressFrom {
		unit.IngressFrom = p.config.IngressFrom
	}
	if !slices.Equal(p.config.IngressAllow, standard.IngressAllow) {
		unit.IngressAllow = p.config.IngressAllow
	}
	return unit.Render()
}

// installable finds before the unit is started what would keep it from starting.
func (p *program) installable(executable func() (string, error)) error {
	program, err := executable()
	if err != nil {
		return err
	}
	for _, hidden := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(program, hidden) {
			return &usageError{fmt.Errorf("the service cannot see %s: put the binary into /usr/local/bin first", program)}
		}
	}
	if home := connector.Default().StateDir; p.config.StateDir != home {
		return &usageError{fmt.Errorf("the service keeps its state in %s; enrol without --state-dir", home)}
	}
	_, _, errState := connector.LoadState(p.config.StateDir)
	return errors.Join(p.usableRules(), errState)
}

// usableRules checks that the service, which is not root, will be able to read the rules. They may be missing where they come
// from the edge.
func (p *program) usableRules() error {
	info, err := os.Stat(p.config.Ingress)
	switch {
	case p.config.IngressFrom == connector.IngressEdge, p.config.IngressFrom == connector.IngressAuto && errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && info.Mode().Perm()&0o004 == 0:
		return &usageError{fmt.Errorf("the service cannot read %s: chmod a+r it and what it names; they hold no secrets", p.config.Ingress)}
	}
	_, err = connector.LoadRules(p.config.Ingress)
	return err
}

func serviceUninstall() *cobra.Command {
	return &cobra.Command{
		Use: "uninstall", Short: "Stop the service and remove its unit; key and enrolment stay", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := (service.Manager{}).Uninstall(cmd.Context(), service.ConnectorUnit); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is removed; key and enrolment are still in %s\n", service.ConnectorUnit, connector.Default().StateDir)
			return nil
		},
	}
}

func serviceStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say how the service fares; exit code 5 when it does not run", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, running := service.Manager{}.Status(cmd.Context(), service.ConnectorUnit)
			fmt.Fprint(cmd.OutOrStdout(), text)
			if !running {
				return &exitError{exitNotRunning}
			}
			return nil
		},
	}
}
