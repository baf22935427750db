package connector

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
)

// The transports that Config.Transport may name.
const (
	TransportAuto      = "auto"
	TransportQUIC      = "quic"
	TransportWebSocket = "websocket"
)

// What Config.IngressFrom may name.
const (
	IngressAuto = "auto"
	IngressFile = "file"
	IngressEdge = "edge"
)

// LeastHeap is for run.Heap, bytes.
const LeastHeap = 32 << 20

// Config of a connector. Keys of the configuration file are in the tags; the fields without one are for programs that
// embed a connector.
type Config struct {
	// StateDir holds what enrolment made: identity.json and key.pem. Only this process may read it.
	StateDir string `conf:"state_dir" help:"directory with identity.json and key.pem"`
	// Ingress is the file with the rules that say which origin serves which host and path.
	Ingress string `conf:"ingress" help:"file with the ingress rules"`
	// IngressFrom says where the rules come from: file, edge (what the operator keeps there for the site), or auto: the file
	// if there is one, else the edge. A file that comes later wins from then on; when it goes the edge's rules count again, and
	// while the edge keeps none, those of the file stay until the connector is started again.
	IngressFrom string `conf:"ingress_from" help:"auto, file or edge: where the rules come from"`
	// IngressAllow lists the origins that rules from the edge may name: "loopback" (this machine), names, addresses and
	// prefixes, each with or without :port. It bounds what somebody who holds the edge can reach in the clinic's network.
	IngressAllow []string `conf:"ingress_allow" help:"origins that rules from the edge may name, host[:port], prefix or loopback"`
	// Loopback is the address for /ready and /metrics; port 0 takes a free one, empty serves neither.
	Loopback string `conf:"loopback" help:"loopback address for /ready and /metrics"`
	// Transport is auto (QUIC, and WebSocket where QUIC is not up within a second), quic or websocket.
	Transport string `conf:"transport" help:"auto, quic or websocket"`
	// Proxy is the outgoing proxy for TCP, http://, https:// or socks5://[user@]host:port; "none" is none, empty leaves it to
	// HTTPS_PROXY, ALL_PROXY and NO_PROXY of the environment. QUIC goes through no proxy: with auto it is tried past it.
	Proxy egress.Address `conf:"proxy" help:"outgoing proxy: http://, https:// or socks5://[user@]host:port, or none; default: from the environment"`
	// ProxyPasswordFile holds the password of the proxy's user.
	ProxyPasswordFile string `conf:"proxy_password_file" help:"file with the password of the proxy's user"`
	// TLSInspection says that a firewall here opens TLS: connections over TCP are then made inside a WebSocket, with a TLS of their
	// own that only the edge can open, and CAFile counts for what the firewall shows and for proxies, never for the edge. QUIC is
	// tried as ever. Costs a second encryption; enrolment needs the pin of the invitation.
	TLSInspection bool `conf:"tls_inspection" help:"a firewall here opens TLS: connect inside it, with a TLS that it cannot open"`
	// CAFile holds CAs, in PEM, that are trusted beside the system's, for an https proxy, for a firewall with TLSInspection, and
	// without that for an edge that no pin names.
	CAFile string `conf:"ca_file" help:"PEM file with CAs to trust beside the system's"`
	// DrainTimeout is how long exchanges may take to finish when the process is asked to stop.
	DrainTimeout time.Duration `conf:"drain_timeout" help:"how long running exchanges may take to finish at stop"`
	// Log is the form of the operational log.
	Log log.Config `conf:"log"`

	// Logger is where the log goes; nil for nowhere.
	Logger *zap.Logger
	// Metrics is the registry behind /metrics; nil makes one.
	Metrics *metric.Registry
	// QUIC and WebSocket dial in place of the built-in dialers.
	QUIC, WebSocket tunnel.Dialer
	// Network tells of changes of the network in place of the system.
	Network <-chan struct{}
	// Handler takes admitted exchanges in place of the ingress, whose rules are still read.
	Handler exchange.Handler
}

// Default is the configuration of an installed service.
func Default() *Config {
	return &Config{
		StateDir: "/var/lib/sallyport-connector", Ingress: "/etc/sallyport/ingress.yaml", Loopback: "127.0.0.1:9466",
		IngressFrom: IngressAuto, IngressAllow: []string{"loopback"}, Transport: TransportAuto, DrainTimeout: 30 * time.Second, Log: log.Default(),
	}
}

// withDefaults fills what an embedding program left out; Loopback stays as it is, because empty means something.
func (c Config) withDefaults() Config {
	if c.Transport == "" {
		c.Transport = TransportAuto
	}
	if c.IngressFrom == "" {
		c.IngressFrom = IngressAuto
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Metrics == nil {
		c.Metrics = metric.New()
	}
	return c
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var faults []error
	for key, path := range map[string]string{"state_dir": c.StateDir, "ingress": c.Ingress} {
		if path == "" || path != filepath.Clean(path) {
			faults = append(faults, fmt.Errorf("%s: %q is not a clean path", key, path))
		}
	}
	if c.Loopback != "" {
		if err := checkLoopback(c.Loopback); err != nil {
			faults = append(faults, fmt.Errorf("loopback: %w", err))
		}
	}
	switch c.Transport {
	case TransportAuto, TransportQUIC, TransportWebSocket, "":
	default:
		faults = append(faults, fmt.Errorf("transport: %q: use auto, quic or websocket", c.Transport))
	}
	if c.Proxy.Set() && c.Transport == TransportQUIC {
		faults = append(faults, errors.New("proxy: QUIC goes through no proxy: use transport auto or websocket"))
	}
	if c.TLSInspection && c.Transport == TransportQUIC {
		faults = append(faults, errors.New("tls_inspection: it is about TCP: use transport auto or websocket"))
	}
	switch c.IngressFrom {
	case IngressAuto, IngressFile, IngressEdge, "":
	default:
		faults = append(faults, fmt.Errorf("ingress_from: %q: use auto, file or edge", c.IngressFrom))
	}
	if _, err := ingress.ParseBounds(c.IngressAllow); err != nil {
		faults = append(faults, fmt.Errorf("ingress_allow: %w", err))
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > 10*time.Minute {
		faults = append(faults, errors.New("drain_timeout: use 0s to 10m"))
	}
	return errors.Join(faults...)
}

// checkLoopback takes literal loopback addresses only: a name could resolve to anything, and the status pages are not
// authenticated.
func checkLoopback(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q: want 127.0.0.1:port or [::1]:port", address)
	}
	if addr, err := netip.ParseAddr(host); err != nil || !addr.IsLoopback() {
		return fmt.Errorf("%q is no loopback address: use 127.0.0.1:port or [::1]:port", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: bad port", address)
	}
	return nil
}
