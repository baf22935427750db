package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// DefaultGrace is how long an edge goes on with what it knows while the database is away.
const DefaultGrace = 30 * time.Minute

// DefaultWeight leaves room for edges with less.
const DefaultWeight = 10

const maxWeight = 100

// Config is what can be set of an edge's part in a cluster.
type Config struct {
	// Edge names this edge, unique in the cluster; empty: a name made once from host and kept in state_dir.
	Edge string `conf:"edge" help:"name of this edge in its cluster"`
	// Listen is where other edges reach this one, over UDP; empty: this edge is alone.
	Listen string `conf:"listen" help:"address for links from other edges"`
	// Advertise is host:port as other edges dial it, where that is not Listen itself.
	Advertise string `conf:"advertise" help:"address that other edges dial, if it is not cluster.listen"`
	// Weight is this edge's share of the connectors, 1 to 100; 0 means 10.
	Weight uint32 `conf:"weight" help:"this edge's share of the connectors"`
	// Grace is how long sessions and services go on while the database is away.
	Grace time.Duration `conf:"grace" help:"how long sessions and services go on while the database is away"`
}

// Default is an edge that is alone.
func Default() Config { return Config{Weight: DefaultWeight, Grace: DefaultGrace} }

// Enabled says that the edge is one of a cluster.
func (c Config) Enabled() bool { return c.Listen != "" }

// Validate finds every fault at once.
func (c Config) Validate() error {
	var faults []error
	if c.Edge != "" {
		if _, err := id.ParseLabel[id.Edge]("cluster.edge:", c.Edge); err != nil {
			faults = append(faults, err)
		}
	}
	switch {
	case c.Listen == "" && c.Advertise != "":
		faults = append(faults, errors.New("cluster.advertise: has no effect without cluster.listen"))
	case c.Listen != "" && !isAddress(c.Listen):
		faults = append(faults, fmt.Errorf("cluster.listen: %q: write address:port", c.Listen))
	case c.Listen != "" && c.Advertise == "" && !specific(c.Listen):
		faults = append(faults, fmt.Errorf("cluster.advertise: is needed, because other edges cannot dial %q", c.Listen))
	case c.Advertise != "" && (!isAddress(c.Advertise) || !specific(c.Advertise)):
		faults = append(faults, fmt.Errorf("cluster.advertise: %q: write host:port as other edges dial it", c.Advertise))
	}
	if c.Weight > maxWeight {
		faults = append(faults, fmt.Errorf("cluster.weight: %d: use 1 to %d", c.Weight, maxWeight))
	}
	if c.Grace < 0 || c.Grace > 24*time.Hour {
		faults = append(faults, fmt.Errorf("cluster.grace: %s: use 0 to 24h", c.Grace))
	}
	return errors.Join(faults...)
}

func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// specific says that an address names one host.
func specific(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && host != "" && (ip == nil || !ip.IsUnspecified())
}

// nameFile in the state directory keeps the name that was made.
const nameFile = "edge.name"

// EdgeName returns the edge's name: the configured one or, made once and kept in dir, the first label of its host and random
// letters. A copied state directory has the same name; the edges find out (Store.Enter).
func EdgeName(dir, configured, host string) (id.Edge, error) {
	if configured != "" {
		return id.ParseLabel[id.Edge]("cluster.edge:", configured)
	}
	path := filepath.Join(dir, nameFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		first, _, _ := strings.Cut(host, ".")
		first = strings.TrimRight(first[:min(len(first), 24)], "-")
		if _, err := id.ParseLabel[id.Edge]("host", first); err != nil {
			first = "edge"
		}
		text = []byte(first + "-" + strings.ToLower(rand.Text()[:6]) + "\n")
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("edge name: %w", err)
	}
	name, err := id.ParseLabel[id.Edge]("edge name", strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("%s: %w; set cluster.edge", path, err)
	}
	return name, nil
}
