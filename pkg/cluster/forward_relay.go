package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// Local finds the links that this edge has itself; *registry.Registry is one. It is all that a relay is given: nothing here
// could send an exchange on to a third edge.
type Local interface {
	// PickRun returns a link of exactly this run of a connector, or false. It waits for a fast link where a bulk one is there already.
	PickRun(ctx context.Context, tenant id.Tenant, site id.Site, connector id.Connector, generation uint64) (*registry.Member, bool)
}

// relay serves the exchanges that another edge has judged and recorded, and sends here because the connector's link is here:
// what one side says the other one is told, in the same order and with the same end. It decides nothing. The connector
// verifies the assertion, as it does on every exchange.
type relay struct {
	local   Local
	buffers hop.Buffers
	numbers atomic.Uint64
	count   func(result string)
}

// relayed is where the numbers of relayed exchanges begin. Numbers name exchanges to a connector, which takes those of this
// edge's own browsers, from 1 on, over the same links.
const relayed = 1 << 63

var _ exchange.Handler = (*relay)(nil)

// ServeExchange implements exchange.Handler.
func (r *relay) ServeExchange(ctx context.Context, in *exchange.Incoming, out *exchange.Answer) {
	head := in.Head
	switch {
	case head.Hop != 1:
		r.refuse(out, wire.CodeProtocol, "not forwarded once")
		return
	case head.Tenant == "" || head.Site == "" || head.Connector == "" || head.Generation == 0:
		r.refuse(out, wire.CodeProtocol, "for no connector")
		return
	}
	member, ok := r.local.PickRun(ctx, id.Tenant(head.Tenant), id.Site(head.Site), id.Connector(head.Connector), head.Generation)
	switch {
	case !ok:
		r.refuse(out, wire.CodeNotHere, "that connector has no link here")
		return
	case head.Again && !member.Once:
		r.refuse(out, wire.CodeNotHere, "that connector cannot tell whether it has had this")
		return
	}
	member.Begin()
	defer member.End()
	head.Connector, head.Exchange = "", relayed+r.numbers.Add(1)
	link := &noting{Member: member}
	resp, err := r.pass(ctx, in, out, &exchange.Request{Head: head, Moves: member.Moves()}, link)
	switch {
	case err == nil:
		member.Answered()
		r.carry(resp, out)
		r.count("relayed")
	case !link.opened && ctx.Err() == nil:
		r.refuse(out, wire.CodeNotHere, "that connector's link has ended")
	default:
		code := exchange.Code(err)
		if code == wire.CodeNotHere {
			code = wire.CodeProtocol // a connector's word: it has the request, which must not be sent again
		}
		out.Abort(code, message(err))
		r.count("failed")
	}
}

func (r *relay) refuse(out *exchange.Answer, code, why string) {
	out.Abort(code, why)
	r.count("refused")
}

// pass asks over link what in asks.
func (r *relay) pass(ctx context.Context, in *exchange.Incoming, out *exchange.Answer, req *exchange.Request, link exchange.Opener) (*exchange.Response, error) {
	if req.Head.Upgrade == "" && req.Head.ContentLength != 0 {
		req.Body, req.Trailer = in.Body, in.Trailer
	}
	req.Interim = out.Interim
	return exchange.Do(ctx, link, req)
}

// carry passes the answer on. What has arrived is sent at once unless more of it is here already: else each edge on the way
// would hold the first byte of a slow answer back for some milliseconds of its own.
func (r *relay) carry(resp *exchange.Response, out *exchange.Answer) {
	defer func() { _ = resp.Body.Close() }()
	if far, ok := resp.Upgraded(); ok {
		r.join(resp, far, out)
		return
	}
	if err := out.Head(resp.Head); err != nil {
		out.Abort(exchange.Code(err), message(err))
		return
	}
	if !resp.Ready() && out.Flush() != nil {
		return
	}
	_, err := r.buffers.Copy(&prompt{Answer: out, ready: resp.Ready}, resp.Body)
	var copying *hop.CopyError
	switch {
	case err == nil:
		_ = out.End(resp.Trailer()) // what breaks now, the first edge finds by itself
	case errors.As(err, &copying) && copying.Reading:
		out.Abort(exchange.Code(copying.Err), message(copying.Err))
	}
}

// prompt is an answer that does not wait for company.
type prompt struct {
	*exchange.Answer
	ready func() bool
}

func (p *prompt) Write(b []byte) (int, error) {
	n, err := p.Answer.Write(b)
	if err == nil && !p.ready() {
		err = p.Flush()
	}
	return n, err
}

// join makes the two upgraded connections one until either breaks or both directions have ended. There is no timer: browser
// and origin have theirs, and the exchange ends with the lease.
func (r *relay) join(resp *exchange.Response, far exchange.Conn, out *exchange.Answer) {
	near, err := out.Upgrade(resp.Head)
	if err != nil {
		out.Abort(wire.CodeProtocol, "an upgrade that was not asked for")
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := r.buffers.Copy(far, near); err != nil || far.CloseWrite() != nil {
			_ = far.Close()
		}
	})
	both.Go(func() {
		_, err := r.buffers.Copy(near, far)
		var copying *hop.CopyError
		switch {
		case errors.As(err, &copying) && copying.Reading:
			out.Abort(exchange.Code(copying.Err), message(copying.Err))
		case err != nil || near.CloseWrite() != nil:
			_ = near.Close()
		}
	})
	both.Wait()
}

// noting knows whether a stream was opened: before that nothing was sent to the connector.
type noting struct {
	*registry.Member
	opened bool
}

func (n *noting) Open(ctx context.Context) (tunnel.Stream, error) {
	s, err := n.Member.Open(ctx)
	n.opened = err == nil
	return s, err
}

// message is what the far side said.
func message(err error) string {
	var abort *exchange.AbortError
	if errors.As(err, &abort) {
		return abort.Message
	}
	return ""
}
