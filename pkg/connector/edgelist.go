package connector

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

const (
	// edgesFile in the state directory keeps the list of edges. It is no authority: whoever is dialled must hold the pinned
	// root's keys.
	edgesFile = "edges.json"
	// maxEdges bounds the list, maxWeight a weight.
	maxEdges  = 16
	maxWeight = 1000
)

// edgeAddress is one entry of the list.
type edgeAddress struct {
	// URL is canonical: https://host[:port].
	URL string `json:"url"`
	// Weight is the share of connectors that prefer this edge; 0 comes after all others.
	Weight uint32 `json:"weight"`
}

// edgesOf checks a list that came over the wire; what it returns is canonical.
func edgesOf(m *tunnelv1.Edges) ([]edgeAddress, error) {
	var list []edgeAddress
	for _, a := range m.GetEdges() {
		list = append(list, edgeAddress{URL: a.GetUrl(), Weight: a.GetWeight()})
		if len(list) > maxEdges {
			break
		}
	}
	return checkEdges(list)
}

func checkEdges(list []edgeAddress) ([]edgeAddress, error) {
	if len(list) == 0 || len(list) > maxEdges {
		return nil, fmt.Errorf("list of edges: %d entries, want 1 to %d", len(list), maxEdges)
	}
	out := make([]edgeAddress, 0, len(list))
	for i, a := range list {
		url, err := enroll.EdgeURL(a.URL)
		switch {
		case err != nil:
			return nil, fmt.Errorf("list of edges: entry %d: %w", i, err)
		case a.Weight > maxWeight:
			return nil, fmt.Errorf("list of edges: entry %d: weight %d is over %d", i, a.Weight, maxWeight)
		case slices.ContainsFunc(out, func(o edgeAddress) bool { return o.URL == url }):
			return nil, fmt.Errorf("list of edges: entry %d: %s is there twice", i, url)
		}
		out = append(out, edgeAddress{URL: url, Weight: a.Weight})
	}
	return out, nil
}

func urls(list []edgeAddress) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.URL
	}
	return out
}

// parseEdges reads the remembered list.
func parseEdges(text []byte) ([]edgeAddress, error) {
	var file struct {
		Edges []edgeAddress `json:"edges"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	return checkEdges(file.Edges)
}

// loadEdges returns what an earlier run was told; a file that is missing is as good as none, one that is damaged, too, but the
// log says so.
func loadEdges(dir string, logger *zap.Logger) []edgeAddress {
	text, err := readSmall(filepath.Join(dir, edgesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []edgeAddress
	if err == nil {
		list, err = parseEdges(text)
	}
	if err != nil {
		logger.Warn("the remembered list of edges is passed over; the edge of the enrolment will send a new one",
			zap.String("file", edgesFile), zap.Error(err))
		return nil
	}
	return list
}

func saveEdges(dir string, list []edgeAddress) error {
	text, err := json.MarshalIndent(map[string]any{"edges": list}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(dir, edgesFile, append(text, '\n'))
}

// order sorts the URLs of a list by this connector's preference, the enrolment's edge last if the list does not have it. It is
// weighted rendezvous hashing: many connectors spread over the edges by weight, and each keeps its order over restarts, also
// when an edge comes or goes.
func order(list []edgeAddress, enrolled, connector string) []string {
	score := func(a edgeAddress) float64 {
		if a.Weight == 0 {
			return math.Inf(1)
		}
		sum := sha256.Sum256([]byte(connector + "\x00" + a.URL))
		share := (float64(binary.BigEndian.Uint64(sum[:8])>>11) + 1) / (1 << 53) // in (0, 1]
		return -math.Log(share) / float64(a.Weight)
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b edgeAddress) int { return cmp.Compare(score(a), score(b)) })
	out := urls(sorted)
	if !slices.Contains(out, enrolled) {
		out = append(out, enrolled)
	}
	return out
}

// doubt is for how long an edge is passed over that gave no link. It stays for a while after that, so that it can grow.
type doubt struct {
	until time.Time
	long  time.Duration // without the chance in until
}

// again is what becomes of a doubt when the edge gives no link. Connectors that gave an edge up together do not come back
// together.
func (d doubt) again(now time.Time) doubt {
	d.long = min(max(2*d.long, passedOver), forgiven)
	d.until = now.Add(d.long - rand.N(d.long/2))
	return d
}

// choose returns the edges to hold links to: the most preferred ones, those that are in doubt only where there are not enough
// others, the one whose doubt ends first before the later ones.
func choose(candidates []string, givenUp map[string]doubt, now time.Time) []string {
	sorted := slices.Clone(candidates)
	until := func(url string) time.Time {
		if d := givenUp[url]; now.Before(d.until) {
			return d.until
		}
		return time.Time{}
	}
	slices.SortStableFunc(sorted, func(a, b string) int { return until(a).Compare(until(b)) })
	return sorted[:min(len(sorted), atOnce)]
}

// target is how to reach another edge than the enrolment's: by the same pins, under its own name.
func (c Config) target(i Identity, edge string) (tunnel.Target, error) {
	i.Edge = edge
	t, err := c.Target(i)
	if err != nil {
		return t, err
	}
	t.Known = new(tunnel.Addresses) // the file is the enrolment's edge's
	return t, nil
}
