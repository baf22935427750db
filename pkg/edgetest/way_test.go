package edgetest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// transports runs a test over both kinds of link.
func transports(t *testing.T, f func(t *testing.T, noQUIC bool)) {
	t.Helper()
	for _, name := range []string{"quic", "websocket"} {
		t.Run(name, func(t *testing.T) { f(t, name == "websocket") })
	}
}

func oscarWorld(t *testing.T, noQUIC bool) (*edgetest.World, *edgetest.Tomcat) {
	t.Helper()
	tomcat := edgetest.StartTomcat(t, edgetest.TomcatOptions{})
	return edgetest.Start(t, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin, NoQUIC: noQUIC}), tomcat
}

// doctor is signed in at the edge and in the application.
type doctor struct {
	*edgetest.Visitor
	t *testing.T
	w *edgetest.World
}

func atWork(t *testing.T, w *edgetest.World) doctor {
	t.Helper()
	d := doctor{w.SignIn(), t, w}
	page := d.submit("/oscar/login.do", url.Values{"username": {"oscardoc"}, "password": {"mac2002"}, "pin": {"1117"}})
	if !strings.Contains(page, "Day sheet") {
		t.Fatalf("no day sheet after the application's log-in: %.400s", page)
	}
	return d
}

func (d doctor) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	d.t.Cleanup(cancel)
	return ctx
}

func (d doctor) page(resp *http.Response, err error) string {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	page, err := edgetest.ReadAll(resp)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%s: %s: %.400s", resp.Request.URL, resp.Status, page)
	}
	return page
}

func (d doctor) open(path string) string {
	d.t.Helper()
	return d.page(d.Navigate(d.ctx(), d.w.URL(path)))
}

func (d doctor) submit(path string, form url.Values) string {
	d.t.Helper()
	return d.page(d.Submit(d.ctx(), d.w.URL(path), form))
}

// patterned is size bytes that look random and are the same each time.
func patterned(seed uint64, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed))), size)
}

// upload sends one file of size bytes as a form does and returns what the application says it got, and what it should be.
func (d doctor) upload(size int64) (got, want string, err error) {
	body, send := io.Pipe()
	form := multipart.NewWriter(send)
	digest := sha256.New()
	go func() {
		part, err := form.CreateFormFile("docFile", "scan.pdf")
		if err == nil {
			_, err = io.Copy(io.MultiWriter(part, digest), patterned(1, size))
		}
		if err == nil {
			err = form.Close()
		}
		send.CloseWithError(err)
	}()
	req, err := http.NewRequestWithContext(d.ctx(), http.MethodPost, d.w.URL("/oscar/documentManager/documentUpload.do"), body)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := d.Client.Do(req)
	if err != nil {
		return "", "", err
	}
	text, err := edgetest.ReadAll(resp)
	if err != nil {
		return "", "", err
	}
	var answer struct {
		Files []struct {
			Bytes  int64
			SHA256 string
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Files) != 1 {
		return "", "", fmt.Errorf("%s: %.300s", resp.Status, text)
	}
	return fmt.Sprint(answer.Files[0].Bytes, " ", answer.Files[0].SHA256), fmt.Sprint(size, " ", hex.EncodeToString(digest.Sum(nil))), nil
}

// download fetches a file and returns its digest and the one that the application names.
func (d doctor) download(query string) (got, want string) {
	d.t.Helper()
	want = strings.TrimSpace(d.open("/oscar/servlet/BackupDownload?digest=1&" + query))
	resp, err := d.Navigate(d.ctx(), d.w.URL("/oscar/servlet/BackupDownload?"+query))
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, resp.Body); err != nil {
		d.t.Fatal(err)
	}
	return hex.EncodeToString(digest.Sum(nil)), want
}

func TestADoctorWorksInOscar(t *testing.T) {
	transports(t, func(t *testing.T, noQUIC bool) {
		w, tomcat := oscarWorld(t, noQUIC)
		d := atWork(t, w)

		note := fmt.Sprintf("BP 120/80, seen %d", rand.Uint64())
		d.submit("/oscar/CaseManagementEntry.do", url.Values{"method": {"save"}, "demographicNo": {"1"}, "caseNote_note": {note}})
		if chart := d.open("/oscar/casemgmt/forward.jsp?demographicNo=1"); !strings.Contains(chart, note) {
			t.Errorf("the saved note is not in the chart:\n%.2000s", chart)
		}
		if got, want, err := d.upload(24 << 20); err != nil || got != want {
			t.Errorf("upload: application got %s, sent %s, %v", got, want, err)
		}
		if got, want := d.download("bytes=31457280"); got != want {
			t.Errorf("download: digest %s, want %s", got, want)
		}
		if got, want := d.download("bytes=9000000&chunked=1"); got != want {
			t.Errorf("download without a length: digest %s, want %s", got, want)
		}
		d.signOut()
		if resp, err := d.Fetch(d.ctx(), http.MethodGet, w.URL("/oscar/index.jsp"), nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("after sign-out: %v, %v", resp.Status, err)
		}
		if before := len(tomcat.AccessLog(t)); before == 0 {
			t.Error("the application's log shows nothing: the requests went elsewhere")
		}
	})
}

func (d doctor) signOut() {
	d.t.Helper()
	d.page(d.Submit(d.ctx(), d.w.URL("/.sallyport/sign-out"), url.Values{}))
}

// What the application receives is what it must have to work, and nothing that is ours.
func TestTheApplicationSeesTheBrowsersRequest(t *testing.T) {
	w, _ := oscarWorld(t, false)
	d := atWork(t, w)
	req, err := http.NewRequestWithContext(d.ctx(), http.MethodGet, w.URL("/oscar/echo/a%20b?demographic_no=1&demographic_no=2&x=%zz&includes[]=a;b"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Oscar-User": "admin", "True-Client-IP": "10.0.0.1",
		"X-Forwarded-Proto": "http", "X-Original-URL": "/oscar/admin", "X-Request-Id": "forged", "Sallyport-Assertion": "forged",
		"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Connection": "close, X-Forwarded-For, Sallyport-Assertion",
	} {
		req.Header.Set(name, value)
	}
	var seen struct {
		RequestURI, QueryString, ServerName, RemoteAddr string
		ServerPort                                      int
		Headers                                         [][2]string
	}
	one := edgetest.NewVisitor(edgetest.VisitorConfig{Edge: w.EdgeAddr(), Roots: w.Roots, HTTP1: true})
	t.Cleanup(one.Close)
	one.Client.Jar = d.Client.Jar
	text := d.page(one.Client.Do(req))
	if err := json.Unmarshal([]byte(text), &seen); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	header := map[string][]string{}
	for _, h := range seen.Headers {
		name := strings.ToLower(h[0])
		header[name] = append(header[name], h[1])
	}
	if seen.RequestURI != "/oscar/echo/a%20b" || seen.QueryString != "demographic_no=1&demographic_no=2&x=%zz&includes[]=a;b" {
		t.Errorf("target: %s ? %s", seen.RequestURI, seen.QueryString)
	}
	if seen.ServerName != edgetest.AppHost || seen.ServerPort != w.Port {
		t.Errorf("host: %s:%d", seen.ServerName, seen.ServerPort)
	}
	if seen.RemoteAddr == "127.0.0.1" {
		t.Error("the application was dialled from the address that its internal pages trust")
	}
	if got := header["x-forwarded-for"]; len(got) != 1 || got[0] != "127.0.0.1" {
		t.Errorf("X-Forwarded-For: %q, want the socket's address once", got)
	}
	if got := header["x-forwarded-proto"]; len(got) != 1 || got[0] != "https" {
		t.Errorf("X-Forwarded-Proto: %q", got)
	}
	for _, gone := range []string{"x-real-ip", "forwarded", "x-oscar-user", "true-client-ip", "x-original-url", "sallyport-access-token"} {
		if got, there := header[gone]; there {
			t.Errorf("%s reached the application: %q", gone, got)
		}
	}
	if got := strings.Join(header["sallyport-assertion"], ","); strings.Count(got, ".") != 2 {
		t.Errorf("Sallyport-Assertion: %q, want the edge's own", got)
	}
	if got := header["x-request-id"]; len(got) != 1 || got[0] == "forged" {
		t.Errorf("X-Request-Id: %q", got)
	}
	if got := strings.Join(header["cookie"], "; "); strings.Contains(strings.ToLower(got), "sallyport") || !strings.Contains(got, "JSESSIONID") {
		t.Errorf("Cookie: %q", got)
	}
}

// The application's logout expires every cookie that it is sent; the sign-in at the edge is none of its business.
func TestTheApplicationsLogoutLeavesTheSignInAlone(t *testing.T) {
	w, _ := oscarWorld(t, false)
	d := atWork(t, w)
	d.open("/oscar/logout.do")
	if page := d.open("/oscar/index.jsp"); !strings.Contains(page, "Sign in") {
		t.Errorf("not the application's own log-in: %.300s", page)
	}
}

// Pages that trust the local address answer nobody through the tunnel, however they are written.
func TestInternalPagesAreClosed(t *testing.T) {
	w, tomcat := oscarWorld(t, false)
	d := atWork(t, w)
	before := len(tomcat.AccessLog(t))
	for _, path := range []string{"/oscar/LabViewForPdfGenerationServlet?segmentId=1", "/oscar/html2pdf", "/oscar/monitoring", "/oscar/WEB-INF/web.xml"} {
		resp, err := d.Navigate(d.ctx(), w.URL(path))
		if err != nil {
			t.Fatal(err)
		}
		if page, _ := edgetest.ReadAll(resp); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s: %.200s", path, resp.Status, page)
		}
	}
	if after := tomcat.AccessLog(t)[before:]; len(after) != 0 {
		t.Errorf("reached the application: %q", after)
	}
}

// A stranger is sent to sign in when a person asks, told so when a script or a form asks; the application never hears of it.
func TestWithoutASession(t *testing.T) {
	w, tomcat := oscarWorld(t, false)
	before := len(tomcat.AccessLog(t))
	v := w.Visitor()
	ctx := t.Context()
	resp, err := v.Navigate(ctx, w.URL("/oscar/casemgmt/forward.jsp?demographicNo=1"))
	if err != nil || !strings.HasPrefix(resp.Request.URL.Host, "signin.maple.localhost:") {
		t.Fatalf("a navigation: %v, %v", resp.Request.URL, err)
	}
	_ = resp.Body.Close()
	resp, err = v.Fetch(ctx, http.MethodPost, w.URL("/oscar/CaseManagementEntry.do"), strings.NewReader("method=autosave"))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := edgetest.ReadAll(resp)
	var answer map[string]string
	if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(answer["sign_in"], "/.sallyport/") {
		t.Errorf("a script: %s %s", resp.Status, text)
	}
	resp, err = v.Submit(ctx, w.URL("/oscar/CaseManagementEntry.do"), url.Values{"caseNote_note": {"half a note"}})
	if err != nil {
		t.Fatal(err)
	}
	page, _ := edgetest.ReadAll(resp)
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(page, "not") || resp.Request.URL.Path != "/oscar/CaseManagementEntry.do" {
		t.Errorf("a form: %s at %s: %.300s", resp.Status, resp.Request.URL, page)
	}
	if after := tomcat.AccessLog(t)[before:]; len(after) != 0 {
		t.Errorf("reached the application: %q", after)
	}
}

// Ranges, HEAD and conditional requests pass as they are.
func TestRangesAndHeads(t *testing.T) {
	w, _ := oscarWorld(t, false)
	d := atWork(t, w)
	ask := func(method, span string) *http.Response {
		req, err := http.NewRequestWithContext(d.ctx(), method, w.URL("/oscar/servlet/BackupDownload?bytes=1000"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if span != "" {
			req.Header.Set("Range", span)
		}
		resp, err := d.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	resp := ask(http.MethodGet, "bytes=100-149")
	part, _ := edgetest.ReadAll(resp)
	if resp.StatusCode != http.StatusPartialContent || len(part) != 50 || resp.Header.Get("Content-Range") != "bytes 100-149/1000" {
		t.Errorf("range: %s, %d bytes, %q", resp.Status, len(part), resp.Header.Get("Content-Range"))
	}
	resp = ask(http.MethodHead, "")
	if body, _ := edgetest.ReadAll(resp); resp.StatusCode != http.StatusOK || resp.ContentLength != 1000 || body != "" {
		t.Errorf("head: %s, length %d", resp.Status, resp.ContentLength)
	}
	if !strings.Contains(resp.Header.Get("Strict-Transport-Security"), "max-age=31536000") || resp.Header.Get("Server") != "" {
		t.Errorf("headers of the answer: %v", resp.Header)
	}
}
