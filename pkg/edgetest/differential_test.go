package edgetest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

// mapped is what Tomcat made of a request.
type mapped struct {
	Application, ContextPath, ServletPath, PathInfo string
	Parameters                                      map[string][]string

	status   int
	location string
}

func (m mapped) path() string { return m.Application + m.ServletPath + m.PathInfo }

// plainSocket sends bytes to Tomcat as they are, one request after the other.
type plainSocket struct {
	t       testing.TB
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (s *plainSocket) ask(target string) mapped {
	s.t.Helper()
	if s.conn == nil {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			s.t.Fatal(err)
		}
		s.conn, s.reader = conn, bufio.NewReader(conn)
		s.t.Cleanup(func() { _ = conn.Close() })
	}
	_ = s.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(s.conn, "GET %s HTTP/1.1\r\nHost: oscar.clinic.test\r\nX-Mapped: 1\r\n\r\n", target); err != nil {
		s.t.Fatalf("%q: %v", target, err)
	}
	resp, err := http.ReadResponse(s.reader, nil)
	if err != nil {
		s.t.Fatalf("%q: %v", target, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%q: %v", target, err)
	}
	m := mapped{status: resp.StatusCode, location: resp.Header.Get("Location")}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &m); err != nil {
			s.t.Fatalf("%q: %v in %.200s", target, err, body)
		}
	}
	if resp.Close {
		_ = s.conn.Close()
		s.conn = nil
	}
	return m
}

// contextOf is the application that a canonical path belongs to.
func contextOf(path string) string {
	for _, ctx := range []string{"/oscar", "/companion"} {
		if urlpath.HasPrefix(path, ctx) {
			return ctx
		}
	}
	return ""
}

// disagree says how Tomcat's reading differs from the one that was decided on; "" if it does not.
func disagree(target urlpath.Target, m mapped) string {
	decided, err := url.PathUnescape(target.Path)
	if err != nil {
		return "undecodable: " + err.Error()
	}
	ctx := contextOf(target.Path)
	switch m.status {
	case http.StatusOK:
	case http.StatusFound: // the root of an application, without its slash
		at, _, _ := strings.Cut(m.location, "?")
		if ctx == "" || target.Path != ctx || at != ctx+"/" {
			return "redirected to " + m.location
		}
		return ""
	case http.StatusNotFound: // Tomcat hides these before it runs anything
		rest := strings.ToUpper(strings.TrimPrefix(decided, ctx))
		if !urlpath.HasPrefix(rest, "/WEB-INF") && !urlpath.HasPrefix(rest, "/META-INF") {
			return "not found"
		}
		return ""
	case http.StatusBadRequest: // what only Tomcat's query characters forbid reaches nothing
		if !strings.ContainsAny(target.RawQuery, "\"<>\\^`{|}") {
			return "refused"
		}
		return ""
	default:
		return "status " + strconv.Itoa(m.status)
	}
	if m.Application != ctx || m.ContextPath != ctx {
		return "ESCAPED to the application " + strconv.Quote(m.Application)
	}
	if got := m.path(); got != decided && (!strings.HasSuffix(decided, "/") || got != decided+"index.jsp") {
		return "mapped to " + strconv.Quote(got)
	}
	return disagreeOnQuery(target, m)
}

func disagreeOnQuery(target urlpath.Target, m mapped) string {
	values, err := urlpath.ParseQuery(target.RawQuery)
	if err != nil {
		return ""
	}
	want := map[string][]string{}
	for _, p := range values {
		// Tomcat decodes as UTF-8 and puts U+FFFD where that fails; such values are compared by nobody.
		name, value := strings.ToValidUTF8(p.Name, "\uFFFD"), strings.ToValidUTF8(p.Value, "\uFFFD")
		if name != p.Name || value != p.Value {
			return ""
		}
		want[name] = append(want[name], value)
	}
	if len(want) == 0 && len(m.Parameters) == 0 {
		return ""
	}
	if diff := cmp.Diff(want, m.Parameters); diff != "" {
		return "parameters differ (-ours +Tomcat's):\n" + diff
	}
	return ""
}

// The harness must see an escape where there is one, or its zeros mean nothing.
func TestTheHarnessSeesAnEscape(t *testing.T) {
	s := &plainSocket{t: t, address: StartTomcat(t, TomcatOptions{}).PlainAddress}
	for target, want := range map[string]string{"/oscar/..;/companion/x": "/companion", "/oscar/a/%2e%2e/b": "/oscar", "//companion//x": "/companion"} {
		m := s.ask(target)
		if m.status != http.StatusOK || m.Application != want {
			t.Errorf("%s: Tomcat maps it to %q with status %d, not to %q", target, m.Application, m.status, want)
		}
		if fault := disagree(urlpath.Target{Path: target}, m); fault == "" {
			t.Errorf("%s: the comparison finds nothing wrong with %+v", target, m)
		}
	}
}

func TestRandomTargetsHaveOneReading(t *testing.T) {
	n := fromEnvironment(t, "SALLYPORT_TARGETS", 5000)
	seed := uint64(fromEnvironment(t, "SALLYPORT_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Run("default", func(t *testing.T) { compareRandom(t, StartTomcat(t, TomcatOptions{}), n, seed) })
	t.Run("relaxed", func(t *testing.T) {
		relaxed := StartTomcat(t, TomcatOptions{Env: []string{
			"TOMCAT_RELAXED_PATH=\"<>[\\]^`{|}", "TOMCAT_RELAXED_QUERY=\"<>[\\]^`{|}", "TOMCAT_ENCODED_SOLIDUS=decode",
		}})
		compareRandom(t, relaxed, n/2, seed+1)
	})
	t.Run("suspicious", func(t *testing.T) {
		strict := StartTomcat(t, TomcatOptions{Env: []string{"TOMCAT_REJECT_SUSPICIOUS=true", "TOMCAT_ENCODED_SOLIDUS=passthrough"}})
		compareRandom(t, strict, n/2, seed+2)
	})
}

func compareRandom(t *testing.T, tc *Tomcat, n int, seed uint64) {
	t.Logf("%d targets, SALLYPORT_SEED=%d", n, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := &plainSocket{t: t, address: tc.PlainAddress}
	accepted, inContext, faults := 0, 0, 0
	for range n {
		raw := randomTarget(random)
		target, err := urlpath.Parse(raw, urlpath.Options{})
		if err != nil {
			continue
		}
		accepted++
		if contextOf(target.Path) != "" {
			inContext++
		}
		if fault := disagree(target, s.ask(target.String())); fault != "" {
			if faults++; faults <= 20 {
				t.Errorf("%q, decided on as %q: %s", raw, target, fault)
			}
		}
	}
	t.Logf("%d accepted, %d of them in an application below the root, %d faults", accepted, inContext, faults)
	if accepted < n/10 || inContext < accepted/3 {
		t.Errorf("only %d of %d targets were accepted, %d below an application: the comparison says too little", accepted, n, inContext)
	}
}

// What random targets are made of: what OSCAR has, and what makes parsers differ.
var (
	starts = []string{"/oscar", "/oscar", "/oscar", "/oscar", "/companion", "/other", "", "/oscar;x=1", "/OSCAR", "/%6fscar", "/oscar%20", "//oscar"}
	plains = []string{
		"/admin", "/x.jsp", "/index.jsp", "/login.do", "/mfa", "/ws/services/a", "/echo/b", "/images/a.png", "/provider", "/", "/...", "/a..b",
		"/.hidden", "/a.", "/~a", "/a:b@c", "/a,b", "/a=b&c", "/a+b", "/(a)'!*$", "/companion", "/oscar", "/WEB-INF/web.xml", "/admin/c.json", "/A-b_c",
	}
	encoded = []string{"/%78.jsp", "/%41dmin", "/%c3%a9", "/%E2%82%ac", "/a%20b", "/%7ea", "/%5bx%5d", "/[x]", "/%22", "/%3C%3e", "/%7b%7C%7d", "/%5E%60", "/%23", "/%3f", "/%26%3d", "/%2b", "/%f0%9f%98%80"}
	tricks  = []string{
		"/..", "/.", "//", "/..;", "/..;x=y", "/%2e%2e", "/%2e%2e;", "/.;", "/;", ";x", ";x=1/", "%2f", "%2F..", "%5c", "\\", "%252e%252e", "%25", "%00", "%0d%0a", "%", "%zz",
		"/%c0%ae%c0%ae", "%ff", "%c2%85", "%e2%80%a8", "%ef%bf%bd", "#", "?", "/..%3b", "%3b", "/\u00e9", " ", "\t", "|", "^", "\"", "<", "{", "`", ";jsessionid=0AF9.n1", ";jsessionid=a/b", "/%u002e", "%2E",
	}
	queries = []string{"a=1", "a=2", "b[]=[x]", "demographic_no=7", "%64emographic_no=9", "method=%73ave", "a=1;a=2", "c=%zz", "c=d=e", "q=caf%C3%A9", "q=%E9", "x+y=z+%2B", "", "e", "=f", "g=|", "h=/../i", "?", "k=%00", "%26=%3d"}
)

func randomTarget(r *rand.Rand) string {
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	var b strings.Builder
	b.WriteString(pick(starts))
	for range 1 + r.IntN(4) {
		switch n := r.IntN(20); {
		case n < 8:
			b.WriteString(pick(plains))
		case n < 12:
			b.WriteString(pick(encoded))
		case n < 18:
			b.WriteString(pick(tricks))
		case n < 19: // any escape
			fmt.Fprintf(&b, "/a%%%02x", r.IntN(256))
		default: // any character
			b.WriteByte('/')
			b.WriteByte(byte(' ' + 1 + r.IntN(94)))
		}
	}
	if r.IntN(3) == 0 {
		b.WriteByte('?')
		for range 1 + r.IntN(3) {
			b.WriteString(pick(queries) + "&")
		}
	}
	return b.String()
}

func fromEnvironment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return n
}

// What clinics use every day must pass, to the last, and mean the same to Tomcat.
func TestRealTargetsPass(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository(), "testdata", "oscar", "urls.txt"))
	if err != nil {
		t.Fatal(err)
	}
	s := &plainSocket{t: t, address: StartTomcat(t, TomcatOptions{}).PlainAddress}
	n := 0
	for raw := range strings.Lines(string(text)) {
		if raw = strings.TrimRight(raw, "\n"); raw == "" || raw[0] == '#' {
			continue
		}
		n++
		target, err := urlpath.Parse(raw, urlpath.Options{})
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if _, err := urlpath.ParseQuery(target.RawQuery); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		m := s.ask(target.String())
		if fault := disagree(target, m); fault != "" || (m.status != http.StatusOK && raw != "/oscar") {
			t.Errorf("%s: status %d: %s", raw, m.status, fault)
		}
	}
	if n < 300 {
		t.Errorf("only %d targets", n)
	}
}
