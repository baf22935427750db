// Package web owns what people see of Sallyport outside the console: the sign-in pages and every page that says what went
// wrong, their one stylesheet, the words in each language, and the headers that go with them. It decides nothing; login,
// access and proxy say which page. No page runs a script, loads anything foreign, or weighs more than a few kilobytes.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

//go:embed pages/*.html pages/style.css
var files embed.FS

// Prefix begins every path of ours on an app host. Nothing below it is ever forwarded.
const Prefix = "/.sallyport/"

// Pages renders every page. It is immutable and safe for concurrent use.
type Pages struct {
	style     []byte
	stylePath string
	languages []language.Tag
	matcher   language.Matcher
	sets      []*template.Template // one for each of languages
	tables    []Table
}

// New parses the templates once for each table; the first table is what a browser gets that asks for none of them. Without
// tables it is English.
func New(tables ...Table) (*Pages, error) {
	if len(tables) == 0 {
		tables = []Table{English()}
	}
	style, err := files.ReadFile("pages/style.css")
	if err != nil {
		return nil, fmt.Errorf("stylesheet: %w", err)
	}
	sum := sha256.Sum256(style)
	p := &Pages{
		style:     style,
		stylePath: Prefix + "style." + base64.RawURLEncoding.EncodeToString(sum[:9]) + ".css",
		tables:    tables,
	}
	for _, t := range tables {
		set, err := template.New("").Funcs(p.functions(t)).ParseFS(files, "pages/*.html")
		if err != nil {
			return nil, fmt.Errorf("pages: %w", err)
		}
		p.languages = append(p.languages, t.Tag)
		p.sets = append(p.sets, set)
	}
	p.matcher = language.NewMatcher(p.languages)
	return p, nil
}

func (p *Pages) functions(t Table) template.FuncMap {
	return template.FuncMap{
		"t":     t.text,
		"lang":  t.Tag.String,
		"style": func() string { return p.stylePath },
		"initial": func(name string) string {
			for _, r := range strings.ToUpper(name) {
				return string(r)
			}
			return "·"
		},
	}
}

// StylePath is where the stylesheet is, on every host.
func (p *Pages) StylePath() string { return p.stylePath }

// Style serves the stylesheet. Its name changes with its content, so browsers may keep it.
func (p *Pages) Style() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/css; charset=utf-8")
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.style))
	})
}

// frame is what every page has around its content.
type frame struct {
	Title     string // key; its %s is AppName
	AppName   string
	Clinic    string
	App       string
	Host      string
	RequestID id.Request
	Code      string // E-…, told to support
	Quiet     bool   // the foot says that access is recorded; the request number is with the help
}

// policy says which of our pages may do what.
type policy struct {
	framing    string // frame-ancestors
	formAction []string
}

func onSignInHost(formAction ...string) policy { return policy{"'none'", formAction} }

// onAppHost lets the app frame its own error pages: OSCAR is made of frames, and an empty one tells nobody anything.
func onAppHost() policy { return policy{"'self'", nil} }

func (p *Pages) render(w http.ResponseWriter, r *http.Request, status int, name string, pol policy, data any) {
	index := p.language(r)
	var page bytes.Buffer
	if err := p.sets[index].ExecuteTemplate(&page, name, data); err != nil {
		// Only a mistake in a template gets here, and the test of every page finds it.
		http.Error(w, "page unavailable", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", p.languages[index].String())
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	secureHeaders(h, pol)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(page.Bytes())
	}
}

// secureHeaders sets what every answer of ours carries.
func secureHeaders(h http.Header, pol policy) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors "+pol.framing+
		"; form-action "+strings.Join(append([]string{"'self'"}, pol.formAction...), " "))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Referrer-Policy") == "" {
		// Not no-referrer: browsers would then send "Origin: null" with our own forms (Fetch §3.1).
		h.Set("Referrer-Policy", "same-origin")
	}
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
	h.Add("Vary", "Accept-Language")
	h.Add("Vary", "Accept")
	if pol.framing == "'none'" {
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
	} else {
		h.Set("X-Frame-Options", "SAMEORIGIN")
	}
}

// Redirect answers 303 (RFC 9700 §4.12: never 307 after a form) with the headers of ours.
func (p *Pages) Redirect(w http.ResponseWriter, location string) {
	h := w.Header()
	h.Set("Location", location)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
}

// language returns the index of the language that fits r best.
func (p *Pages) language(r *http.Request) int {
	_, index, _ := p.matcher.Match(preferred(r)...)
	return index
}

// maxAcceptLanguage bounds what is parsed of a stranger's header.
const maxAcceptLanguage = 256

func preferred(r *http.Request) []language.Tag {
	header := r.Header.Get("Accept-Language")
	if len(header) > maxAcceptLanguage {
		return nil
	}
	tags, _, _ := language.ParseAcceptLanguage(header)
	return tags
}
