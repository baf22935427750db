package main

import (
	"slices"
	"testing"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func TestOriginsAreListedInPlainWords(t *testing.T) {
	for state, want := range map[string]string{
		"ok":          "oscar: ok",
		"busy":        "oscar: busy (it answers; requests wait for their turn)",
		"refused":     "oscar: refused (it takes no connection: is it running?)",
		"timeout":     "oscar: timeout (it does not answer in time: does it hang?)",
		"certificate": "oscar: certificate (not the expected one, or expired)",
		"error":       "oscar: error (it answers with an error, or breaks off)",
		"unchecked":   "oscar: not checked yet",
		"newer":       "oscar: newer",
	} {
		if got := origins(&adminv1.Connector{Origins: []*adminv1.OriginState{{Name: "oscar", State: state}}}); got != want {
			t.Errorf("%s: %q", state, got)
		}
	}
	two := []*adminv1.OriginState{{Name: "oscar", State: "ok", Healthy: true, CheckedMs: 1}, {Name: "companion", State: "refused", CheckedMs: 1_700_000_000_000}}
	want := "oscar: ok; companion: refused (it takes no connection: is it running?), checked " + when(1_700_000_000_000)
	if got := origins(&adminv1.Connector{Origins: two}); got != want {
		t.Errorf("two: %q", got)
	}
}

// The list has a row for each link, so that it fits a terminal, and says of a connector without one here where it is linked.
func TestConnectorsAreListedALinkARow(t *testing.T) {
	up := &adminv1.Link{Lane: "fast", Transport: "quic", Remote: "10.0.0.9:1", SinceMs: 1_700_000_000_000, Up: true, LastRoundTripMs: 4}
	doubtful := &adminv1.Link{Lane: "bulk", Transport: "websocket", Remote: "10.0.0.9:2", SinceMs: 1_700_000_000_000}
	since := when(1_700_000_000_000)
	for name, c := range map[string]struct {
		connector *adminv1.Connector
		want      [][]string
	}{
		"two links": {&adminv1.Connector{Id: "con_a", Site: "main", Links: []*adminv1.Link{up, doubtful}, Elsewhere: []string{"west"}}, [][]string{
			{"con_a", "main", "up", "", "fast quic from 10.0.0.9:1 since " + since + " (up, 4 ms)"},
			{" ", " ", " ", " ", "bulk websocket from 10.0.0.9:2 since " + since + " (no round trip in the last 10 s)"},
		}},
		"at others": {&adminv1.Connector{Id: "con_a", Site: "main", Elsewhere: []string{"east", "west"}}, [][]string{{"con_a", "main", "linked at east, west", "", ""}}},
		"nowhere":   {&adminv1.Connector{Id: "con_a", Site: "main"}, [][]string{{"con_a", "main", "no link", "", ""}}},
		"frozen":    {&adminv1.Connector{Id: "con_a", Site: "main", Frozen: "why", Elsewhere: []string{"east"}}, [][]string{{"con_a", "main", "frozen: why", "", ""}}},
	} {
		if got := connectorRows(c.connector); !slices.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What a connector runs is known from its answers: before the first one nobody here can say.
func TestWhatAConnectorRuns(t *testing.T) {
	for want, c := range map[string]*adminv1.ConnectorIngress{
		"its own file": {Linked: true, OwnFile: true, Answered: 2},
		"version 2":    {Linked: true, Running: 2, Answered: 3},
		"no rules":     {Linked: true, Answered: 1, Refused: "why"},
		"unknown":      {Linked: true},
	} {
		if got := runs(c); got != want {
			t.Errorf("%v: %q", c, got)
		}
	}
}
