package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func (p *program) userCommand() *cobra.Command {
	var add adminv1.AddUserRequest
	addCmd := &cobra.Command{
		Use: "add E-MAIL", Short: "Add a person and invite them by mail", Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			add.Email = args[0]
			add.Tenant = tenant
			resp, err := p.client().AddUser(cmd.Context(), &add)
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, userHeader, userRows(resp.User), "")
		}),
	}
	addCmd.Flags().BoolVar(&add.Quiet, "quiet", false, "send no invitation")
	list := &cobra.Command{
		Use: "list", Short: "List a clinic's people", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ListUsers(cmd.Context(), &adminv1.ListUsersRequest{Tenant: tenant})
			if err != nil {
				return err
			}
			return p.show(cmd.OutOrStdout(), resp, userHeader, userRows(resp.Users...), "nobody yet: edge user add E-MAIL")
		}),
	}
	return p.withTenant(noun("user", "People", addCmd, list,
		p.userSwitch("disable", "Lock a person out; their sessions end at once", true),
		p.userSwitch("enable", "Let a person in again", false)))
}

func (p *program) userSwitch(use, short string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use: use + " E-MAIL", Short: short, Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			req := &adminv1.SetUserDisabledRequest{Tenant: tenant, Email: args[0], Disabled: disabled}
			resp, err := p.client().SetUserDisabled(cmd.Context(), req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %sd%s\n", printable(args[0]), use, pending(resp.How))
			return err
		}),
	}
}

const userHeader = "USER\tE-MAIL\tSTATE\tCREATED"

func userRows(all ...*adminv1.User) [][]string {
	var rows [][]string
	for _, u := range all {
		state := "active"
		if u.Disabled {
			state = "disabled"
		}
		rows = append(rows, []string{u.Id, u.Email, state, when(u.CreatedMs)})
	}
	return rows
}

func (p *program) sessionCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List a clinic's live logins", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ListSessions(cmd.Context(), &adminv1.ListSessionsRequest{Tenant: tenant})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, s := range resp.Sessions {
				rows = append(rows, []string{s.Id, s.Email, when(s.LastSeenMs), when(s.ExpiresMs), s.Source, s.Client})
			}
			return p.show(cmd.OutOrStdout(), resp, "SESSION\tWHO\tLAST SEEN\tENDS\tFROM\tWITH", rows, "nobody is signed in")
		}),
	}
	revoke := &cobra.Command{
		Use: "revoke SESSION", Short: "End a login on every host; what it has open is cut", Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			resp, err := p.client().RevokeSession(cmd.Context(), &adminv1.RevokeSessionRequest{Tenant: tenant, Session: args[0]})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is over%s\n", printable(args[0]), pending(resp.How))
			return err
		}),
	}
	return p.withTenant(noun("session", "Browser logins", list, revoke))
}

func (p *program) tokenCommand() *cobra.Command {
	return p.withTenant(noun("token", "Tokens of machine clients", p.tokenMint(), p.tokenList(), p.tokenRevoke()))
}

func (p *program) tokenMint() *cobra.Command {
	var life time.Duration
	mint := &cobra.Command{
		Use: "mint SERVICE", Short: "Make a token for a service; it is shown this once", Args: cobra.ExactArgs(1),
		Long: "Makes a token. The service sends it as the header Sallyport-Access-Token, on apps that allow the service.",
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			req := &adminv1.MintTokenRequest{Tenant: tenant, Service: args[0], LifeS: int64(life / time.Second)}
			resp, err := p.client().MintToken(cmd.Context(), req)
			if err != nil {
				return err
			}
			if p.output != "table" {
				return p.show(cmd.OutOrStdout(), resp, "", nil, "")
			}
			// The token alone on standard output, so that it can be piped to where it belongs.
			fmt.Fprintf(cmd.ErrOrStderr(), "%s for %s, good until %s; it is not shown again:\n", resp.Token.Id, resp.Token.Service, when(resp.Token.ExpiresMs))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), resp.Jwt)
			return err
		}),
	}
	mint.Flags().DurationVar(&life, "life", 0, "how long it is good for, 1h to 8760h (default 2160h)")
	return mint
}

func (p *program) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List a clinic's tokens", Args: cobra.NoArgs,
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, _ []string) error {
			resp, err := p.client().ListTokens(cmd.Context(), &adminv1.ListTokensRequest{Tenant: tenant})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, t := range resp.Tokens {
				rows = append(rows, []string{t.Id, t.Service, when(t.CreatedMs), when(t.ExpiresMs), when(t.LastUsedMs), when(t.RevokedMs)})
			}
			return p.show(cmd.OutOrStdout(), resp, "TOKEN\tSERVICE\tCREATED\tEXPIRES\tLAST USED\tREVOKED", rows, "no token yet: edge token mint SERVICE")
		}),
	}
}

func (p *program) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke TOKEN", Short: "End a token; what it has open is cut", Args: cobra.ExactArgs(1),
		RunE: p.inTenant(func(cmd *cobra.Command, tenant string, args []string) error {
			resp, err := p.client().RevokeToken(cmd.Context(), &adminv1.RevokeTokenRequest{Tenant: tenant, Token: args[0]})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is revoked%s\n", printable(args[0]), pending(resp.How))
			return err
		}),
	}
}
