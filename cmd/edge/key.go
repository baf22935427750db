package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func (p *program) keyCommand() *cobra.Command {
	var req adminv1.RotateKeysRequest
	rotate := &cobra.Command{
		Use: "rotate", Short: "Replace signing keys on every edge", Args: cobra.NoArgs,
		Long: "Replace signing keys on every edge. The old ones sign on until every edge and connector knows the new ones, and go on verifying what\n" +
			"they signed. With --emergency they are withdrawn at once: sessions go on, service tokens must be minted anew.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			resp, err := p.client().RotateKeys(cmd.Context(), &req)
			if err != nil {
				return err
			}
			old := "the old ones go on verifying what they signed"
			if req.Emergency {
				old = "the old ones are withdrawn"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "new keys: %s; %s\n", strings.Join(resp.Kinds, ", "), old)
			return err
		},
	}
	rotate.Flags().StringSliceVar(&req.Kinds, "kind", nil, "which: access, service, assertion, origin, edge-proof (default: all)")
	rotate.Flags().BoolVar(&req.Emergency, "emergency", false, "withdraw the old keys at once")
	return noun("key", "Signing keys", rotate)
}

// pending says what an operator must know of a revocation that the store has not been told of.
func pending(how *adminv1.Revocation) string {
	if !how.GetPending() {
		return ""
	}
	return fmt.Sprintf(" here and on %d other edges that can be reached; the store does not answer, and will be told", how.GetEdges())
}
