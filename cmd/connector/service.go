package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/fault"
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
			"directory to write to, enables it and starts it. Settings that are given by flag or environment, HTTPS_PROXY among them,\n" +
			"go into the configuration file, " + connector.ServiceFile + " unless --config names another; what stands there already\n" +
			"stays. A proxy's password goes into the state directory.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			unit, err := p.unit()
			if err != nil {
				return err
			}
			if !dryRun {
				if err := p.installable(os.Executable); err != nil {
					return err
				}
			}
			settings, err := p.forService(dryRun)
			if err != nil {
				return err
			}
			if dryRun {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n# %s:\n%s", unit, p.serviceFile(), settings.File)
				return nil
			}
			return p.install(cmd, unit, settings)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the unit and the configuration, and change nothing")
	return cmd
}

// install puts everything in place; the service starts last.
func (p *program) install(cmd *cobra.Command, unit string, settings connector.Installed) error {
	out := cmd.OutOrStdout()
	if err := settings.KeepPassword(p.config.StateDir); err != nil {
		return err
	}
	if err := service.WriteFile(p.serviceFile(), settings.File); err != nil {
		return err
	}
	if err := connector.ReadableByService(p.serviceFile()); err != nil {
		return err // its directory keeps others out
	}
	if len(settings.Taken) > 0 {
		fmt.Fprintf(out, "%s now says: %s\n", p.serviceFile(), strings.Join(settings.Taken, ", "))
	}
	if settings.HasPassword() {
		fmt.Fprintf(out, "the proxy's password is kept in %s, for the service alone\n", p.config.StateDir)
	}
	if err := (service.Manager{}).Install(cmd.Context(), service.ConnectorUnit, unit); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is installed and started; connector ready says how it fares\n", service.ConnectorUnit)
	return nil
}

// serviceFile is the service's configuration file.
func (p *program) serviceFile() string {
	if p.configFile == "" {
		return connector.ServiceFile
	}
	if absolute, err := filepath.Abs(p.configFile); err == nil {
		return absolute
	}
	return p.configFile
}

// forService is what the service takes over from this command line. Before enrolment no edge is known, and a dry run shows what
// does not hang on it.
func (p *program) forService(dryRun bool) (connector.Installed, error) {
	text, err := os.ReadFile(p.serviceFile())
	switch {
	case err == nil && !dryRun:
		if err := connector.ReadableByService(p.serviceFile()); err != nil {
			return connector.Installed{}, err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return connector.Installed{}, err
	}
	edge := ""
	if identity, err := connector.ReadIdentity(p.config.StateDir); err == nil {
		edge, err = identity.Address()
		if err != nil {
			return connector.Installed{}, err
		}
	} else if !dryRun {
		return connector.Installed{}, err
	}
	return p.config.ForService(text, p.shown.Given(), edge)
}

func (p *program) unit() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	return service.Connector{Program: program, Config: p.serviceFile()}.Render()
}

// installable finds before the unit is started what would keep it from starting.
func (p *program) installable(executable func() (string, error)) error {
	program, err := executable()
	if err != nil {
		return err
	}
	if err := connector.ReadableByService(program); fault.Is(err, fault.Invalid) {
		return &usageError{fmt.Errorf("%w; the binary belongs into /usr/local/bin", err)}
	}
	if home := connector.Default().StateDir; p.config.StateDir != home {
		return &usageError{fmt.Errorf("the service keeps its state in %s; enrol without --state-dir", home)}
	}
	_, _, errState := connector.LoadState(p.config.StateDir)
	return errors.Join(p.usableRules(), errState)
}

// usableRules checks that the service will be able to read the rules. They may be missing where they come from the edge.
func (p *program) usableRules() error {
	path, err := filepath.Abs(p.config.Ingress)
	if err != nil {
		return err
	}
	err = connector.ReadableByService(path)
	switch {
	case p.config.IngressFrom == connector.IngressEdge, p.config.IngressFrom == connector.IngressAuto && fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return &usageError{fmt.Errorf("ingress: %w; what it names, too", err)}
	}
	_, err = connector.LoadRules(path)
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
