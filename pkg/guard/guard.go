// Package guard owns what a request must look like before anybody asks whose it is: its form (Check, Host, Upgrade),
// whether another site made the browser send it (CrossSite), how many of it are let in at once (Limits), and how slow it
// may be (Server, Pace). It looks at no credentials beyond whether there are any. The form of the target itself is
// urlpath's, and what of the headers goes on to an origin is proxy/hop's.
package guard

import "time"

// The codes of refusals, shown on error pages.
const (
	CodeRequest     = "E-BAD-REQUEST" // the request is not well formed
	CodeMethod      = "E-METHOD"      // a method that is not let through
	CodeHeaders     = "E-HEADERS"     // too many or too long headers or cookies
	CodeMisdirected = "E-WRONG-HOST"  // the connection was made for another host
	CodeWebSocket   = "E-WEBSOCKET"   // no WebSocket here, or not from this page
	CodeBusy        = "E-OVERLOAD"    // too many at once; later it may go through
)

// Refusal is why a request is not let in.
type Refusal struct {
	Status int
	Code   string
	// Reason is a stable word for logs and metrics, such as "header-name". It holds nothing of the request.
	Reason string
	// Close says that the connection is not to be used again.
	Close bool
	// RetryAfter is set where later makes sense.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Reason }

var _ error = (*Refusal)(nil)

func bad(reason string) *Refusal { return &Refusal{Status: 400, Code: CodeRequest, Reason: reason} }
