package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/service"
)

// defaultConfigFile is where the unit takes the configuration from unless --config says otherwise.
const defaultConfigFile = "/etc/sallyport/edge.yaml"

func (p *program) serviceCommand() *cobra.Command {
	return noun("service", "Run the edge under systemd", &cobra.Command{
		Use: "unit", Short: "Print the systemd unit that runs this binary with --config", Args: cobra.NoArgs,
		Example: "  edge service unit > /etc/systemd/system/" + service.EdgeUnit,
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			file := p.configFile
			if file == "" {
				file = defaultConfigFile
			}
			if file, err = filepath.Abs(file); err != nil {
				return err
			}
			text, err := service.Edge{Program: program, Config: file}.Render()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	})
}
