package service

import (
	"bytes"
	_ "embed"
	"path"
	"regexp"
	"text/template"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// Names of the units.
const (
	ConnectorUnit = "sallyport-connector.service"
	EdgeUnit      = "sallyport-edge.service"
)

var (
	//go:embed units/connector.service
	connectorText string
	//go:embed units/edge.service
	edgeText string
	//go:embed units/hardening.conf
	hardeningText string
)

// ExitRevoked is the exit code of a connector whose enrolment was revoked; its unit does not start it again.
const ExitRevoked = 3

// Connector is the unit of a connector.
type Connector struct {
	// Program is the absolute path of the binary, Ingress that of the ingress rules.
	Program, Ingress string
}

// Render returns the unit's text; paths that a unit file could read otherwise are fault.Invalid.
func (c Connector) Render() (string, error) {
	return render(connectorText, c, c.Program, c.Ingress)
}

// Edge is the unit of an edge.
type Edge struct {
	// Program is the absolute path of the binary, Config that of its configuration.
	Program, Config string
}

// Render returns the unit's text; paths that a unit file could read otherwise are fault.Invalid.
func (e Edge) Render() (string, error) {
	return render(edgeText, e, e.Program, e.Config)
}

// plainPath leaves out what systemd.service(5) and systemd.unit(5) give a meaning: white space, quotes, %, $, \, :.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._/+@-]+$`)

func render(text string, data any, paths ...string) (string, error) {
	for _, p := range paths {
		if !plainPath.MatchString(p) || path.Clean(p) != p {
			return "", fault.New(fault.Invalid, "%q: a unit file wants an absolute path of letters, digits and . _ - + @ /", p)
		}
	}
	t, err := template.New("unit").Parse(text)
	if err != nil {
		return "", err
	}
	if _, err := t.New("hardening").Parse(hardeningText); err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return "", err
	}
	return out.String(), nil
}
