package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
)

// maxOrigins is how many origins are reported; a clinic has one or two.
const maxOrigins = 64

// checkOrigins asks every origin of the rules once, as the connector's health check does.
func (x *examination) checkOrigins(ctx context.Context) []Check {
	rules, from, err := x.Connector.RulesAtStart()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return found(CheckOrigin, Problem, "you may not read the ingress rules: "+err.Error(), "Run this as root: sudo connector doctor")
	case err != nil:
		return found(CheckOrigin, Problem, strings.ReplaceAll(err.Error(), "\n", "; "), "Correct "+x.Connector.Ingress+"; connector ingress validate checks it.")
	case from.Problem != "":
		return found(CheckOrigin, Problem, from.Problem, "Ask your provider to correct the rules, or allow the origin here in ingress_allow.")
	case from.From != connector.IngressFile && from.From != connector.IngressEdge && !x.enrolled:
		return skipped(CheckOrigin, "there are no ingress rules yet")
	case from.From != connector.IngressFile && from.From != connector.IngressEdge:
		return found(CheckOrigin, Problem, "there are no ingress rules: neither "+x.Connector.Ingress+" nor any from the edge",
			"Say in "+x.Connector.Ingress+" where OSCAR is, or ask your provider to keep the rules at the edge.")
	}
	var checks []Check
	for _, f := range ingress.Examine(ctx, rules, x.Limit) {
		if len(checks) < maxOrigins {
			checks = append(checks, originCheck(f, x.Now()))
		}
	}
	if checks == nil {
		return skipped(CheckOrigin, "the ingress rules name none")
	}
	return checks
}

func originCheck(f ingress.Finding, now time.Time) Check {
	c := Check{Name: CheckOrigin, State: Problem}
	what := f.Name + " (" + f.Origin + ") "
	switch f.State {
	case ingress.StateOK:
		c.State, c.Detail = OK, fmt.Sprintf("%sanswers (status %d, %d ms)", what, f.Status, f.Latency.Milliseconds())
		if !f.Expires.IsZero() && !f.Pinned && f.Expires.Sub(now) < 30*24*time.Hour {
			c.Detail += "; its certificate ends on " + day(f.Expires) + ": renew it on that server"
		}
	case ingress.StateRefused:
		c.Detail = what + "takes no connection: " + f.Problem
		c.Advice = []string{"Start the server (OSCAR's Tomcat) on that machine, and compare address and port with the ingress rules."}
	case ingress.StateTimeout:
		c.Detail = what + "does not answer: " + f.Problem
		c.Advice = []string{"See whether that machine is on and reached from here, and whether its server hangs: restart OSCAR's Tomcat if so."}
	case ingress.StateCertificate:
		c.Detail, c.Advice = certificateOf(what, f)
	default:
		c.Detail = what + "does not answer as it should: " + f.Problem
		c.Advice = []string{"Look into that server's own log. If the page of the check is wrong, set health: {path: …} in the ingress rules."}
	}
	return c
}

func certificateOf(what string, f ingress.Finding) (detail string, advice []string) {
	if f.BadPin {
		return what + "shows another certificate than the rules pin", []string{
			"If it was renewed: run connector ingress pin " + f.Origin + " on that server itself and put what it prints into the ingress rules.",
			"If nobody renewed it, another machine answers at that address: find out which.",
		}
	}
	return what + "shows a certificate that is not trusted: " + f.Problem, []string{
		"Pin it: run connector ingress pin " + f.Origin + " on that server itself and put what it prints into the ingress rules as tls: {pin_sha256: …}.",
		"If it has expired, renew it there.",
	}
}
