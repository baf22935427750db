package proxy

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/web"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// carrying is one Carry.
type carrying struct {
	*Proxy
	Passage
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	upload  *upload // nil without a body
	result  Result
	headed  bool // the answer's head went to the browser
	cause   error
	member  *registry.Member // what the exchange runs on; nil before

	mu     sync.Mutex // guards paging and over, and excludes two changes of the deadlines
	paging bool       // an error page is written; the lease's end no longer stops it
	over   bool       // the answer is net/http's to finish; touching its writer now would be a crash, not an error
}

// Carry sends r to the passage's site and writes the answer to w. r.Context is the lease: when it ends, the exchange does,
// on both sides of the tunnel, in whatever it is doing. It must end once Carry has returned, at the latest with the handler.
//
// An answer that breaks off after its head must not look whole to the browser: Carry then concludes and panics with
// http.ErrAbortHandler, which net/http turns into a broken connection or stream.
func (p *Proxy) Carry(w http.ResponseWriter, r *http.Request, passage Passage) Result {
	c := &carrying{Proxy: p, Passage: passage, w: w, r: r, control: http.NewResponseController(w)}
	began := time.Now()
	c.run()
	if c.upload != nil {
		c.result.BytesIn += c.upload.count.Load()
	}
	p.metrics.note(c.result, time.Since(began))
	c.report()
	if passage.Conclude != nil {
		passage.Conclude(c.result)
	}
	if c.result.ErrorCode != "" && c.headed && c.result.Status != http.StatusSwitchingProtocols {
		panic(http.ErrAbortHandler)
	}
	return c.result
}

func (c *carrying) run() {
	head, ok := c.head()
	if !ok {
		return
	}
	if c.upload = newUpload(c.r, c.control); c.upload != nil {
		defer c.upload.end()
		// Else net/http takes in the rest of the body before it lets the answer's head out (HTTP/1.1 only).
		_ = c.control.EnableFullDuplex()
	}
	// A browser that does not read, or does not send, must not outlive the lease: only a deadline ends those waits. It
	// stops before the upload is cut, which net/http takes for the end of the connection and so of the request's context.
	stop := context.AfterFunc(c.r.Context(), c.cut)
	defer c.letGo(stop)
	defer c.end()
	resp, err := c.ask(c.r.Context(), &head)
	if err != nil {
		c.fail(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if joined, ok := resp.Upgraded(); ok {
		c.join(resp, joined)
		return
	}
	if resp.Head.ErrorCode != "" {
		c.page(known(resp.Head.ErrorCode), resp.Head.Status)
		return
	}
	c.answer(resp)
}

// cut ends the waits for a browser.
func (c *carrying) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paging || c.over {
		return
	}
	past := time.Unix(1, 0)
	_ = c.control.SetWriteDeadline(past)
	_ = c.control.SetReadDeadline(past)
}

// letGo returns once no cut runs and none will: one that has begun is not stopped by stop, and http.ResponseController
// must not be used after the handler.
func (c *carrying) letGo(stop func() bool) {
	stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// tries is how many links are tried at most, one after the other.
const tries = 3

// ask sends the request over a link. It tries another one only if not a byte of the request got as far as a connector, which this
// edge knows or, of one that it sent the request to, is told. Whatever may have arrived is never sent again, not even what promises
// to change nothing (RFC 9110 §9.2.1): at OSCAR the promise does not hold. But where another edge has gone with it, the run of the
// connector itself is asked over another way, which serves it only if it has not had it, and at most once (wire.RequestHead.Again).
func (c *carrying) ask(ctx context.Context, head *wire.RequestHead) (*exchange.Response, error) {
	var gone *registry.Member // what the request was sent over and may have got through
	var sent time.Time        // when it was
	for n := 1; ; n++ {
		member, err := c.way(ctx, gone)
		if err != nil {
			return nil, &exchange.AbortError{Code: wire.CodeTunnelDown, Message: err.Error()}
		}
		c.begin(member)
		head.Generation, head.Hop, head.Connector, head.Again = member.Generation, member.Hop, "", gone != nil
		if member.Hop > 0 {
			head.Connector = string(member.Connector)
		}
		if head.Assertion, head.OriginAssertion, err = c.Assertions(member.Connector, member.Generation); err != nil {
			c.cause = err
			return nil, &exchange.AbortError{Code: wire.CodeInternal, Message: "assertion"}
		}
		if !c.fits(head) {
			return nil, errTooBig
		}
		if gone == nil {
			sent = time.Now()
		}
		link := &opener{member: member}
		resp, err := exchange.Do(ctx, link, c.request(head, member))
		if err == nil {
			c.upload.settled()
			member.Answered()
			return resp, nil
		}
		unsent := !link.opened || member.Hop > 0 && exchange.Code(err) == wire.CodeNotHere
		lost := !unsent && member.Again != nil && broke(err) && time.Since(sent) < c.again
		if !unsent && !lost || ctx.Err() != nil {
			return nil, err
		}
		if unsent {
			member.NotThere()
		} else {
			gone = member
		}
		if n == tries || !c.upload.again() {
			return nil, err
		}
	}
}

var errGone = errors.New("the edge that had the request has gone, and no other one has a link of that run of the connector")

// way picks a link; once a request may have got through, one to the same run.
func (c *carrying) way(ctx context.Context, gone *registry.Member) (*registry.Member, error) {
	if gone == nil {
		return c.picker.Pick(ctx, c.Tenant.ID, c.App.Site, c.Stick)
	}
	if member := gone.Again(ctx); member != nil {
		return member, nil
	}
	return nil, errGone
}

// broke says that the link ended under the exchange.
func broke(err error) bool {
	var closed *tunnel.ClosedError
	return errors.As(err, &closed)
}

func (c *carrying) request(head *wire.RequestHead, member *registry.Member) *exchange.Request {
	req := &exchange.Request{Head: *head, Moves: member.Moves(), Interim: c.interim}
	if c.upload != nil {
		// Without another edge in between nothing is read before a stream is open, and nothing is tried again after that.
		body := c.upload.try(member.Hop > 0)
		req.Body, req.BodyDone, req.Trailer = body, body.done, c.upload.trailer
	}
	return req
}

// begin counts the exchange on the link that it runs on, and no longer on the one that it was tried on before.
func (c *carrying) begin(member *registry.Member) {
	c.end()
	c.member = member
	member.Begin()
}

func (c *carrying) end() {
	if c.member != nil {
		c.member.End()
	}
}

// opener notes whether a stream was opened: before that, nothing was sent.
type opener struct {
	member *registry.Member
	opened bool
}

func (o *opener) Open(ctx context.Context) (tunnel.Stream, error) {
	s, err := o.member.Open(ctx)
	o.opened = err == nil
	return s, err
}

// fail answers an exchange that ended before its head.
func (c *carrying) fail(err error) {
	if errors.Is(err, errTooBig) {
		c.tooBig()
		return
	}
	c.cause = errors.Join(c.cause, err)
	c.page(c.codeOf(err), 0)
}

// codeOf says whose doing an error is. A lease that ended is told from a browser that left by its cause: net/http cancels
// a request without one.
func (c *carrying) codeOf(err error) string {
	if ctx := c.r.Context(); ctx.Err() != nil {
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
			return wire.CodeRevoked
		}
		return wire.CodeClientAbort
	}
	return known(exchange.Code(err))
}

// page writes an error page; status 0 leaves it to the code.
func (c *carrying) page(code string, status int) {
	c.result.ErrorCode = code
	if status == 0 {
		status = web.StatusOf(code)
	}
	c.result.Status = status
	c.mu.Lock()
	c.paging = true
	if c.r.Context().Err() != nil {
		// The deadline that ended the waits would end this write too.
		_ = c.control.SetWriteDeadline(time.Now().Add(pageWait))
		// And net/http took the one on reading for the end of the connection: each further request on it would be over as it begins.
		if c.r.ProtoMajor == 1 {
			c.w.Header().Set("Connection", "close")
		}
	}
	c.mu.Unlock()
	c.pages.Error(c.w, c.r, web.Problem{
		Code: code, Status: status, RequestID: c.RequestID, Clinic: c.Tenant.Name, App: c.App.Name,
	})
}

// pageWait bounds the writing of an error page to somebody whose lease has ended.
const pageWait = 3 * time.Second

func (c *carrying) report() {
	code := c.result.ErrorCode
	if code == "" {
		return
	}
	level := zap.WarnLevel
	if code == wire.CodeClientAbort || code == wire.CodeRevoked || code == wire.CodeDenied || code == wire.CodeTooLarge {
		level = zap.DebugLevel
	}
	if entry := c.logger.Check(level, "exchange failed"); entry != nil {
		entry.Write(log.RequestID(c.RequestID), log.Tenant(c.Tenant.ID), log.Site(c.App.Site), log.App(c.App.ID),
			zap.String("code", code), zap.Int("status", c.result.Status), zap.Bool("after_head", c.headed), zap.Error(c.cause))
	}
}
