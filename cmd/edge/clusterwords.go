package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

const (
	// silentFrom is the age of a heartbeat that is no ordinary one: they come every 2 s, and are read as often.
	silentFrom = 8 * time.Second
	// behindFrom is how far an edge may be behind the change log.
	behindFrom = 5 * time.Second
	// offFrom is how far a clock may be off.
	offFrom = 5 * time.Second
)

// troubles says in plain words what is wrong with a cluster, what that means, and what to do; none if all is well.
func troubles(resp *adminv1.ClusterStatusResponse) (out []string) {
	away := resp.SchemaVersion == 0
	if away {
		out = append(out, "the database does not answer this edge: who is signed in goes on for a time (/ready says how long), nobody signs in, nothing can be changed")
	}
	var versions []string
	for _, e := range resp.Edges {
		var words string
		if e.Id == resp.Edge {
			words = ofItself(e, away)
		} else {
			words = ofAnother(e, away)
		}
		if words != "" {
			out = append(out, e.Id+": "+words)
		}
		if off := (time.Duration(e.ClockAheadMs) * time.Millisecond).Abs(); off >= offFrom {
			out = append(out, fmt.Sprintf("%s: its machine's clock is %s: have it set (NTP); until then the edge goes by the database's", e.Id, clock(e.ClockAheadMs)))
		}
		if e.State != "lapsed" && !slices.Contains(versions, e.Software) {
			versions = append(versions, e.Software)
		}
	}
	if !resp.Listed {
		out = append(out, sharedURLs(resp.Edges)...)
	}
	if len(versions) > 1 {
		out = append(out, "edges run different versions ("+strings.Join(versions, ", ")+"): that works for an upgrade; finish it")
	}
	return out
}

// sharedURLs names edges that connectors cannot tell apart: each takes such edges for one, and holds links to one only.
func sharedURLs(edges []*adminv1.ClusterEdge) (out []string) {
	at := map[string][]string{}
	var urls []string
	for _, e := range edges {
		if e.State == "lapsed" || e.Url == "" {
			continue
		}
		if at[e.Url] == nil {
			urls = append(urls, e.Url)
		}
		at[e.Url] = append(at[e.Url], e.Id)
	}
	for _, url := range urls {
		if names := at[url]; len(names) > 1 {
			slices.Sort(names)
			out = append(out, fmt.Sprintf("%s: all say that connectors reach them at %s, so a connector holds links to one of them only: give each a host of its own, "+
				"which leads to it alone, or list them under edges", strings.Join(names, ", "), url))
		}
	}
	return out
}

func ofItself(e *adminv1.ClusterEdge, away bool) string {
	switch {
	case away:
		return ""
	case e.State == "cut off":
		return "the database answers, but takes no heartbeat of this edge: if another process runs under its name (cluster.edge), its log says so"
	case e.State == "draining":
		return "is stopping, and takes nothing new"
	case behind(e):
		return fmt.Sprintf("is %s behind the change log: what is revoked elsewhere comes over links of other edges only", ago(e.ChangeLagMs))
	}
	return ""
}

func ofAnother(e *adminv1.ClusterEdge, away bool) string {
	silent := e.HeartbeatAgeMs < 0 || time.Duration(e.HeartbeatAgeMs)*time.Millisecond >= silentFrom
	switch {
	case e.State == "lapsed":
		return fmt.Sprintf("is down, or cut off: last heartbeat %s, no link from here; connectors and browsers are to be at the others: see its machine", since(e))
	case away && !e.Linked:
		return "no link from here, and the database cannot say whether it lives: see its machine"
	case away:
		return ""
	case silent && !e.Linked:
		return fmt.Sprintf("does not answer: last heartbeat %s, no link from here; it counts as down after 15s", since(e))
	case silent:
		return fmt.Sprintf("answers here, but does not reach the database: last heartbeat %s; who it knows goes on there, nobody signs in there", since(e))
	case !e.Linked:
		return fmt.Sprintf("lives, but there is no link from here: is UDP from here to %s open? requests here for a clinic whose connectors are there alone fail (E-TUNNEL-DOWN)", e.Address)
	case e.State == "draining":
		return "is stopping, and takes nothing new"
	case behind(e):
		return fmt.Sprintf("is %s behind the change log: what is revoked here reaches it over the link from here only", ago(e.ChangeLagMs))
	}
	return ""
}

func behind(e *adminv1.ClusterEdge) bool {
	return time.Duration(e.ChangeLagMs)*time.Millisecond >= behindFrom
}

func since(e *adminv1.ClusterEdge) string {
	if e.HeartbeatAgeMs < 0 {
		return "never"
	}
	return ago(e.HeartbeatAgeMs) + " ago"
}
