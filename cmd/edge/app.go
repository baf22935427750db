package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func (p *program) appCommand() *cobra.Command {
	return p.withTenant(noun("app", "Published hosts and who may use them", p.appCreate(), p.appList(), p.appAccess(), p.appDelete()))
}

// allowFlags adds --allow and --allow-service.
func allowFlags(cmd *cobra.Command, users, services *[]string) {
	cmd.Flags().StringSliceVar(users, "allow", nil, "users who may use it, by e-mail address; repeat or separate by commas")
	cmd.Flags().StringSliceVar(services, "allow-service", nil, "services that may use it, by name")
}

func (p *program) appCreate() *cobra.Command {
	var req adminv1.CreateAppRequest
	cmd := &cobra.Command{
		Use: "create", Short: "Publish a host; nobody may use it but those who are allowed here", Args: cobra.NoArgs,
		Example: "  edge app create --host oscar.maple.localhost --site main --allow dr.lee@maple.example",
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			req.Tenant = tenant
			resp, err := p.client().CreateApp(cmd.Context(), &req)
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, appHeader, appRows(resp.App), "")
		}),
	}
	f := cmd.Flags()
	f.StringVar(&req.Host, "host", "", "the public host")
	f.StringVar(&req.Site, "site", "", "the site whose connector serves it")
	f.StringVar(&req.Path, "path", "/", "the path prefix that the app owns")
	f.StringVar(&req.Name, "name", "OSCAR", "what people call it")
	f.StringSliceVar(&req.Landing, "landing", nil, "paths that links on foreign sites may open directly, apart from /")
	f.StringSliceVar(&req.Websocket, "websocket", nil, "path prefixes on which WebSocket is allowed")
	allowFlags(cmd, &req.AllowUsers, &req.AllowServices)
	for _, required := range []string{"host", "site"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err)
		}
	}
	return cmd
}

func (p *program) appList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List a clinic's apps", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ListApps(cmd.Context(), &adminv1.ListAppsRequest{Tenant: tenant})
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, appHeader, appRows(resp.Apps...), "no app yet: edge app create --host … --site … --allow …")
		}),
	}
}

func (p *program) appAccess() *cobra.Command {
	var req adminv1.SetAppAccessRequest
	cmd := &cobra.Command{
		Use: "access APP", Short: "Replace who may use an app; the others are cut off within seconds", Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			req.App = args[0]
			req.Tenant = tenant
			if _, err := p.client().SetAppAccess(cmd.Context(), &req); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: allowed are %s\n", printable(req.App), printable(orNobody(append(req.AllowUsers, req.AllowServices...))))
			return err
		}),
	}
	allowFlags(cmd, &req.AllowUsers, &req.AllowServices)
	return cmd
}

func (p *program) appDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete APP", Short: "Take an app off the air; what it has open is cut", Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			if _, err := p.client().DeleteApp(cmd.Context(), &adminv1.DeleteAppRequest{Tenant: tenant, App: args[0]}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is off the air\n", printable(args[0]))
			return err
		}),
	}
}

const appHeader = "APP\tHOST\tPATH\tSITE\tALLOWED"

func appRows(all ...*adminv1.App) [][]string {
	var rows [][]string
	for _, a := range all {
		rows = append(rows, []string{a.Id, a.Host, a.Path, a.Site, orNobody(append(a.Users, a.Services...))})
	}
	return rows
}

func orNobody(who []string) string {
	if len(who) == 0 {
		return "nobody"
	}
	return strings.Join(who, ", ")
}
