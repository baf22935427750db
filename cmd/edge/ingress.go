package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// maxRules is more than the edge takes; a larger file need not be read to its end to be refused.
const maxRules = 512 << 10

func (p *program) ingressCommand() *cobra.Command {
	site := ""
	cmd := p.withTenant(noun("ingress", "Ingress rules kept here for a site's connectors",
		p.ingressSet(&site), p.ingressShow(&site), p.ingressList(&site), p.ingressClear(&site), p.ingressStatus(&site)))
	cmd.PersistentFlags().StringVar(&site, "site", "main", "the site whose connectors the rules are for")
	return cmd
}

func (p *program) ingressSet(site *string) *cobra.Command {
	return &cobra.Command{
		Use: "set FILE", Short: "Keep the rules in a file (- for standard input); the connectors get them at once", Args: cobra.ExactArgs(1),
		Long: "Reads the file as a connector would and reports every fault; what is good becomes the next version and is sent to the\n" +
			"site's connectors. Each checks it against what its clinic allows (ingress_allow) and keeps the rules before if it\n" +
			"refuses: `edge ingress status` says so. A connector with an ingress file of its own goes by that.",
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			text, err := readRules(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			resp, err := p.client().SetIngress(cmd.Context(), &adminv1.SetIngressRequest{Tenant: tenant, Site: *site, Yaml: text})
			if err != nil {
				return err
			}
			return p.ingressMade(cmd.OutOrStdout(), resp, resp.Ingress)
		}),
	}
}

func readRules(in io.Reader, name string) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	return io.ReadAll(io.LimitReader(in, maxRules))
}

// ingressMade says which version there is now.
func (p *program) ingressMade(w io.Writer, answer any, i *adminv1.Ingress) error {
	if p.output != "table" {
		return p.show(w, answer, "", nil, "")
	}
	_, err := fmt.Fprintf(w, "version %d is kept for %s/%s; edge ingress status says what the connectors make of it\n", i.Version, printable(i.Tenant), printable(i.Site))
	return err
}

func (p *program) ingressShow(site *string) *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use: "show", Short: "Print the rules that are kept", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().GetIngress(cmd.Context(), &adminv1.GetIngressRequest{Tenant: tenant, Site: *site, Version: version})
			if err != nil {
				return err
			}
			if p.output != "table" {
				return p.show(cmd.OutOrStdout(), resp, "", nil, "")
			}
			if resp.Ingress.Size == 0 {
				_, err = fmt.Fprintf(cmd.ErrOrStderr(), "version %d keeps none\n", resp.Ingress.Version)
				return err
			}
			_, err = cmd.OutOrStdout().Write(resp.Ingress.Yaml)
			return err
		}),
	}
	cmd.Flags().Uint64Var(&version, "version", 0, "which version; 0 for the newest")
	return cmd
}

func (p *program) ingressList(site *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the versions that are still known, newest first", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ListIngress(cmd.Context(), &adminv1.ListIngressRequest{Tenant: tenant, Site: *site})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, i := range resp.Versions {
				size := fmt.Sprintf("%d bytes", i.Size)
				if i.Size == 0 {
					size = "none kept"
				}
				rows = append(rows, []string{strconv.FormatUint(i.Version, 10), when(i.CreatedMs), i.By, size})
			}
			return p.show(cmd.OutOrStdout(), resp, "VERSION\tMADE\tBY\tRULES", rows, "no rules are kept here: edge ingress set FILE")
		}),
	}
}

func (p *program) ingressClear(site *string) *cobra.Command {
	return &cobra.Command{
		Use: "clear", Short: "Keep no rules any more; connectors without a file of their own then run none", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ClearIngress(cmd.Context(), &adminv1.ClearIngressRequest{Tenant: tenant, Site: *site})
			if err != nil {
				return err
			}
			if p.output != "table" {
				return p.show(cmd.OutOrStdout(), resp, "", nil, "")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "no rules are kept for %s/%s any more (version %d); connectors without a file of their own run none\n",
				printable(tenant), printable(*site), resp.Ingress.Version)
			return err
		}),
	}
}

func (p *program) ingressStatus(site *string) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say what each connector of the site runs, and what it said of the newest rules", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().IngressStatus(cmd.Context(), &adminv1.IngressStatusRequest{Tenant: tenant, Site: *site})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, c := range resp.Connectors {
				rows = append(rows, []string{c.Connector, runs(c), says(c, resp.Version)})
			}
			return p.show(cmd.OutOrStdout(), resp, "CONNECTOR\tRUNS\tNEWEST IS "+strconv.FormatUint(resp.Version, 10), rows, "no connector yet: edge connector invite --site "+*site)
		}),
	}
}

func runs(c *adminv1.ConnectorIngress) string {
	switch {
	case c.OwnFile:
		return "its own file"
	case c.Running != 0:
		return fmt.Sprintf("version %d", c.Running)
	case !c.Linked || c.Answered == 0: // a connector says what it runs when it answers rules that it was sent
		return "unknown"
	}
	return "no rules"
}

// says is what a connector makes of the newest version.
func says(c *adminv1.ConnectorIngress, newest uint64) string {
	switch {
	case newest == 0:
		return "nothing is kept here"
	case c.OwnFile:
		return "takes its rules from its own file"
	case c.Answered == newest && c.Refused != "":
		return fmt.Sprintf("refused %s: %s", when(c.AnsweredMs), c.Refused)
	case c.Running == newest:
		return "accepted"
	case !c.Linked:
		return "not linked; it gets them when it is"
	case c.Sent == newest:
		return "sent " + when(c.SentMs) + ", not answered"
	}
	return "not sent yet"
}
