package service

import (
	_ "embed"
	"path"
	"regexp"
	"strings"

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
	// Program is the absolute path of the binary, Config that of its configuration.
	Program, Config string
}

// Render returns the unit's text; paths that a unit file could read otherwise are fault.Invalid.
func (c Connector) Render() (string, error) {
	return render(connectorText, map[string]string{"@program@": c.Program, "@config@": c.Config})
}

// Edge is the unit of an edge.
type Edge struct {
	// Program is the absolute path of the binary, Config that of its configuration.
	Program, Config string
}

// Render returns the unit's text; paths that a unit file could read otherwise are fault.Invalid.
func (e Edge) Render() (string, error) {
	return render(edgeText, map[string]string{"@program@": e.Program, "@config@": e.Config})
}

// plainPath leaves out what systemd.service(5) and systemd.unit(5) give a meaning: white space, quotes, %, $, \, :.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._/+-]+$`)

// render fills a unit's text; every value is a path.
func render(text string, paths map[string]string) (string, error) {
	text = strings.ReplaceAll(text, "@hardening@", hardeningText)
	for name, p := range paths {
		if !plainPath.MatchString(p) || path.Clean(p) != p {
			return "", fault.New(fault.Invalid, "%q: a unit file wants an absolute path of letters, digits and . _ - + /", p)
		}
		text = strings.ReplaceAll(text, name, p)
	}
	return text, nil
}
