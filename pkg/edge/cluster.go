package edge

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/build"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/proxy"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// assembleCluster makes this edge one of several; without cluster.listen it is alone, and members and heart are nil.
func (e *Edge) assembleCluster(ctx context.Context) error {
	c := e.config.Cluster
	if !c.Enabled() {
		return nil
	}
	name, err := cluster.EdgeName(e.config.StateDir, c.Edge, e.config.Host)
	if err != nil {
		return err
	}
	address := c.Advertise
	if address == "" {
		address = c.Listen
	}
	e.members = cluster.NewMembers(name)
	e.heart = cluster.NewHeart(cluster.HeartConfig{
		Store: e.store.Cluster(), Members: e.members, Registry: e.registry, Clock: e.clock, Lag: e.behind, Logger: e.logger, Metrics: e.metrics,
		Self: cluster.Peer{
			ID: name, Address: address, URL: e.url(), Share: c.Weight, Software: build.Version(), Protocol: wire.Version,
		},
	})
	if err := e.assemblePeers(ctx, name); err != nil {
		return err
	}
	e.logger.Info("one of several edges", zap.String("edge", string(name)), zap.String("address", address))
	return nil
}

// behind is how long ago this edge had read all of the change log.
func (e *Edge) behind() time.Duration {
	since, _ := e.follower.Silence()
	return since
}

// assemblePeers opens the way from and to the other edges.
func (e *Edge) assemblePeers(ctx context.Context, name id.Edge) error {
	reset, err := e.sealer.MAC("cluster/quic/reset/"+string(name), nil)
	if err != nil {
		return err
	}
	e.peers, err = cluster.NewPeers(ctx, cluster.PeersConfig{
		Members: e.members, Authority: e.store.Authority(), Socket: e.place.peers.udp, ConnectionID: e.place.peers.udp.Epoch().ConnectionID,
		ResetKey: (*[32]byte)(reset), Local: e.registry, Changed: e.heard, Pending: e.pending, Now: e.clock.Now, Logger: e.logger, Metrics: e.metrics,
	})
	return err
}

// picker is what chooses the link for a request.
func (e *Edge) picker() proxy.Picker {
	if e.peers == nil {
		return e.registry
	}
	return cluster.NewForwarder(e.registry, e.members, e.peers, e.metrics)
}

// runPeers links this edge to the others until ctx ends.
func (e *Edge) runPeers(ctx context.Context) error {
	if e.peers == nil {
		<-ctx.Done()
		return nil
	}
	return e.peers.Run(ctx)
}

// drainPeers waits for what runs here for other edges.
func (e *Edge) drainPeers(ctx context.Context) {
	if e.peers == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(e.cut, cancel)
	defer stop()
	e.peers.Drain(ctx)
}

// url is where connectors reach this edge.
func (e *Edge) url() string {
	return fmt.Sprintf("https://%s%s", e.config.Host, e.config.port(e.Addr()))
}

// tellEdges says to connectors where links may be opened: what the configuration lists, else, in a cluster, the edges that live.
func (e *Edge) tellEdges() {
	e.telling.Lock()
	defer e.telling.Unlock()
	list := e.current().edges()
	if len(list) == 0 && e.heart != nil {
		list = cluster.EdgeList(e.heart.Self(), e.members.Peers())
	}
	if err := e.control.SetEdges(list); err != nil {
		e.logger.Error("connectors are not told which edges there are", zap.Error(err))
	}
}

// tellAgain is how often connectors are told if nothing else happens: this edge's own weight may have changed.
const tellAgain = 5 * time.Second

// spread keeps connectors told of the edges until ctx ends.
func (e *Edge) spread(ctx context.Context) error {
	if e.heart == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(tellAgain)
	defer tick.Stop()
	for {
		changed := e.members.Changed()
		e.tellEdges()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// membership keeps this edge known to the others until ctx ends.
func (e *Edge) membership(ctx context.Context) error {
	if e.heart == nil {
		<-ctx.Done()
		return nil
	}
	return e.heart.Run(ctx)
}
