package wire

// Error codes in End.code and ResponseHead.error_code, shared by both sides, the error pages and the handbook. A
// receiver treats a code that it does not know like CodeInternal.
const (
	CodeTunnelDown     = "E-TUNNEL-DOWN"     // the link between connector and edge ended, or none is up
	CodeNotHere        = "E-NOT-HERE"        // from edge to edge: no link of that run of the connector is here, and nothing was sent to it
	CodeOriginRefused  = "E-ORIGIN-REFUSED"  // the origin takes no connection, or has not answered for a while: nothing was sent to it
	CodeOriginTLS      = "E-ORIGIN-TLS"      // the origin's certificate is not the expected one
	CodeOriginTimeout  = "E-ORIGIN-TIMEOUT"  // the origin did not answer in time
	CodeOriginBusy     = "E-ORIGIN-BUSY"     // too many requests wait for the origin: nothing was sent to it
	CodeOriginProtocol = "E-ORIGIN-PROTOCOL" // the origin's answer breaks HTTP or a limit
	CodeOriginAbort    = "E-ORIGIN-ABORT"    // the origin broke off in the middle of its answer
	CodeClientAbort    = "E-CLIENT-ABORT"    // the browser went away, or broke off in the middle of its body
	CodeDenied         = "E-DENIED"          // not allowed
	CodeNoRule         = "E-NO-RULE"         // no ingress rule wants this host and path
	CodeAssertion      = "E-ASSERTION"       // the assertion does not hold: expired, foreign, or for something else
	CodeRevoked        = "E-REVOKED"         // the right to this exchange ended while it ran
	CodeProtocol       = "E-PROTOCOL"        // the peer broke the rules of this protocol
	CodeInternal       = "E-INTERNAL"        // a fault of ours
	CodeTooLarge       = "E-TOO-LARGE"       // a head or body over a limit
)

// maxCode bounds a code on the wire, in bytes.
const maxCode = 32

// checkCode takes the form of a code, known or not: E-, then capitals and hyphens.
func checkCode(code string) error {
	if len(code) < 3 || len(code) > maxCode || code[:2] != "E-" {
		return violationf("error code: not of the form E-…")
	}
	for i := 2; i < len(code); i++ {
		if c := code[i]; (c < 'A' || c > 'Z') && c != '-' {
			return violationf("error code: not of the form E-…")
		}
	}
	return nil
}
