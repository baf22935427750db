package edge

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/guard"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/route"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// LeastHeap is for run.Heap, bytes.
const LeastHeap = 64 << 20

// Config is everything that can be set of an edge. The keys are the YAML file's; flags and environment variables follow from
// them (package conf). The zero value of a key is its documented default.
type Config struct {
	// StateDir holds what must survive: the store unless it is PostgreSQL, master.key, the local CA and the admin socket. Back it
	// up whole.
	StateDir string `conf:"state_dir" help:"directory of the store, master.key and the local CA"`
	// Store is the PostgreSQL that the edges of a cluster share: postgres://role@host/database, with libpq's options, or
	// file:/path of a file (mode 0600) that holds it, password and all. Empty: SQLite in StateDir, for one edge alone. An edge
	// process takes up to 15 connections, twice that while one replaces another.
	Store string `conf:"store" help:"PostgreSQL that edges share, postgres://role@host/database; empty: SQLite in state_dir"`
	// StorePasswordFile holds the role's password on one line, mode 0600.
	StorePasswordFile string `conf:"store_password_file" help:"file with the password for store"`
	// Host is the edge's own name: connectors dial it, and tenants' hosts are made beside it by default.
	Host string `conf:"host" help:"the edge's own host name"`
	// Listen is the address for TCP and UDP alike.
	Listen string `conf:"listen" help:"address for browsers and connectors, TCP and UDP"`
	// PublicPort is the port that browsers and connectors use, when something forwards it to Listen; 0 means Listen's own.
	PublicPort int `conf:"public_port" help:"port that the world sees, if it is not listen's"`
	// QUIC can be switched off where UDP cannot reach the edge; connectors then use WebSocket.
	QUIC bool `conf:"quic" help:"take connectors over UDP"`
	// HTTP3 offers HTTP/3 to browsers on the same UDP port (Alt-Svc); without QUIC it has no effect.
	HTTP3 bool `conf:"http3" help:"offer HTTP/3 to browsers over UDP"`
	// Edges is the list of edges on one store that connectors may link to, this one among them; each holds links to two of them.
	// None: connectors are told nothing and stay where they are. Write this edge alone to end a longer list.
	Edges []EdgeAddress `conf:"edges"`
	// Loopback serves /metrics and /ready; it must be a loopback address.
	Loopback string `conf:"loopback" help:"loopback address for /metrics and /ready"`
	// Health serves /ready alone, over plain HTTP, for a load balancer on another machine: a status and one line, and nothing that
	// tells what is served here. Empty: it is served on loopback only.
	Health string `conf:"health" help:"address of /ready for a load balancer, plain HTTP"`
	// ProxyProtocol names load balancers whose word is taken for where connections come from.
	ProxyProtocol ProxyProtocol `conf:"proxy_protocol"`
	// Certificates are PEM files, read again when they change. Without any, the local CA that init made issues them.
	Certificates []Certificate `conf:"certificates"`
	Drain        Drain         `conf:"drain"`
	// Cluster is this edge's part among several on one store.
	Cluster cluster.Config `conf:"cluster"`
	// Limits bound what this edge lets in at once; an edge with more connectors or browsers than most may need more connections.
	Limits guard.LimitConfig `conf:"limits"`
	Mail   mail.Config       `conf:"mail"`
	Log    log.Config        `conf:"log"`
}

// Drain is how long what is under way may take when the edge stops or gives its place to a successor.
type Drain struct {
	// Requests is for everything but upgraded connections.
	Requests time.Duration `conf:"requests" help:"how long requests may take to finish when the edge stops"`
	// Announce is how long the edge goes on taking connections after /ready has begun to say no, so that a load balancer sends none
	// that would be refused. It has no part when another process takes the place.
	Announce time.Duration `conf:"announce" help:"how long an edge that stops goes on taking connections, for a load balancer to notice"`
	// Upgraded is for upgraded connections, an app's WebSockets.
	Upgraded time.Duration `conf:"upgraded" help:"how long upgraded connections may go on when the edge stops"`
}

// whole is how long all of a drain may take.
func (d Drain) whole() time.Duration { return d.Announce + d.Requests + d.Upgraded }

// Certificate is a chain and its key.
type Certificate struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// EdgeAddress is one edge of the list.
type EdgeAddress struct {
	// URL is https://host or https://host:port, as connectors reach it.
	URL string `yaml:"url"`
	// Weight is the share of connectors that prefer it, 1 to 1000; 0 or none means 1.
	Weight uint32 `yaml:"weight"`
}

// Default is the configuration of an edge that nobody configured.
func Default() Config {
	return Config{
		StateDir: "/var/lib/sallyport-edge", Host: "edge.localhost", Listen: ":8443", QUIC: true, HTTP3: true, Loopback: "127.0.0.1:9465",
		Drain:   Drain{Requests: 30 * time.Second, Upgraded: time.Hour},
		Cluster: cluster.Default(), Limits: guard.DefaultLimits(),
		Mail: mail.Default(), Log: log.Default(),
	}
}

// Validate finds every fault at once.
func (c *Config) Validate() error {
	var faults []error
	if host, err := route.CanonicalHost(c.Host); err != nil || host != c.Host {
		faults = append(faults, fmt.Errorf("host: %q is no canonical host name (lower case, no port)", c.Host))
	}
	if !isAddress(c.Listen) {
		faults = append(faults, fmt.Errorf("listen: %q: write :443 or address:port", c.Listen))
	}
	if c.PublicPort < 0 || c.PublicPort > 65535 {
		faults = append(faults, fmt.Errorf("public_port: %d: want 0 to 65535", c.PublicPort))
	}
	if err := loopbackOnly(c.Loopback); err != nil {
		faults = append(faults, err)
	}
	if c.Health != "" && !isAddress(c.Health) {
		faults = append(faults, fmt.Errorf("health: %q: write address:port", c.Health))
	}
	for i, pair := range c.Certificates {
		if pair.Cert == "" || pair.Key == "" {
			faults = append(faults, fmt.Errorf("certificates[%d]: both cert and key are needed", i))
		}
	}
	if _, err := controlserver.CheckEdges(c.edges()); err != nil {
		faults = append(faults, fmt.Errorf("edges: %w", err))
	}
	if err := c.validateStore(); err != nil {
		faults = append(faults, err)
	}
	if err := c.Limits.Validate(); err != nil {
		faults = append(faults, err)
	}
	if c.Drain.Requests <= 0 || c.Drain.Upgraded <= 0 {
		faults = append(faults, errors.New("drain: requests and upgraded must be more than 0"))
	}
	if c.Drain.Announce < 0 || c.Drain.Announce > time.Minute {
		faults = append(faults, fmt.Errorf("drain.announce: %s: use 0 to 1m", c.Drain.Announce))
	}
	if c.StateDir == "" {
		faults = append(faults, errors.New("state_dir: is empty"))
	}
	return errors.Join(faults...)
}

// CheckFiles reads the files that the configuration names, as an edge does at start and when it reads its configuration again,
// and says what is wrong with any of them: Validate looks at the configuration alone. Who may read them differs between users.
func (c *Config) CheckFiles() error {
	faults := []error{certs.Check(c.pairs(), time.Now())}
	_, err := mail.FromConfig(c.Mail)
	faults = append(faults, err)
	_, err = c.storeConfig()
	return errors.Join(append(faults, err)...)
}

// isAddress reports whether text is host:port with a port in figures; the host may be empty.
func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// loopbackOnly refuses to serve metrics to the world.
func loopbackOnly(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil || !isAddress(address) {
		return fmt.Errorf("loopback: %q: write 127.0.0.1:port", address)
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("loopback: %q is no loopback address: metrics are not for the world", address)
	}
	return nil
}

// Socket is where the admin API listens.
func (c *Config) Socket() string { return filepath.Join(c.StateDir, "admin.sock") }

// pairs are the certificates' files.
func (c *Config) pairs() []certs.Pair {
	var out []certs.Pair
	for _, pair := range c.Certificates {
		out = append(out, certs.Pair{CertFile: pair.Cert, KeyFile: pair.Key})
	}
	return out
}

func (c *Config) masterKey() string { return filepath.Join(c.StateDir, "master.key") }
func (c *Config) database() string  { return filepath.Join(c.StateDir, "sallyport.db") }
func (c *Config) localCA() string   { return filepath.Join(c.StateDir, "ca") }

// port is what stands behind a host in a URL, ":8443", or nothing for 443.
func (c *Config) port(listening net.Addr) string {
	port := c.PublicPort
	if port == 0 {
		if _, text, err := net.SplitHostPort(listening.String()); err == nil {
			port, _ = strconv.Atoi(text)
		}
	}
	if port == 443 {
		return ""
	}
	return ":" + strconv.Itoa(port)
}

// edges is the list as it is sent; empty for none.
func (c *Config) edges() []*tunnelv1.EdgeAddress {
	var list []*tunnelv1.EdgeAddress
	for _, e := range c.Edges {
		list = append(list, &tunnelv1.EdgeAddress{Url: e.URL, Weight: max(e.Weight, 1)})
	}
	return list
}
