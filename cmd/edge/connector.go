package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func (p *program) connectorCommand() *cobra.Command {
	return p.withTenant(noun("connector", "The programs beside the origins", p.connectorInvite(), p.connectorList(), p.connectorRevoke(), p.connectorThaw()))
}

func (p *program) connectorInvite() *cobra.Command {
	var site string
	cmd := &cobra.Command{
		Use: "invite", Short: "Print the line to paste on the clinic's machine; it works once", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().InviteConnector(cmd.Context(), &adminv1.InviteConnectorRequest{Tenant: tenant, Site: site})
			if err != nil {
				return err
			}
			if p.output != "table" {
				return p.show(cmd.OutOrStdout(), resp, "", nil, "")
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Paste this on the clinic's machine. It works once, until %s:\n", when(resp.ExpiresMs))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), resp.Command)
			return err
		}),
	}
	cmd.Flags().StringVar(&site, "site", "main", "the site that it will serve")
	return cmd
}

func (p *program) connectorList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List a clinic's connectors, their links, and how the clinic's servers fare", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ListConnectors(cmd.Context(), &adminv1.ListConnectorsRequest{Tenant: tenant})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, c := range resp.Connectors {
				rows = append(rows, connectorRows(c)...)
			}
			err = p.show(cmd.OutOrStdout(), resp, "CONNECTOR\tSITE\tSTATE\tORIGINS\tLINKS", rows, "no connector yet: edge connector invite")
			if err == nil && p.output == "table" && slices.ContainsFunc(resp.Connectors, isFrozen) {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "frozen: find the copy and stop it, then edge connector thaw CONNECTOR; if you cannot tell which it is, revoke it and enrol anew")
			}
			return err
		}),
	}
}

// connectorRows are a connector's rows in the table: one, and a further one for each link after the first.
func connectorRows(c *adminv1.Connector) [][]string {
	rows := [][]string{{c.Id, c.Site, connectorState(c), origins(c), ""}}
	for i, l := range c.Links {
		if i > 0 {
			rows = append(rows, []string{" ", " ", " ", " ", ""})
		}
		rows[i][4] = link(l)
	}
	return rows
}

func isFrozen(c *adminv1.Connector) bool { return c.RevokedMs == 0 && c.Frozen != "" }

func connectorState(c *adminv1.Connector) string {
	switch {
	case c.RevokedMs != 0:
		return "revoked " + when(c.RevokedMs)
	case c.Frozen != "":
		return "frozen: " + c.Frozen
	case len(c.Links) == 0 && len(c.Elsewhere) > 0:
		return "linked at " + strings.Join(c.Elsewhere, ", ")
	case len(c.Links) == 0:
		return "no link"
	case !slices.ContainsFunc(c.Links, (*adminv1.Link).GetUp):
		return "linked, but nothing gets through"
	}
	return "up"
}

func link(l *adminv1.Link) string {
	state := "no round trip in the last 10 s"
	if l.Up {
		state = fmt.Sprintf("up, %.0f ms", l.LastRoundTripMs)
	}
	return fmt.Sprintf("%s %s from %s since %s (%s)", l.Lane, l.Transport, l.Remote, when(l.SinceMs), state)
}

// origins says of each of the clinic's servers how it fares, as the connector told it last.
func origins(c *adminv1.Connector) string {
	var out []string
	for _, o := range c.Origins {
		text := o.Name + ": " + originWords(o.State)
		if !o.Healthy && o.CheckedMs != 0 {
			text += ", checked " + when(o.CheckedMs)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// originWords puts a state plainly; those that a newer connector may have stay as they are.
func originWords(state string) string {
	switch state {
	case "ok":
		return "ok"
	case "busy":
		return "busy (it answers; requests wait for their turn)"
	case "refused":
		return "refused (it takes no connection: is it running?)"
	case "timeout":
		return "timeout (it does not answer in time: does it hang?)"
	case "certificate":
		return "certificate (not the expected one, or expired)"
	case "error":
		return "error (it answers with an error, or breaks off)"
	case "unchecked":
		return "not checked yet"
	}
	return state
}

func (p *program) connectorRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke CONNECTOR", Short: "End a connector for good; its links are cut within seconds", Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			resp, err := p.client().RevokeConnector(cmd.Context(), &adminv1.RevokeConnectorRequest{Tenant: tenant, Connector: args[0]})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is revoked%s\n", printable(args[0]), pending(resp.How))
			return err
		}),
	}
}

func (p *program) connectorThaw() *cobra.Command {
	return &cobra.Command{
		Use: "thaw CONNECTOR", Short: "Take links of a frozen connector again", Args: cobra.ExactArgs(1),
		Long: "A connector is frozen when its key is in use on two machines: one of them is a copy. Find and remove the copy first;\n" +
			"if you cannot tell which it is, revoke the connector and enrol anew instead.",
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			if _, err := p.client().ThawConnector(cmd.Context(), &adminv1.ThawConnectorRequest{Tenant: tenant, Connector: args[0]}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s may open links again\n", printable(args[0]))
			return err
		}),
	}
}
