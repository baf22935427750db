// Package doctor finds out why a connector does not connect and says in plain words what to do: the state directory, the name,
// proxy, TCP, UDP, the clock, the edge's certificate, the link, the origins. It opens no link: a second one under the same key
// would look like a copied key, so it asks the running process instead. It changes nothing, on this machine or at the edge.
package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
)

// State is what a check found.
type State string

// The states.
const (
	OK         State = "ok"
	Problem    State = "problem"
	NotChecked State = "not checked"
)

// The checks, in their order. The names are stable: scripts read them.
const (
	CheckEnrolment   = "enrolment"
	CheckDisk        = "disk"
	CheckName        = "name"
	CheckProxy       = "proxy"
	CheckTCP         = "tcp"
	CheckUDP         = "udp"
	CheckClock       = "clock"
	CheckCertificate = "certificate"
	CheckLink        = "link"
	CheckOrigin      = "origin"
)

// Check is what one check found.
type Check struct {
	// Name is one of the Check… words; of several origins each has a check.
	Name  string `json:"name"`
	State State  `json:"state"`
	// Detail says what was found, or why it was not checked.
	Detail string `json:"detail"`
	// Advice is what to do; empty unless State is Problem.
	Advice []string `json:"advice,omitempty"`
}

// Report is what the doctor found.
type Report struct {
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	// Edge is the edge that was examined; empty where none is known.
	Edge   string  `json:"edge,omitempty"`
	Well   bool    `json:"well"`
	Checks []Check `json:"checks"`
}

// Config says what to examine.
type Config struct {
	// Connector is the connector's configuration.
	Connector connector.Config
	// Edge is examined in place of the one that this machine is enrolled with, which it need not be. CAPin is the pin of its
	// CA, as in the invitation; empty: the system's CAs and those of the configuration count.
	Edge, CAPin string
	// Limit bounds each check; 0 means 5 s.
	Limit time.Duration
	// Now is this machine's clock; nil means time.Now.
	Now func() time.Time
	// Unit tells how the connector's service ended; nil asks systemd.
	Unit func(context.Context) (UnitState, error)
	// Free tells how many bytes an ordinary user may still write below a directory; nil asks the file system.
	Free func(dir string) (uint64, error)
}

// examination is one run: what earlier checks learned that later ones build on.
type examination struct {
	Config

	identity connector.Identity
	enrolled bool

	target tunnel.Target
	host   string
	port   uint16
	// why is why nothing about the edge can be checked; empty when it can.
	why string

	addrs []netip.Addr
	way   *egress.Egress
	proxy *url.URL // nil: straight

	conn    net.Conn // to the edge over TCP, nil when there is none
	noTCP   string   // why not
	tcpOK   bool
	edgeNow time.Time // the edge's clock, zero while unknown
	seen    shown
}

// Run makes every check, in order. Each takes at most Limit.
func Run(ctx context.Context, cfg Config) Report {
	if cfg.Limit == 0 {
		cfg.Limit = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Unit == nil {
		cfg.Unit = systemdUnit
	}
	if cfg.Free == nil {
		cfg.Free = freeBytes
	}
	x := &examination{Config: cfg}
	report := Report{Version: build.Version(), At: cfg.Now().UTC().Truncate(time.Second), Well: true}
	for _, check := range []func(context.Context) []Check{
		x.checkEnrolment, x.checkDisk, x.checkName, x.checkProxy, x.checkTCP, x.meet, x.checkUDP, x.checkClock, x.checkCertificate,
		x.checkLink, x.checkOrigins,
	} {
		limited, cancel := context.WithTimeout(ctx, cfg.Limit)
		report.Checks = append(report.Checks, check(limited)...)
		cancel()
	}
	if x.conn != nil {
		_ = x.conn.Close()
	}
	if x.target.URL != nil {
		report.Edge = x.target.URL.String()
	}
	for _, c := range report.Checks {
		report.Well = report.Well && c.State != Problem
	}
	return report
}

// aim finds out which edge to examine, and how.
func (x *examination) aim() error {
	identity := x.identity
	if x.Edge != "" {
		edge, err := enroll.EdgeURL(x.Edge)
		if err != nil {
			return err
		}
		if identity.Edge != edge {
			identity = connector.Identity{Edge: edge}
		}
		if x.CAPin != "" {
			identity.CAPin, identity.CAPEM = x.CAPin, ""
		}
	}
	if identity.Edge == "" {
		return errors.New("no edge is known: enrol this machine, or name one with --edge https://…")
	}
	way := x.Connector
	way.StateDir = "" // nothing is remembered, and nothing written
	var err error
	if x.target, err = way.Target(identity); err != nil {
		return err
	}
	x.target.Known = nil
	if x.way, err = way.Egress(); err != nil {
		return err
	}
	x.identity.CAPin, x.identity.CAPEM = identity.CAPin, identity.CAPEM
	x.host, x.port, err = x.target.HostPort()
	return err
}

// address is the edge's host:port.
func (x *examination) address() string {
	return net.JoinHostPort(x.host, strconv.Itoa(int(x.port)))
}

func found(name string, state State, detail string, advice ...string) []Check {
	return []Check{{Name: name, State: state, Detail: detail, Advice: advice}}
}

func skipped(name, why string) []Check { return found(name, NotChecked, "because "+why) }
