package mail

import (
	"crypto/rand"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"

	gomail "github.com/wneessen/go-mail"
)

// SendError says where handing over a message failed. Its text is free of addresses and of the server's own words, which
// often repeat the recipient; Detail has those, for the person who asked for a test mail.
type SendError struct {
	// Stage is "configuration", "connect" (dial, TLS, log-in) or "hand over".
	Stage string
	// Code is the server's SMTP reply code, 0 if it gave none.
	Code int
	// Permanent is true when the server said that trying again is of no use (5yz, RFC 5321 §4.2.1).
	Permanent bool
	detail    string
}

func (e *SendError) Error() string {
	kind := "may work later"
	if e.Permanent {
		kind = "refused for good"
	}
	if e.Code == 0 {
		return fmt.Sprintf("mail %s: failed, %s", e.Stage, kind)
	}
	return fmt.Sprintf("mail %s: reply %d, %s", e.Stage, e.Code, kind)
}

// Detail is the full text of what went wrong; it may hold addresses and belongs in no log.
func (e *SendError) Detail() string { return e.detail }

func sendError(stage string, err error) *SendError {
	out := &SendError{Stage: stage, detail: err.Error()}
	var send *gomail.SendError
	if errors.As(err, &send) {
		out.Code = send.ErrorCode()
		out.Permanent = out.Code >= 500 && out.Code < 600
	}
	return out
}

func messageID(from string) string {
	domain := "localhost"
	if addr, err := netmail.ParseAddress(from); err == nil {
		domain = addr.Address[strings.LastIndexByte(addr.Address, '@')+1:]
	}
	return rand.Text() + "@" + domain
}
