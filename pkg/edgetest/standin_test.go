package edgetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// origins runs a test against Tomcat and against the stand-in: where the stand-in answers, it must answer alike.
func origins(t *testing.T, test func(t *testing.T, base string, client *http.Client)) {
	insecure := &tls.Config{InsecureSkipVerify: true}
	run := func(base string) func(*testing.T) {
		return func(t *testing.T) {
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{TLSClientConfig: insecure, DisableCompression: true}
			t.Cleanup(transport.CloseIdleConnections)
			test(t, base, &http.Client{
				Jar: jar, Transport: transport, Timeout: 30 * time.Second,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			})
		}
	}
	t.Run("tomcat", run(StartTomcat(t, TomcatOptions{}).URL))
	standIn := httptest.NewTLSServer(StandIn())
	defer standIn.Close()
	t.Run("standin", run(standIn.URL))
}

// fetch returns the answer, its body, and the error that ended the body.
func fetch(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string, error) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func get(t *testing.T, c *http.Client, target string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, body, err := fetch(t, c, req)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return resp, body
}

func post(t *testing.T, c *http.Client, target string, form url.Values) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, body, err := fetch(t, c, req)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return resp, body
}

func wants(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q: %.600s", what, part, text)
		}
	}
}

func TestAVisitToTheOrigin(t *testing.T) {
	origins(t, func(t *testing.T, base string, c *http.Client) {
		resp, _ := get(t, c, base+"/oscar")
		wants(t, "context root", resp.Header.Get("Location"), "/oscar/")
		_, page := get(t, c, base+"/oscar/index.jsp")
		wants(t, "login page", page, `<base href="`+base+`/oscar/">`, `name="pin"`, "action=\"login.do")
		resp, _ = get(t, c, base+"/oscar/provider/providercontrol.jsp?displaymode=day")
		wants(t, "unknown visitor", resp.Header.Get("Location"), "/oscar/index.jsp")
		resp, _ = post(t, c, base+"/oscar/login.do", url.Values{"username": {"oscardoc"}, "password": {"wrong"}, "pin": {"1117"}})
		wants(t, "wrong password", resp.Header.Get("Location"), "login=failed")
		resp, _ = post(t, c, base+"/oscar/login.do", url.Values{"username": {"oscardoc"}, "password": {"mac2002"}, "pin": {"1117"}})
		wants(t, "login", resp.Header.Get("Location"), "/oscar/provider/providercontrol.jsp")
		wants(t, "login", strings.Join(resp.Header.Values("Set-Cookie"), ";"), "JSESSIONID=", "Path=/oscar", "HttpOnly")
		_, page = get(t, c, base+"/oscar/provider/providercontrol.jsp?displaymode=addstatus&appointment_no=2&status=HX")
		wants(t, "a write by GET", page, ">HX</a>")
		note := fmt.Sprintf("cough <b> %d", time.Now().UnixNano())
		resp, _ = post(t, c, base+"/oscar/CaseManagementEntry.do", url.Values{"method": {"save"}, "demographicNo": {"2"}, "caseNote_note": {note}})
		wants(t, "saving", resp.Header.Get("Location"), "/oscar/casemgmt/forward.jsp?demographicNo=2")
		_, page = get(t, c, base+resp.Header.Get("Location"))
		wants(t, "chart", page, "Test, Birch", strings.ReplaceAll(note, "<b>", "&lt;b&gt;"), "saved by oscardoc")
		_, text := post(t, c, base+"/oscar/CaseManagementEntry.do", url.Values{"method": {"autosave"}, "demographicNo": {"2"}, "caseNote_note": {"draft"}})
		wants(t, "autosave", text, `{"saved":`)
		script := `<script>document.title = "planted"</script>`
		resp, _ = post(t, c, base+"/oscar/eform/addEForm.do", url.Values{"fid": {"77"}, "formHtml": {script}})
		_, page = get(t, c, base+resp.Header.Get("Location"))
		wants(t, "form", page, script)
		resp, _ = get(t, c, base+"/oscar/css/oscar.css")
		wants(t, "style", resp.Header.Get("Content-Type"), "text/css")
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/oscar/logout.do", nil)
		req.AddCookie(&http.Cookie{Name: "somebody", Value: "else"})
		resp, _, _ = fetch(t, c, req)
		for _, gone := range []string{"JSESSIONID=; ", "somebody=; "} {
			wants(t, "logout", strings.ReplaceAll(strings.Join(resp.Header.Values("Set-Cookie"), "\n"), `""`, ""), gone, "Max-Age=0", "Path=/")
		}
	})
}

func TestTheOriginsWire(t *testing.T) {
	origins(t, func(t *testing.T, base string, c *http.Client) {
		for kind, want := range map[string]string{
			"": "/oscar/index.jsp", "absolute": base + "/oscar/", "private": "http://10.20.30.40:8080/oscar/",
			"localhost": "http://localhost:8080/", "outside-context": "/loginfailed.jsp", "foreign": "https://elsewhere.example/", "slashes": "//elsewhere.example/",
		} {
			resp, _ := get(t, c, base+"/oscar/wire/redirect?kind="+kind)
			if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || !strings.HasPrefix(got, want) {
				t.Errorf("redirect %q: %d to %q", kind, resp.StatusCode, got)
			}
		}
		resp, _ := get(t, c, base+"/oscar/wire/cookies")
		if n := len(resp.Header.Values("Set-Cookie")); n != 6 {
			t.Errorf("%d cookies", n)
		}
		resp, _ = get(t, c, base+"/oscar/wire/gzip")
		wants(t, "packed", resp.Header.Get("Content-Encoding"), "gzip")
		resp, _ = get(t, c, base+"/oscar/wire/trailers")
		wants(t, "trailer", resp.Trailer.Get("X-Checksum"), "c0ffee")
		hinted := ""
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hinted = fmt.Sprint(code, h.Get("Link"))
			return nil
		}}
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, base+"/oscar/wire/hints", nil)
		_, body, _ := fetch(t, c, req)
		wants(t, "hints", hinted+body, "103", "rel=preload", "after the hints")
		for _, how := range []string{"", "&chunked=1"} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/oscar/wire/broken?bytes=100000&after=5000"+how, nil)
			if _, body, err := fetch(t, c, req); err == nil || len(body) != 5000 {
				t.Errorf("a broken answer%s: %d bytes, %v", how, len(body), err)
			}
		}
		_, body = get(t, c, base+"/oscar/wire/counts")
		if counts := map[string]int{}; json.Unmarshal([]byte(body), &counts) != nil || len(counts) != 7 {
			t.Errorf("counts: %s", body)
		}
		began := time.Now()
		_, body = get(t, c, base+"/oscar/report/slowReport.do?seconds=0.2")
		if wants(t, "report", body, "Report complete"); time.Since(began) < 200*time.Millisecond {
			t.Errorf("the slow report took %s", time.Since(began))
		}
		_, body = get(t, c, base+"/oscar/html2pdf")
		wants(t, "a page for this machine", body, "local only")
	})
}

func TestTheOriginsEcho(t *testing.T) {
	origins(t, func(t *testing.T, base string, c *http.Client) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/oscar/echo/a%20b?d=1&d=2&b[]=x", strings.NewReader("d=3&method=save"))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header["X-Two"] = []string{"a", "b"}
		_, body, err := fetch(t, c, req)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Method, RequestURI, QueryString, ContextPath, Scheme, ServerName, RemoteAddr string
			Headers                                                                      [][2]string
			Parameters                                                                   map[string][]string
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%+v", got)
		wants(t, "echo", text, "POST", "/oscar/echo/a%20b", "d=1&d=2&b[]=x", "ContextPath:/oscar", "Scheme:https", "127.0.0.1", "[x-two a]", "[x-two b]", "method:[save]", "b[]:[x]")
		if len(got.Parameters["d"]) != 3 {
			t.Errorf("d is %v", got.Parameters["d"])
		}
	})
}

func TestBulkAtTheOrigin(t *testing.T) {
	origins(t, func(t *testing.T, base string, c *http.Client) {
		const size = 5<<20 + 3
		want, err := io.ReadAll(io.NewSectionReader(Backup(size), 0, size))
		if err != nil {
			t.Fatal(err)
		}
		for _, how := range []string{"", "&chunked=1"} {
			resp, body := get(t, c, fmt.Sprintf("%s/oscar/servlet/BackupDownload?bytes=%d%s", base, size, how))
			if body != string(want) || (resp.ContentLength == size) != (how == "") {
				t.Errorf("download%s: %d bytes with length %d differ", how, len(body), resp.ContentLength)
			}
		}
		_, body := get(t, c, fmt.Sprintf("%s/oscar/servlet/BackupDownload?digest=1&bytes=%d", base, size))
		wants(t, "digest", body, Backup(size).SHA256())
		for spec, part := range map[string][]byte{"bytes=13-1012": want[13:1013], "bytes=-7": want[size-7:], "bytes=5242880-": want[5242880:]} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/oscar/servlet/BackupDownload?bytes=%d", base, size), nil)
			req.Header.Set("Range", spec)
			if resp, body, _ := fetch(t, c, req); resp.StatusCode != http.StatusPartialContent || body != string(part) {
				t.Errorf("%s: status %d, %d bytes", spec, resp.StatusCode, len(body))
			}
		}
		var form bytes.Buffer
		m := multipart.NewWriter(&form)
		_ = m.WriteField("docDesc", "scan")
		file, _ := m.CreateFormFile("docFile", "scan.pdf")
		_, _ = file.Write(want)
		_ = m.Close()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/oscar/documentManager/documentUpload.do", &form)
		req.Header.Set("Content-Type", m.FormDataContentType())
		_, body, _ = fetch(t, c, req)
		wants(t, "upload", body, `"name":"scan.pdf"`, fmt.Sprintf(`"bytes":%d`, size), Backup(size).SHA256(), `"docDesc":"scan"`)
	})
}

func TestTheOriginsSocket(t *testing.T) {
	origins(t, func(t *testing.T, base string, c *http.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		plain := *c
		plain.CheckRedirect, plain.Timeout = nil, 0
		ws, _, err := websocket.Dial(ctx, strings.Replace(base, "https:", "wss:", 1)+"/oscar/socket/echo", &websocket.DialOptions{HTTPClient: &plain})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		for kind, data := range map[websocket.MessageType]string{websocket.MessageText: "grüße", websocket.MessageBinary: "\x00\xff"} {
			if err := ws.Write(ctx, kind, []byte(data)); err != nil {
				t.Fatal(err)
			}
			if gotKind, got, err := ws.Read(ctx); err != nil || gotKind != kind || string(got) != data {
				t.Errorf("%v %q came back as %v %q: %v", kind, data, gotKind, got, err)
			}
		}
	})
}
