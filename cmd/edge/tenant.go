package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func (p *program) tenantCommand() *cobra.Command {
	var req adminv1.CreateTenantRequest
	create := &cobra.Command{
		Use: "create ID", Short: "Add a clinic", Args: cobra.ExactArgs(1),
		Example: `  edge tenant create maple --name "Maple Family Clinic" --zone America/Toronto`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Id = args[0]
			resp, err := p.client().CreateTenant(cmd.Context(), &req)
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, tenantHeader, tenantRows(resp.Tenant), "")
		},
	}
	create.Flags().StringVar(&req.Name, "name", "", "what people call the clinic")
	create.Flags().StringVar(&req.SignInHost, "sign-in-host", "", "host of its sign-in pages (default signin.ID.DOMAIN)")
	create.Flags().StringVar(&req.Zone, "zone", "", "IANA time zone (default UTC)")
	list := &cobra.Command{
		Use: "list", Short: "List the clinics", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			resp, err := p.client().ListTenants(cmd.Context(), &adminv1.ListTenantsRequest{})
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, tenantHeader, tenantRows(resp.Tenants...), "no clinic yet: edge tenant create NAME")
		},
	}
	return noun("tenant", "Clinics", create, list)
}

const tenantHeader = "TENANT\tNAME\tSIGN-IN HOST\tZONE\tCREATED"

func tenantRows(all ...*adminv1.Tenant) [][]string {
	var rows [][]string
	for _, t := range all {
		rows = append(rows, []string{t.Id, t.Name, t.SignInHost, t.Zone, when(t.CreatedMs)})
	}
	return rows
}

func (p *program) tenantIDs(ctx context.Context) ([]string, error) {
	resp, err := p.client().ListTenants(ctx, &adminv1.ListTenantsRequest{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, t := range resp.Tenants {
		ids = append(ids, t.Id)
	}
	return ids, nil
}

func (p *program) siteCommand() *cobra.Command {
	create := &cobra.Command{
		Use: "create ID", Short: "Add a site to a clinic", Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			resp, err := p.client().CreateSite(cmd.Context(), &adminv1.CreateSiteRequest{Tenant: tenant, Id: args[0]})
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, siteHeader, siteRows(resp.Site), "")
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List a clinic's sites", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ListSites(cmd.Context(), &adminv1.ListSitesRequest{Tenant: tenant})
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, siteHeader, siteRows(resp.Sites...), "no site yet: edge site create main")
		}),
	}
	return p.withTenant(noun("site", "Places with an origin", create, list))
}

const siteHeader = "TENANT\tSITE\tCREATED"

func siteRows(all ...*adminv1.Site) [][]string {
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{s.Tenant, s.Id, when(s.CreatedMs)})
	}
	return rows
}

func (p *program) mailCommand() *cobra.Command {
	return noun("mail", "The edge's outgoing mail", &cobra.Command{
		Use: "test ADDRESS", Short: "Send a mail now and say what the mail server said", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := p.client().TestMail(cmd.Context(), &adminv1.TestMailRequest{To: args[0]}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "the mail server took the mail to %s\n", printable(args[0]))
			return err
		},
	})
}
