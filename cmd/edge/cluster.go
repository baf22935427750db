package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func (p *program) clusterCommand() *cobra.Command {
	return noun("cluster", "The edges that share a store", &cobra.Command{
		Use: "status", Short: "List all edges: how they are, what they hold, how far they are behind", Args: cobra.NoArgs,
		Long: "List all edges as this one knows them, also while the database is away. HEARTBEAT is how long ago an edge last wrote that it lives,\n" +
			"CHANGES how long ago it had read all of the change log when it did. CLOCK says how far its machine's clock is from the database's, by\n" +
			"which edges go; PEER whether this edge has a link to it. What is wrong, and what to do, is said below the table.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			resp, err := p.client().ClusterStatus(cmd.Context(), &adminv1.ClusterStatusRequest{})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, e := range resp.Edges {
				rows = append(rows, edgeRow(resp, e))
			}
			err = p.show(cmd.OutOrStdout(), resp, "EDGE\tSTATE\tVERSION\tCONNECTORS\tLINKS\tLEASES\tWEIGHT\tHEARTBEAT\tCHANGES\tCLOCK\tPEER\tADDRESS", rows,
				"this edge is alone: set store and cluster.listen to make it one of several")
			if err == nil && p.output == "table" {
				words := troubles(resp)
				if resp.SchemaVersion != 0 {
					words = append([]string{fmt.Sprintf("schema version %d", resp.SchemaVersion)}, words...)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(words, "\n"))
			}
			return err
		},
	})
}

func edgeRow(resp *adminv1.ClusterStatusResponse, e *adminv1.ClusterEdge) []string {
	peer := "no"
	switch {
	case e.Id == resp.Edge:
		peer = "itself"
	case e.Linked:
		peer = "linked"
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []string{
		e.Id, e.State, e.Software, number(e.Connectors), number(e.Links), number(e.Leases), fmt.Sprintf("%d of %d", e.Weight, e.Share*10),
		ago(e.HeartbeatAgeMs), ago(e.ChangeLagMs), clock(e.ClockAheadMs), peer, e.Address,
	}
}

// clock says how far one is off.
func clock(aheadMs int64) string {
	off := (time.Duration(aheadMs) * time.Millisecond).Round(time.Second)
	switch {
	case off > 0:
		return off.String() + " ahead"
	case off < 0:
		return (-off).String() + " behind"
	}
	return "right"
}

// ago is a time since, in words for a table.
func ago(ms int64) string {
	if ms < 0 {
		return "never"
	}
	return (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond).String()
}
