package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/edge"
	"github.com/sallyport-dev/sallyport/proto/admin/v1/adminv1connect"
)

// program is what the commands share: the configuration and how to print.
type program struct {
	config     edge.Config
	configFile string
	showConfig bool
	output     string
	tenant     string
	// settings are the flags that are configuration keys; a command's own flag of the same name is none.
	settings map[*pflag.Flag]bool
}

func newRoot() *cobra.Command {
	p := &program{config: edge.Default(), settings: map[*pflag.Flag]bool{}}
	root := &cobra.Command{
		Use:           "edge",
		Short:         "The public relay of Sallyport",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       build.Version(),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return p.load(cmd.Flags())
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVar(&p.configFile, "config", os.Getenv("SALLYPORT_CONFIG"), "configuration file (YAML)")
	flags.BoolVar(&p.showConfig, "show-config", false, "print each setting with where it came from, and stop")
	flags.StringVarP(&p.output, "output", "o", "table", "table, json or yaml")
	p.settingFlags(flags, "state_dir")
	root.AddCommand(p.initCommand(), p.serveCommand(), p.configCommand(), p.tenantCommand(), p.siteCommand(), p.appCommand(),
		p.userCommand(), p.connectorCommand(), p.sessionCommand(), p.tokenCommand(), p.mailCommand(), versionCommand())
	return root
}

// settingFlags offers configuration keys as flags: those named, or all that are not there yet.
func (p *program) settingFlags(flags *pflag.FlagSet, keys ...string) {
	for _, f := range conf.Fields(&p.config) {
		if !f.Scalar() || (len(keys) > 0 && !slices.Contains(keys, f.Key)) || (len(keys) == 0 && f.Key == "state_dir") {
			continue
		}
		flags.String(f.Flag(), f.Default(), f.Help)
		if f.IsBool() {
			flags.Lookup(f.Flag()).NoOptDefVal = "true"
		}
		p.settings[flags.Lookup(f.Flag())] = true
	}
}

func (p *program) load(flags *pflag.FlagSet) error {
	given := map[string]string{}
	flags.Visit(func(f *pflag.Flag) {
		if p.settings[f] {
			given[f.Name] = f.Value.String()
		}
	})
	settings, err := conf.Load(&p.config, conf.Options{File: p.configFile, Flags: given})
	if err != nil {
		return &usageError{err}
	}
	if p.showConfig {
		fmt.Print(settings)
		os.Exit(0)
	}
	return nil
}

// client returns the running edge's API.
func (p *program) client() adminv1connect.AdminServiceClient { return adminapi.Dial(p.config.Socket()) }

// explain gives an error of the API the words for a terminal.
func (p *program) explain(err error) error { return adminapi.Explain(p.config.Socket(), err) }

// withTenant adds the flag that most nouns need.
func (p *program) withTenant(cmd *cobra.Command) *cobra.Command {
	cmd.PersistentFlags().StringVar(&p.tenant, "tenant", "", "the clinic; may be left out while there is only one")
	return cmd
}

// theTenant is the one that was named, or the only one there is.
func (p *program) theTenant(ctx context.Context) (string, error) {
	if p.tenant != "" {
		return p.tenant, nil
	}
	ids, err := p.tenantIDs(ctx)
	if err != nil {
		return "", err
	}
	switch len(ids) {
	case 0:
		return "", errors.New("there is no tenant yet: edge tenant create NAME")
	case 1:
		return ids[0], nil
	}
	return "", &usageError{fmt.Errorf("which clinic? --tenant with one of %v", ids)}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "edge %s (%s)\n", build.Version(), build.Toolchain())
			return nil
		},
	}
}
