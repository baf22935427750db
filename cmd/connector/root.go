package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/connector"
)

// program is what the commands share: the configuration.
type program struct {
	config     connector.Config
	configFile string
	showConfig bool
	shown      conf.Settings
	given      map[string]string
	// settings are the flags that are configuration keys; a command's own flag of the same name is none.
	settings map[*pflag.Flag]bool
}

func newRoot() *cobra.Command {
	p := &program{config: *connector.Default(), settings: map[*pflag.Flag]bool{}}
	root := &cobra.Command{
		Use:           "connector",
		Short:         "Carries a clinic's server to its edge; dials out only",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       build.Version(),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return p.load(cmd)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVar(&p.configFile, "config", installedFile(), "configuration file (YAML); "+connector.ServiceFile+" if it is there")
	flags.BoolVar(&p.showConfig, "show-config", false, "print each setting with where it came from, and stop")
	for _, f := range conf.Fields(&p.config) {
		if !f.Scalar() {
			continue
		}
		flags.String(f.Flag(), f.Default(), f.Help)
		p.settings[flags.Lookup(f.Flag())] = true
		if f.IsBool() {
			flags.Lookup(f.Flag()).NoOptDefVal = "true"
		}
	}
	grouping(root)
	root.AddCommand(p.enrollCommand(), p.runCommand(), p.restartCommand(), p.ingressCommand(), p.readyCommand(), p.doctorCommand(), p.diagCommand(), p.serviceCommand(), versionCommand())
	return root
}

// installedFile is the configuration file unless one is named: the installed service's, so that doctor and the others look at what
// the service does. SALLYPORT_CONFIG names another; empty, none.
func installedFile() string {
	if named, ok := os.LookupEnv("SALLYPORT_CONFIG"); ok {
		return named
	}
	if _, err := os.Stat(connector.ServiceFile); err != nil {
		return ""
	}
	return connector.ServiceFile
}

// load reads the configuration: flags before environment before file before default.
func (p *program) load(cmd *cobra.Command) error {
	p.given = map[string]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if p.settings[f] {
			p.given[f.Name] = f.Value.String()
		}
	})
	settings, err := conf.Load(&p.config, conf.Options{File: p.configFile, Flags: p.given})
	if err != nil {
		return &usageError{err}
	}
	p.shown = settings
	if p.showConfig {
		fmt.Fprint(cmd.OutOrStdout(), settings)
		return &exitError{0}
	}
	return nil
}

// reload reads the configuration as load did.
func (p *program) reload() (connector.Config, error) {
	fresh := *connector.Default()
	_, err := conf.Load(&fresh, conf.Options{File: p.configFile, Flags: p.given})
	return fresh, err
}

// grouping makes a command that only holds others say which of them it does not know.
func grouping(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &usageError{fmt.Errorf("unknown command %q; see %s --help", args[0], cmd.CommandPath())}
		}
		return cmd.Help()
	}
	return cmd
}

// exactly is cobra.ExactArgs with this program's exit code.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return &usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "connector %s (%s)\n", build.Version(), build.Toolchain())
			return nil
		},
	}
}
