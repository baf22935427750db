package guard_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/guard"
)

func request(method, target string, header http.Header) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "oscar.maple.example"
	if header != nil {
		r.Header = header
	}
	return r
}

func reason(refusal *guard.Refusal) string {
	if refusal == nil {
		return ""
	}
	return refusal.Reason
}

func TestCheck(t *testing.T) {
	many := func(n int) http.Header {
		h := http.Header{}
		for i := range n {
			h[fmt.Sprintf("X-%d", i)] = []string{"1"}
		}
		return h
	}
	for name, c := range map[string]struct {
		method, target string
		header         http.Header
		want           string
	}{
		"plain":                    {"GET", "/oscar/", http.Header{"Accept": {"a", "b"}}, ""},
		"every method":             {"PATCH", "/oscar/", nil, ""},
		"trace":                    {"TRACE", "/", nil, "method"},
		"lower case":               {"get", "/", nil, "method"},
		"unknown method":           {"PROPFIND", "/", nil, "method"},
		"http/2 preface":           {"PRI", "/", nil, "method"},
		"underscore":               {"GET", "/", http.Header{"X_Oscar_User": {"a"}}, "header-name"},
		"mixed underscore":         {"GET", "/", http.Header{"X-Oscar_User": {"a"}}, "header-name"},
		"dot":                      {"GET", "/", http.Header{"X.Oscar.User": {"a"}}, "header-name"},
		"token of the RFC":         {"GET", "/", http.Header{"X!Y": {"a"}}, "header-name"},
		"content type twice":       {"POST", "/", http.Header{"Content-Type": {"a", "b"}}, "header-twice"},
		"origin twice":             {"POST", "/", http.Header{"Origin": {"a", "a"}}, "header-twice"},
		"token twice":              {"GET", "/", http.Header{"Sallyport-Access-Token": {"a", "b"}}, "header-twice"},
		"cookie twice":             {"GET", "/", http.Header{"Cookie": {"a=1", "b=1"}}, "header-twice"},
		"two credentials":          {"GET", "/", http.Header{"Authorization": {"a"}, "Proxy-Authorization": {"b"}}, "two-credentials"},
		"100 headers":              {"GET", "/", many(100), ""},
		"101 headers":              {"GET", "/", many(101), "header-count"},
		"101 of one name":          {"GET", "/", http.Header{"Accept": strings.Split(strings.Repeat("a,", 100)+"a", ",")}, "header-count"},
		"32 KiB":                   {"GET", "/", http.Header{"X-A": {strings.Repeat("a", 32<<10)}}, "header-bytes"},
		"64 cookies":               {"GET", "/", http.Header{"Cookie": {strings.Repeat("a=1; ", 63) + "a=1"}}, ""},
		"65 cookies":               {"GET", "/", http.Header{"Cookie": {strings.Repeat("a=1; ", 64) + "a=1"}}, "cookie-count"},
		"method override":          {"POST", "/x?a=1&_method=DELETE", nil, "method-override"},
		"method override, encoded": {"POST", "/x?%5Fm%65thod=DELETE", nil, "method-override"},
		"method override, case":    {"POST", "/x?_METHOD=DELETE", nil, "method-override"},
		"OSCAR's own method":       {"POST", "/x?method=save&my_method=1", nil, ""},
		"bad escape in the query":  {"GET", "/x?%zz=1&includes[]=a", nil, ""},
		"other host header":        {"GET", "/", http.Header{"Host": {"other.example"}}, "host-header"},
		"same host header":         {"GET", "/", http.Header{"Host": {"oscar.maple.example"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("GET", c.target, c.header)
			r.Method = c.method
			if got := reason(guard.Check(r)); got != c.want {
				t.Errorf("refused for %q, want %q", got, c.want)
			}
		})
	}
}

func TestCheckTargetForms(t *testing.T) {
	for _, target := range []string{"http://oscar.maple.example/x", "https://other.example/x"} {
		r := httptest.NewRequest("GET", target, nil)
		if got := reason(guard.Check(r)); got != "target-form" {
			t.Errorf("%s: %q", target, got)
		}
	}
	r := request("OPTIONS", "/", nil)
	r.RequestURI, r.URL.Path = "*", "*"
	if got := reason(guard.Check(r)); got != "target-form" {
		t.Errorf("*: %q", got)
	}
	r = request("GET", "/", nil)
	r.ProtoMajor, r.ProtoMinor = 1, 0
	if got := reason(guard.Check(r)); got != "version" {
		t.Errorf("HTTP/1.0: %q", got)
	}
	r = request("POST", "/", nil)
	r.Trailer = http.Header{"X_A": nil}
	if got := reason(guard.Check(r)); got != "trailer-name" {
		t.Errorf("trailer: %q", got)
	}
}
