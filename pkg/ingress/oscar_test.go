package ingress

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestPresetRefusesInternalPages(t *testing.T) {
	rule := &load(t, "rules:\n  - origin: http://10.0.0.1\n    preset: oscar\n    context: [/oscar, /emr2]\n").All()[0]
	for _, refused := range []string{
		"/oscar/html2pdf", "/oscar/HTML2PDF", "/oscar/monitoring", "/oscar/monitoring/", "/emr2/monitoring/x", "/oscar/prometheus/metrics",
		"/oscar/WEB-INF/web.xml", "/oscar/web-inf/", "/META-INF/x", "/oscar/a/Web-Inf/x", "/oscar/myoscar_login_tester2.jsp",
		"/oscar/integrations/aqs/x", "/oscar/ws/rs/batch/activate_demographics", "/oscar/faxOutbound", "/oscar/ws", "/oscar/ws/",
		"/oscar/ws/services", "/oscar/ws/services/", "/oscar/ws/rs/", "/oscar/ws/services/demographics?_wadl", "/oscar/ws/X?a=1&%77sdl",
		"/oscar/ws/X?a;WSDL=1", "/manager/html", "/docs", "/emr3/index.jsp", "/oscarx/index.jsp", "/index.jsp",
		"/OSCAR/index.jsp", "/Emr2/x", "/OSCAR",
	} {
		path, query, _ := strings.Cut(refused, "?")
		if !rule.denies(path, query) {
			t.Errorf("%s is served", refused)
		}
	}
	for _, served := range []string{
		"/", "/favicon.ico", "/oscar", "/oscar/", "/oscar/index.jsp", "/emr2/login.do", "/oscar/monitoringx", "/oscar/x/monitoring",
		"/oscar/ws/services/demographics", "/oscar/ws/LoginService", "/oscar/lab/x.do?_type=a", "/oscar/ws/x?q=wsdl",
	} {
		path, query, _ := strings.Cut(served, "?")
		if rule.denies(path, query) {
			t.Errorf("%s is refused", served)
		}
	}
	open := &load(t, "rules:\n  - origin: http://10.0.0.1\n    preset: oscar\n    service_descriptions: allow\n").All()[0]
	if open.denies("/oscar/ws/X", "wsdl") || !open.denies("/oscar/html2pdf", "") {
		t.Error("service_descriptions: allow opens more or less than descriptions")
	}
	// An OSCAR below another one's context is refused the same pages, whichever is named first.
	nested := &load(t, "rules:\n  - origin: http://10.0.0.1\n    preset: oscar\n    context: [/emr, /emr/two]\n").All()[0]
	if !nested.denies("/emr/two/html2pdf", "") || !nested.denies("/emr/html2pdf", "") || nested.denies("/emr/two/index.jsp", "") {
		t.Error("a context below another one is judged as a part of that one")
	}
	plain := &load(t, "rules:\n  - origin: http://10.0.0.1\n").All()[0]
	if plain.denies("/oscar/html2pdf", "") {
		t.Error("a rule without the preset refuses pages")
	}
}

func TestSessionIDLeavesRedirects(t *testing.T) {
	for from, want := range map[string]string{
		"/oscar/x.jsp;jsessionid=A1.n1?a=1": "/oscar/x.jsp?a=1",
		"https://h/x;jsessionid=A1":         "https://h/x",
		"/oscar/x?a=;jsessionid=A1":         "/oscar/x?a=;jsessionid=A1",
		"/oscar/x":                          "/oscar/x",
	} {
		if got := withoutSessionID(from); got != want {
			t.Errorf("%q became %q, want %q", from, got, want)
		}
	}
}

// A page that trusts 127.0.0.1 must not take the connector for it.
func TestCoLocatedOriginNeverSeesLoopBack(t *testing.T) {
	for _, c := range []struct{ listen, host, extra, want string }{
		{"127.0.0.1:0", "127.0.0.1", "", ""},
		{"127.0.0.1:0", "localhost", "", ""},
		{"127.0.0.1:0", "127.0.0.1", "    source: 127.0.0.2\n", "127.0.0.2"},
		{"[::1]:0", "[::1]", "", ""},
	} {
		t.Run(c.host+c.want, func(t *testing.T) {
			ln, err := net.Listen("tcp", c.listen)
			if err != nil {
				t.Logf("this machine has no %s: %v", c.listen, err)
				return
			}
			seen := make(chan netip.Addr, 1)
			s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				seen <- netip.MustParseAddrPort(r.RemoteAddr).Addr().Unmap()
			})}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = s.Serve(ln)
			}()
			defer func() {
				_ = s.Close()
				<-done
			}()
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			in := New(Config{Rules: load(t, "rules:\n  - origin: http://"+c.host+":"+port+"\n    preset: oscar\n"+c.extra)})
			defer in.Close()
			in.current.Load().origins[0].check(t.Context())
			if h := in.Health()[0]; !h.Healthy {
				// Without an interface address there is no way to ::1 but to be refused.
				if _, err := sourceFor(netip.IPv6Loopback()); c.listen == "[::1]:0" && err != nil && h.Problem == "E-ORIGIN-REFUSED" {
					return
				}
				t.Fatalf("%+v", h)
			}
			got := <-seen
			if got == netip.MustParseAddr("127.0.0.1") || got == netip.IPv6Loopback() || c.want != "" && got.String() != c.want {
				t.Errorf("the origin saw %s", got)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	rules := load(t, "rules:\n  - host: a.example\n    path: /oscar\n    origin: http://10.0.0.1\n    preset: oscar\n  - service: status:404\n")
	text, err := rules.Explain("https://a.example:8443/oscar/monitoring")
	if err != nil || !strings.Contains(text, "rule 1 (line 2)") || !strings.Contains(text, "403") {
		t.Errorf("%v\n%s", err, text)
	}
	text, err = rules.Explain("https://b.example/")
	if err != nil || !strings.Contains(text, "does not match: the host is not a.example") || !strings.Contains(text, "status 404") {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err = rules.Explain("https://a.example/oscar//x"); err != nil || !strings.Contains(text, "400") {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := rules.Explain("a.example/x"); err == nil {
		t.Error("not a URL, and accepted")
	}
}
