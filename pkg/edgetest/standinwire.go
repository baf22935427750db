package edgetest

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// Backup is the content of servlet/BackupDownload, here and on Tomcat: each eight bytes are splitmix64 of their number, low
// byte first. Any part of any size can be made.
type Backup int64

// BackupBytes is the default size: 300 MiB.
const BackupBytes Backup = 300 << 20

// ReadAt fills p with the content from offset off.
func (b Backup) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), int64(b)-off)
	if n <= 0 {
		return 0, io.EOF
	}
	var word [8]byte
	for i := int64(0); i < n; {
		binary.LittleEndian.PutUint64(word[:], splitmix(uint64(off+i)>>3))
		i += int64(copy(p[i:n], word[(off+i)&7:]))
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// SHA256 returns the digest of the whole content, in hexadecimal.
func (b Backup) SHA256() string {
	h := sha256.New()
	_, _ = io.Copy(h, io.NewSectionReader(b, 0, int64(b)))
	return hex.EncodeToString(h.Sum(nil))
}

func splitmix(i uint64) uint64 {
	z := (i + 1) * 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func download(w http.ResponseWriter, r *http.Request) {
	b := BackupBytes
	if text := r.FormValue("bytes"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			http.Error(w, "bytes", http.StatusBadRequest)
			return
		}
		b = Backup(n)
	}
	content := io.NewSectionReader(b, 0, int64(b))
	switch {
	case r.FormValue("digest") == "1":
		fmt.Fprintln(w, b.SHA256())
	case r.FormValue("chunked") == "1":
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.Copy(w, content)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", `attachment; filename="backup.bin"`)
		w.Header().Set("ETag", fmt.Sprintf(`"backup-%d"`, b))
		http.ServeContent(w, r, "", time.Time{}, content)
	}
}

func (s *standIn) upload(w http.ResponseWriter, r *http.Request) {
	s.count("uploadsBegun")
	parts, err := r.MultipartReader()
	if err != nil {
		http.Error(w, "no multipart form", http.StatusBadRequest)
		return
	}
	type file struct {
		Name   string `json:"name"`
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
	}
	files, fields := []file{}, map[string]string{}
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return // the client broke off
		}
		if part.FileName() == "" {
			text, _ := io.ReadAll(io.LimitReader(part, 64<<10))
			fields[part.FormName()] = string(text)
			continue
		}
		h := sha256.New()
		n, err := io.Copy(h, part)
		if err != nil {
			return
		}
		files = append(files, file{part.FileName(), n, hex.EncodeToString(h.Sum(nil))})
	}
	s.count("uploads")
	writeJSON(w, map[string]any{"files": files, "fields": fields})
}

func slowReport(w http.ResponseWriter, r *http.Request) {
	seconds := 200.0
	if text := r.FormValue("seconds"); text != "" {
		seconds, _ = strconv.ParseFloat(text, 64)
	}
	w.Header().Set("Content-Type", "text/html;charset=UTF-8")
	end := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer end.Stop()
	rows := time.NewTicker(time.Second)
	defer rows.Stop()
	for row := 1; ; row++ {
		if r.FormValue("rows") == "1" {
			fmt.Fprintf(w, "<p>row %d</p>\n", row)
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-end.C:
			fmt.Fprintln(w, `<p id="done">Report complete.</p>`)
			return
		case <-r.Context().Done():
			return
		case <-rows.C:
		}
	}
}

// echo answers with what arrived; the parts that only Tomcat knows (application, servlet path) are left out.
func echo(w http.ResponseWriter, r *http.Request) {
	uri, _, _ := strings.Cut(r.RequestURI, "?")
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = r.Host, map[bool]string{true: "443", false: "80"}[r.TLS != nil]
	}
	number, _ := strconv.Atoi(port)
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	headers := [][2]string{{"host", r.Host}}
	for name, values := range r.Header {
		for _, v := range values {
			headers = append(headers, [2]string{strings.ToLower(name), v})
		}
	}
	_ = r.ParseForm()
	h := sha256.New()
	n, _ := io.Copy(h, r.Body)
	trailer := map[string]string{}
	for name := range r.Trailer {
		trailer[strings.ToLower(name)] = r.Trailer.Get(name)
	}
	writeJSON(w, map[string]any{
		"method": r.Method, "protocol": r.Proto, "requestURI": uri, "queryString": r.URL.RawQuery, "contextPath": standInContext,
		"scheme": map[bool]string{true: "https", false: "http"}[r.TLS != nil], "serverName": host, "serverPort": number,
		"remoteAddr": remote, "secure": r.TLS != nil, "headers": headers, "parameters": r.Form,
		"bodyBytes": n, "bodySHA256": hex.EncodeToString(h.Sum(nil)), "trailers": trailer,
	})
}

func redirect(w http.ResponseWriter, r *http.Request) {
	page := standInContext + "/index.jsp?from=redirect"
	to := map[string]string{
		"absolute": map[bool]string{true: "https://", false: "http://"}[r.TLS != nil] + r.Host + page, "private": "http://10.20.30.40:8080" + page,
		"localhost": "http://localhost:8080" + page, "outside-context": "/loginfailed.jsp", "foreign": "https://elsewhere.example/", "slashes": "//elsewhere.example/",
	}[r.FormValue("kind")]
	if to == "" {
		to = page
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

func setCookies(w http.ResponseWriter, _ *http.Request) {
	for _, line := range []string{
		"first=1; Path=/oscar", "second=1; Path=/oscar", "third=1; Path=/oscar", "wide=1; Domain=maple.localhost; Path=/",
		"__Host-Http-sallyport=planted; Path=/; Secure; HttpOnly", "__Host-sallyport=planted; Path=/; Secure",
	} {
		w.Header().Add("Set-Cookie", line)
	}
	fmt.Fprintln(w, "cookies set")
}

func packed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Vary", "Accept-Encoding")
	z := gzip.NewWriter(w)
	_, _ = io.WriteString(z, strings.Repeat("packed by the origin\n", 1000))
	_ = z.Close()
}

func trailers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Checksum")
	fmt.Fprintln(w, "a body with a trailer")
	w.Header().Set("X-Checksum", "c0ffee")
}

func hints(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</oscar/css/oscar.css>; rel=preload; as=style")
	w.WriteHeader(http.StatusEarlyHints)
	fmt.Fprintln(w, "after the hints")
}

func broken(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.Atoi(r.FormValue("after"))
	if r.FormValue("chunked") != "1" {
		w.Header().Set("Content-Length", r.FormValue("bytes"))
	}
	_, _ = w.Write(make([]byte, after))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.FormValue("code"))
	if err != nil || code < 200 || code > 599 {
		code = http.StatusBadRequest
	}
	w.WriteHeader(code)
}

// echoSocket sends back what it gets, text as text and bytes as bytes.
func echoSocket(w http.ResponseWriter, r *http.Request) {
	type frame struct {
		kind byte
		data []byte
	}
	codec := websocket.Codec{
		Marshal:   func(v any) ([]byte, byte, error) { f := v.(*frame); return f.data, f.kind, nil },
		Unmarshal: func(data []byte, kind byte, v any) error { *v.(*frame) = frame{kind, data}; return nil },
	}
	websocket.Server{Handler: func(c *websocket.Conn) {
		for {
			var f frame
			if codec.Receive(c, &f) != nil || (f.kind == websocket.TextFrame && string(f.data) == "close") {
				return
			}
			if codec.Send(c, &f) != nil {
				return
			}
		}
	}}.ServeHTTP(w, r)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v)
}
