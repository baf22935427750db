package mail

import (
	"fmt"
	"strings"
	"time"
)

// Texts holds the words of every message in one language. A second language is a second value.
type Texts struct {
	CodeSubject string // %s: code, clinic
	CodeText    string // %s: code, clinic, minutes, host
	InviteSubj  string // %s: clinic
	InviteText  string // %s: clinic, sign-in URL, address
	TestSubject string
	TestText    string
}

// English returns the words in English.
func English() Texts {
	return Texts{
		CodeSubject: "%s is your code for %s",
		CodeText: `%[1]s

This is your sign-in code for %[2]s. It works for %[3]d minutes, once, and only in
the browser where you asked for it. Type it on https://%[4]s and nowhere else.

Nobody from the clinic or its support will ever ask you for it. If you did not ask
for a code, you can ignore this message: nobody gets in without it.
`,
		InviteSubj: "You can now sign in to %s",
		InviteText: `You have been given access to %[1]s.

Open this page and type your e-mail address (%[3]s):

%[2]s

We then send you a code of six digits; there is no password to remember.
If you did not expect this message, please ask the clinic before you use it.
`,
		TestSubject: "Sallyport test message",
		TestText: `This is a test message from your Sallyport edge.

If you can read it, the edge can send sign-in codes.
`,
	}
}

// Code is the message with a sign-in code. The code is the first word of the subject and alone on the first line, so that
// it can be read in a notification and filled in by a phone.
func (t Texts) Code(to, clinic, host, code string, life time.Duration) Message {
	return Message{
		To: to, FromName: headerText(clinic),
		Subject: fmt.Sprintf(t.CodeSubject, code, headerText(clinic)),
		Text:    fmt.Sprintf(t.CodeText, code, clinic, int(life/time.Minute), host),
	}
}

// Invitation tells a new user where to sign in; it carries no code and opens nothing by itself.
func (t Texts) Invitation(to, clinic, signInURL string) Message {
	return Message{
		To: to, FromName: headerText(clinic),
		Subject: fmt.Sprintf(t.InviteSubj, headerText(clinic)),
		Text:    fmt.Sprintf(t.InviteText, clinic, signInURL, to),
	}
}

// Test is what `edge mail test` sends.
func (t Texts) Test(to string) Message {
	return Message{To: to, Subject: t.TestSubject, Text: t.TestText}
}

// headerText makes a clinic's name safe for a header line.
func headerText(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}
