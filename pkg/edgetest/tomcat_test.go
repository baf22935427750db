package edgetest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestTomcatComesBackTheSame(t *testing.T) {
	tc := StartTomcat(t, TomcatOptions{Own: true, RemoteIPValve: true})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(tc.CertPEM)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	before, pin := tc.URL, tc.Pin

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+tc.PlainAddress+"/oscar/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "192.0.2.7")
	req.Header.Set("X-Forwarded-Proto", "https")
	_, body, err := fetch(t, client, req)
	var seen struct {
		RemoteAddr, Scheme string
		ServerPort         int
	}
	if err != nil || json.Unmarshal([]byte(body), &seen) != nil || seen.RemoteAddr != "192.0.2.7" || seen.Scheme != "https" || seen.ServerPort != 443 {
		t.Errorf("with the valve: %+v, %v", seen, err)
	}
	get(t, client, tc.URL+"/oscar/echo/marked")
	if log := tc.AccessLog(t); !slices.ContainsFunc(log, func(line string) bool { return strings.Contains(line, `200 "GET /oscar/echo/marked HTTP/1.1"`) }) {
		t.Errorf("the access log lacks a request that was answered: %q", log)
	}

	tc.Kill(t)
	if conn, err := net.Dial("tcp", tc.Address); err == nil {
		_ = conn.Close()
		t.Error("a killed Tomcat takes connections")
	}
	tc.Restart(t)
	if tc.URL != before || tc.Pin != pin {
		t.Errorf("after the restart %s with %s, before %s with %s", tc.URL, tc.Pin, before, pin)
	}
	if resp, _ := get(t, client, tc.URL+"/oscar/index.jsp"); resp.StatusCode != http.StatusOK {
		t.Errorf("after the restart: %s", resp.Status)
	}
}
