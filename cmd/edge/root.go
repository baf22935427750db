package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/edge"
	"github.com/sallyport-dev/sallyport/pkg/fault"
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
	// given are those that were given.
	given map[string]string
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
			return p.load(cmd.OutOrStdout(), cmd.Flags())
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&p.configFile, "config", os.Getenv("SALLYPORT_CONFIG"), "configuration file (YAML)")
	flags.BoolVar(&p.showConfig, "show-config", false, "print each setting with where it came from, and stop")
	flags.StringVarP(&p.output, "output", "o", "table", "table, json or yaml")
	p.settingFlags(flags, "state_dir")
	root.AddCommand(p.initCommand(), p.serveCommand(), p.restartCommand(), p.configCommand(), p.tenantCommand(), p.siteCommand(), p.appCommand(),
		p.userCommand(), p.keyCommand(), p.connectorCommand(), p.clusterCommand(), p.ingressCommand(), p.sessionCommand(), p.tokenCommand(), p.mailCommand(), p.storeCommand(), p.serviceCommand(), versionCommand())
	p.finish(root)
	return root
}

// noun is a command that only holds others. Unlike one of cobra's own it says which of them it does not know, and fails then.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// finish gives every command's error the words for a terminal and marks that the command had begun, for the exit code.
func (p *program) finish(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := adminapi.Explain(p.config.Socket(), run(cmd, args)); err != nil {
				return &commandError{err}
			}
			return nil
		}
	}
	for _, child := range cmd.Commands() {
		p.finish(child)
	}
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

// load reads the configuration, which every command needs to find the edge's socket.
func (p *program) load(out io.Writer, flags *pflag.FlagSet) error {
	if !slices.Contains([]string{"table", "json", "yaml"}, p.output) { // before anything is changed
		return fmt.Errorf("--output %q: use table, json or yaml", p.output)
	}
	p.given = map[string]string{}
	flags.Visit(func(f *pflag.Flag) {
		if p.settings[f] {
			p.given[f.Name] = f.Value.String()
		}
	})
	settings, err := conf.Load(&p.config, conf.Options{File: p.configFile, Flags: p.given})
	if err != nil {
		return err
	}
	if p.showConfig {
		fmt.Fprint(out, settings)
		return errShown
	}
	return nil
}

// reload reads the configuration again, as load did; flags and environment are the program's for good.
func (p *program) reload() (edge.Config, error) {
	fresh := edge.Default()
	_, err := conf.Load(&fresh, conf.Options{File: p.configFile, Flags: p.given})
	return fresh, err
}

// client returns the running edge's API.
func (p *program) client() adminv1connect.AdminServiceClient { return adminapi.Dial(p.config.Socket()) }

// withTenant adds the flag that most nouns need.
func (p *program) withTenant(cmd *cobra.Command) *cobra.Command {
	cmd.PersistentFlags().StringVar(&p.tenant, "tenant", "", "the clinic; may be left out while there is only one")
	return cmd
}

// inTenant makes a command's RunE of what is to be done for the clinic that was named, or the only one there is.
func (p *program) inTenant(run func(cmd *cobra.Command, tenant string, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		tenant, err := p.theTenant(cmd.Context())
		if err != nil {
			return err
		}
		return run(cmd, tenant, args)
	}
}

func (p *program) theTenant(ctx context.Context) (string, error) {
	if p.tenant != "" {
		return p.tenant, nil
	}
	ids, err := p.tenantIDs(ctx)
	if adminapi.Unavailable(err) {
		return "", fault.New(fault.Unavailable, "%s; or name the clinic with --tenant: what is revoked so holds without the database",
			adminapi.Explain(p.config.Socket(), err))
	}
	if err != nil {
		return "", err
	}
	switch len(ids) {
	case 0:
		return "", errors.New("there is no tenant yet: edge tenant create NAME")
	case 1:
		return ids[0], nil
	}
	return "", fault.New(fault.Invalid, "which clinic? --tenant with one of: %s", strings.Join(ids, ", "))
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
