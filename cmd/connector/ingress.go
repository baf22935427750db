package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
)

func (p *program) ingressCommand() *cobra.Command {
	cmd := grouping(&cobra.Command{Use: "ingress", Short: "Look at the rules that say which origin serves what"})
	cmd.AddCommand(p.ingressValidate(), p.ingressRule(), ingressPin())
	return cmd
}

func (p *program) ingressValidate() *cobra.Command {
	return &cobra.Command{
		Use: "validate", Short: "Read the rules as run would, and report every fault", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := connector.LoadRules(p.config.Ingress); err != nil {
				return &usageError{err}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", p.config.Ingress)
			return nil
		},
	}
}

func (p *program) ingressRule() *cobra.Command {
	return &cobra.Command{
		Use: "rule URL", Short: "Say which rule answers a URL, and why", Args: exactly(1),
		Example: "  connector ingress rule https://oscar.clinic.example/oscar/",
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, err := connector.LoadRules(p.config.Ingress)
			if err != nil {
				return &usageError{err}
			}
			text, err := rules.Explain(args[0])
			if err != nil {
				return &usageError{err}
			}
			fmt.Fprint(cmd.OutOrStdout(), text)
			return nil
		},
	}
}

func ingressPin() *cobra.Command {
	return &cobra.Command{
		Use: "pin URL", Short: "Print the pin of the certificate that an origin shows now, for pin_sha256", Args: exactly(1),
		Long: "Prints the pin of the certificate that answers now. Run it where you are sure that it is the clinic's own\n" +
			"server that answers: on that server itself.",
		Example: "  connector ingress pin https://localhost:8443",
		RunE: func(cmd *cobra.Command, args []string) error {
			pin, err := ingress.PrintPin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), pin)
			return nil
		},
	}
}
