package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sort"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/service"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// maxStatus bounds what is read of the running process, in bytes.
const maxStatus = 4 << 20

// UnitState is how the connector's service fares.
type UnitState struct {
	// Known is false where there is no such service.
	Known bool
	// Active is systemd's word: active, failed, inactive, …
	Active string
	// ExitCode is that of the last run.
	ExitCode string
}

func systemdUnit(ctx context.Context) (UnitState, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,ActiveState,ExecMainStatus", service.ConnectorUnit).Output()
	if err != nil {
		return UnitState{}, err
	}
	var s UnitState
	for _, line := range strings.Split(string(out), "\n") {
		switch key, value, _ := strings.Cut(line, "="); key {
		case "LoadState":
			s.Known = value == "loaded"
		case "ActiveState":
			s.Active = value
		case "ExecMainStatus":
			s.ExitCode = value
		}
	}
	return s, nil
}

// Ask fetches a page of the connector that runs at a loopback address; path is /ready or /metrics.
func Ask(ctx context.Context, loopback, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback+path, nil)
	if err != nil {
		return nil, err
	}
	// Loopback never goes through a proxy.
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end
	return io.ReadAll(io.LimitReader(response.Body, maxStatus))
}

// AskReady asks the connector that runs at a loopback address how it fares.
func AskReady(ctx context.Context, loopback string) (connector.Status, error) {
	var status connector.Status
	text, err := Ask(ctx, loopback, "/ready")
	if err == nil {
		err = json.Unmarshal(text, &status)
	}
	if err == nil && status.Status == "" {
		err = fmt.Errorf("what answers at %s is no connector", loopback)
	}
	return status, err
}

// checkLink asks the running connector; a link of the doctor's own would look like a copied key.
func (x *examination) checkLink(ctx context.Context) []Check {
	switch {
	case !x.enrolled:
		return skipped(CheckLink, "this machine is not enrolled")
	case x.Connector.Loopback == "" || strings.HasSuffix(x.Connector.Loopback, ":0"):
		return skipped(CheckLink, "loopback names no address to ask the running connector at")
	}
	status, err := AskReady(ctx, x.Connector.Loopback)
	switch {
	case err != nil:
		return x.notRunning(ctx)
	case status.ConnectorID != x.identity.Connector:
		return found(CheckLink, Problem, fmt.Sprintf("the connector at %s is another one, %s", x.Connector.Loopback, status.ConnectorID),
			"It was started before this machine was enrolled anew, or reads another state directory: systemctl restart sallyport-connector.")
	case status.ReadyConnections > 0 && status.Protocol != "":
		return found(CheckLink, OK, linked(status))
	}
	return x.noLink(status)
}

func linked(s connector.Status) string {
	text := fmt.Sprintf("up over %s, round trip %.1f ms", s.Way(), s.RoundTripMS)
	for _, why := range reasons(s) {
		text += "; " + why
	}
	return text
}

// reasons lists why lanes are not what they could be.
func reasons(s connector.Status) []string {
	var out []string
	for lane, why := range s.Lanes {
		out = append(out, lane+" lane: "+strings.ReplaceAll(why, "\n", "; "))
	}
	sort.Strings(out)
	return out
}

func (x *examination) noLink(s connector.Status) []Check {
	why := strings.Join(reasons(s), "; ")
	switch {
	case strings.Contains(why, tunnel.ReasonRevoked+":"):
		return x.revoked()
	case strings.Contains(why, "frozen"):
		return found(CheckLink, Problem, "the edge has frozen this connector: its key was seen in use twice",
			"Make sure that no copy of this machine (a clone, a restored backup) runs; then ask your provider to lift the freeze.")
	case strings.Contains(why, "not the edge that this connector enrolled with"):
		return found(CheckLink, Problem, "what answers is not the edge that this machine enrolled with",
			"A firewall that opens TLS stands in between, most likely: have "+x.host+" exempted from inspection there, or set tls_inspection: true.",
			"If the provider has set the edge up anew, ask for a new invitation and enrol anew.")
	case strings.Contains(why, "does not know you"):
		return found(CheckLink, Problem, "the edge is reached and does not believe that this is the machine that was enrolled",
			"If the clinic's firewall opens TLS and this machine trusts its CA, that is why: have "+x.host+" exempted from inspection there, or set tls_inspection: true.",
			"Otherwise this enrolment is not the edge's: ask your provider for a new invitation and enrol anew.")
	case s.Status == connector.StatusDraining:
		return found(CheckLink, Problem, "the connector is stopping", "Ask again in half a minute.")
	}
	detail := "the connector runs and has no link"
	if why != "" {
		detail += ": " + why
	}
	return found(CheckLink, Problem, detail,
		"Put right what the checks above found; the connector dials again by itself, within 30 seconds.",
		"If they found nothing, ask your provider, with what connector diag gathers.")
}

func (x *examination) revoked() []Check {
	return found(CheckLink, Problem, "your provider has revoked this machine's enrolment",
		"Ask why, and for a new invitation. Then stop the connector, remove identity.json and key.pem in "+x.Connector.StateDir+", and paste the new line.")
}

func (x *examination) notRunning(ctx context.Context) []Check {
	unit, err := x.Unit(ctx)
	detail := "no connector answers at " + x.Connector.Loopback
	switch {
	case err != nil || !unit.Known:
		return found(CheckLink, Problem, detail+": it is not running", "Start it: connector service install; or connector run, where there is no systemd.")
	case unit.ExitCode == fmt.Sprint(service.ExitRevoked) && unit.Active != "active":
		return x.revoked()
	case unit.Active == "active":
		return found(CheckLink, Problem, detail+", although the service runs",
			"It may have just started: ask again in ten seconds. If that stays so: systemctl restart sallyport-connector.")
	}
	return found(CheckLink, Problem, detail+": the service is "+unit.Active, "Start it: systemctl start sallyport-connector.",
		"If it ends again, this says why: journalctl -u sallyport-connector -n 20.")
}
