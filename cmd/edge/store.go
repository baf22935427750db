package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/pkg/edge"
	"github.com/sallyport-dev/sallyport/pkg/store"
)

func (p *program) storeCommand() *cobra.Command {
	var from, to string
	move := &cobra.Command{
		Use: "move", Short: "Fill a new store with everything in another one: from SQLite to PostgreSQL, or back", Args: cobra.NoArgs,
		Long: "Copies table by table and compares both sides by a digest; each line is a table that is the same on both. The source is\n" +
			"locked meanwhile and stays as it was. Stop the edge first; what is broken off goes on when the command is given again.\n" +
			"Then set store to the new one and start the edge; never start an edge on the old one again, which is a back-up now.\n" +
			"A command line can be read by others: a URL with a password belongs in a file of mode 0600, --to file:/path.",
		Example: "  edge store move --state-dir /var/lib/sallyport-edge \\\n" +
			"    --from sqlite:/var/lib/sallyport-edge/sallyport.db --to postgres://sallyport@db.example/sallyport",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			rows := int64(0)
			err := edge.MoveStore(cmd.Context(), p.config, from, to, func(m store.Moved) {
				rows += m.Rows
				fmt.Fprintf(out, "%-20s %9d rows  sha256 %.16s…", m.Table, m.Rows, m.Digest)
				if m.Before > 0 {
					fmt.Fprintf(out, "  (%d were there already)", m.Before)
				}
				if m.Replaced > 0 {
					fmt.Fprintf(out, "  (%d texts had bytes that PostgreSQL cannot hold: replaced by U+FFFD)", m.Replaced)
				}
				fmt.Fprintln(out)
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "moved: %d rows, the same on both sides; the source is as it was\n", rows)
			return nil
		},
	}
	move.Flags().StringVar(&from, "from", "", "the store to read: sqlite:PATH, postgres://… or file:/path of the URL")
	move.Flags().StringVar(&to, "to", "", "the new store, in the same form")
	_ = move.MarkFlagRequired("from") // fails for an unknown flag only
	_ = move.MarkFlagRequired("to")
	return noun("store", "Where the edge keeps what it knows", move)
}
