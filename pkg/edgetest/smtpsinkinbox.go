package edgetest

import (
	"html/template"
	"net/http"
	"regexp"
	"slices"
)

var inboxPage = template.Must(template.New("inbox").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{with .}}{{with index . 0}}{{with .Code}}{{.}} – {{end}}{{end}}{{end}}Inbox</title>
<style>
body { margin: 0 auto; max-width: 42rem; padding: 1.5rem 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1c2430; background: #f5f6f8; }
article { margin: 1rem 0; padding: 1rem 1.25rem; background: #fff; border: 1px solid #d7dce3; border-radius: 6px; }
h1 { font-size: 1.3rem; } h2 { margin: 0; font-size: 1.05rem; }
p { margin: .25rem 0; color: #525d6b; } .code { font: 600 2rem/1.4 ui-monospace, monospace; color: #1c2430; letter-spacing: .12em; }
pre { margin: .75rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; }
</style>
</head>
<body>
<h1>Inbox of the test mail server</h1>
<p>Newest first. This page looks again every three seconds. Nothing here was sent to anybody.</p>
{{range .}}<article>
<h2>{{.Subject}}</h2>
<p>{{.At.Format "15:04:05"}} · to {{range .To}}{{.}} {{end}}· from {{.From}}</p>
{{with .Code}}<p class="code">{{.}}</p>{{end}}<pre>{{.Text}}</pre>
</article>
{{else}}<p>No mail has come yet.</p>
{{end}}</body>
</html>
`))

var mailedCode = regexp.MustCompile(`\b\d{6,8}\b`)

// Inbox shows the mails as a page that refreshes itself without script.
func (s *Sink) Inbox() http.Handler {
	type shown struct {
		Mail
		Code string
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mails := s.All()
		slices.Reverse(mails)
		page := make([]shown, len(mails))
		for i, m := range mails {
			page[i] = shown{m, mailedCode.FindString(m.Text)}
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = inboxPage.Execute(w, page)
	})
}
