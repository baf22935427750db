package egress

// Kind says what is wrong at a proxy.
type Kind string

// The kinds.
const (
	Unreachable Kind = "unreachable" // no TCP or TLS connection to the proxy itself
	Credentials Kind = "credentials" // it wants a user and password, or others than it was given
	Denied      Kind = "denied"      // it forbids this destination
	Upstream    Kind = "upstream"    // it could not reach the destination
	Protocol    Kind = "protocol"    // it does not speak what the URL says
)

// Error is what went wrong at a proxy, in words for the log; no password is in it.
type Error struct {
	// Proxy is its host:port.
	Proxy string
	Kind  Kind
	// Status is the HTTP status of its answer; 0 for none.
	Status int
	// Words follow "the proxy HOST …".
	Words string
	// Err is what lies behind; may be nil.
	Err error
}

func (e *Error) Error() string {
	text := "the proxy " + e.Proxy + " " + e.Words
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }
