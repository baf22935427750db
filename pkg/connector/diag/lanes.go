package diag

import (
	"fmt"
	"sort"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/connector"
)

// Lanes says in words which lane runs over which transport and why, from what the running connector tells; status is nil when
// none runs. Of the metrics, what bodies did is told too.
func Lanes(status *connector.Status, metrics string) string {
	if status == nil {
		return "No connector answers on this machine, so nothing is known of its lanes.\n"
	}
	var b strings.Builder
	for _, lane := range []struct{ name, what string }{
		{"fast", "pages and other small exchanges"}, {"bulk", "large bodies"},
	} {
		fmt.Fprintf(&b, "%s lane (%s):\n", lane.name, lane.what)
		n := 0
		for _, l := range status.Links {
			if l.Lane == lane.name {
				n++
				fmt.Fprintf(&b, "  %s\n", oneLink(l))
			}
		}
		why := strings.ReplaceAll(status.Lanes[lane.name], "\n", "; ")
		switch {
		case why != "":
			fmt.Fprintf(&b, "  why: %s\n", why)
		case n == 0:
			b.WriteString("  no link yet\n")
		default:
			fmt.Fprintf(&b, "  why: %s\n", asMeant(lane.name))
		}
	}
	if counts := bodies(metrics); counts != "" {
		b.WriteString("large bodies since the start:\n" + counts)
	}
	return b.String()
}

func oneLink(l connector.LinkStatus) string {
	state := "no round trip in the last 10 s"
	if l.Up {
		state = fmt.Sprintf("up, round trip %.1f ms", l.RoundTripMS)
	}
	return fmt.Sprintf("%s to %s: %s, generation %d, since %s", l.Transport, l.Edge, state, l.Generation, l.Since.UTC().Format("2006-01-02 15:04:05Z"))
}

func asMeant(lane string) string {
	if lane == "bulk" {
		return "as meant: large bodies go over TCP, so that they do not delay pages"
	}
	return "as meant: QUIC gets through"
}

// bodies picks the counters of what large bodies did.
func bodies(metrics string) string {
	var lines []string
	for line := range strings.Lines(metrics) {
		for name, what := range map[string]string{"sallyport_exchange_moved_total": "moved", "sallyport_exchange_stayed_total": "stayed on the fast lane"} {
			if rest, ok := strings.CutPrefix(line, name+"{"); ok {
				labels, count, _ := strings.Cut(strings.TrimSpace(rest), "} ")
				lines = append(lines, fmt.Sprintf("  %s %s (%s)\n", count, what, strings.ReplaceAll(labels, `"`, "")))
			}
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}
