package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edge"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// membership is what an edge of a cluster has besides. Of the edges there connectors are told of one, so that the links are
// where the requests land.
type membership struct {
	store, name, listen string
	linked              string // URL of the edge with the links
}

// words say it to an edge that runs under the profiler.
func (m *membership) words() []string {
	if m == nil {
		return nil
	}
	return []string{m.store, m.name, m.listen, m.linked}
}

func joining(words []string, c *edge.Config) {
	if len(words) == 0 {
		return
	}
	c.Store, c.Cluster.Edge, c.Cluster.Listen, c.Edges = words[0], words[1], words[2], []edge.EdgeAddress{{URL: words[3]}}
}

func (m *membership) yaml() string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf("store: %q\ncluster: {edge: %s, listen: %q}\nedges: [{url: %q}]\n", m.store, m.name, m.listen, m.linked)
}

// suffix tells its profile from that of an edge alone.
func (m *membership) suffix() string {
	if m == nil {
		return ""
	}
	return "-" + m.name
}

const (
	// clusterEdges is how many edges the cluster has; the others have no links and are asked for nothing.
	clusterEdges = 3
	// clusterEvery is how often each connection asks. Both sides are asked for the same, below what either can do: under as much as it
	// can do, the one that answers less spreads over fewer requests what does not depend on them.
	clusterEvery = 80 * time.Millisecond
	// clusterTurns is how often they alternate in a round, each for clusterSpan.
	clusterTurns = 5
	clusterSpan  = 2 * time.Second
)

// cluster measures the same edge on SQLite, alone, and on PostgreSQL as one of three, in turns, under one load that lands where the
// links are. Both run under the profiler, which says what of it the decision record is: that is left out of the ratio, for it is
// another one on each.
func (b *bench) cluster(ctx context.Context) error {
	before := b.profiles
	defer func() { b.profiles = before }()
	if b.profiles == "" {
		b.profiles = b.dir
	}
	database, stopDatabase, err := pgtest.Run()
	if err != nil {
		b.leaveOut("cluster", err.Error())
		return nil
	}
	defer stopDatabase()
	here := &host{ip: "127.0.0.1"}
	at := place{near: here, far: here}
	origin, err := b.origin(ctx, &at)
	if err != nil {
		return err
	}
	defer origin.stop()
	alone, err := b.ours(ctx, at, b.bin, "auto")
	if err != nil {
		return err
	}
	several, err := b.several(ctx, at, database)
	if err != nil {
		alone.stop()
		return err
	}
	sides := []*clusterSide{{name: "alone, SQLite", profile: "auto", path: alone}, {name: "one of three, PostgreSQL", profile: "auto-east", path: several}}
	for turn := 0; turn < clusterTurns*b.rounds && err == nil; turn++ {
		// First one, then the other first: what else the machine does comes and goes.
		err = errors.Join(b.pay(ctx, here, sides[turn%2]), b.pay(ctx, here, sides[1-turn%2]))
	}
	alone.stop()
	several.stop()
	if err != nil {
		return err
	}
	return b.priceOfCluster(ctx, sides)
}

// clusterSide is what was measured of one of the two.
type clusterSide struct {
	samples
	name, profile string
	path          *path
	used          float64 // seconds
	count         int
}

func (b *bench) pay(ctx context.Context, on *host, s *clusterSide) error {
	var m measured
	w := s.path.work(work{Connections: connections, Bytes: bodyBytes, Every: clusterEvery, Warm: clusterSpan / 4, For: clusterSpan})
	if err := b.ask(ctx, on, "load", w, &m); err != nil {
		return err
	}
	s.fail(m)
	if m.Count == 0 {
		return fmt.Errorf("no request came back: %s", m.Fault)
	}
	s.used += m.CPU[0]
	s.count += m.Count
	return nil
}

func (b *bench) priceOfCluster(ctx context.Context, sides []*clusterSide) error {
	t := &table{
		Name: "cluster", Columns: []string{"edge µs/request", "% recorder", "µs without it", "ratio without it", "ratio of all"},
		Note: fmt.Sprintf("processor time of the edge that has the links, %d connections that ask every %s, %d bytes a response; the decision record's share by a profile of each edge; sums of %d alternating turns of %s",
			connections, clusterEvery, bodyBytes, clusterTurns*b.rounds, clusterSpan),
	}
	var first [2]float64
	for _, s := range sides {
		share, err := b.recorded(ctx, s.profile)
		if err != nil {
			return err
		}
		all := s.used / float64(s.count) * 1e6
		rest := all * (1 - share/100)
		if first[0] == 0 {
			first = [2]float64{all, rest}
		}
		ratio, ofAll := rest/first[1], all/first[0]
		t.Rows = append(t.Rows, row{Name: s.name, Figures: []*float64{&all, &share, &rest, &ratio, &ofAll}, Failed: s.failed, Fault: s.fault})
	}
	b.report.add(t)
	return nil
}

// several starts a cluster, of which the first edge has a clinic, its connector and all requests.
func (b *bench) several(ctx context.Context, at place, database string) (*path, error) {
	in, err := b.join(at, database, "east")
	if err != nil {
		return nil, err
	}
	first, p, err := b.sallyportIn(ctx, at, b.bin, "auto", in)
	if err != nil {
		return nil, err
	}
	for n := range clusterEdges - 1 {
		other, err := b.addEdge(ctx, first, fmt.Sprintf("edge%d", n+2))
		if err != nil {
			p.stop()
			return nil, err
		}
		p.beside = append(p.beside, other)
	}
	return p, nil
}

func (b *bench) join(at place, database, name string) (*membership, error) {
	listen, err := b.address(at.near)
	return &membership{store: database, name: name, listen: listen}, err
}

// addEdge starts another edge on the store of the first.
func (b *bench) addEdge(ctx context.Context, first *sallyport, name string) (*program, error) {
	in, err := b.join(first.place, first.in.store, name)
	if err != nil {
		return nil, err
	}
	in.linked = first.in.linked
	s := &sallyport{bench: b, place: first.place, bin: first.bin, in: in, dir: filepath.Join(first.dir, name)}
	if s.listen, err = b.address(s.near); err != nil {
		return nil, err
	}
	for _, file := range []string{"edge/master.key", "edge/ca/ca.pem", "edge/ca/ca.key"} {
		text, err := os.ReadFile(first.file(file))
		if err != nil {
			return nil, err
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(s.file(file)), 0o700), os.WriteFile(s.file(file), text, 0o600)); err != nil {
			return nil, err
		}
	}
	if err := s.configure(); err != nil {
		return nil, err
	}
	if _, err := s.edge(ctx, "init"); err != nil {
		return nil, err
	}
	other, err := b.start(launch{name: name, on: s.near, args: []string{filepath.Join(s.bin, "edge"), "serve", "--config", s.file("edge.yaml")}})
	if err != nil {
		return nil, err
	}
	return other, await(ctx, "another edge", []*program{other}, func() error { _, err := s.edge(ctx, "tenant", "list"); return err })
}
