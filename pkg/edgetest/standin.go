package edgetest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// StandIn returns a handler that answers like testdata/oscar, for tests in which only HTTP matters, and for the demo where
// Tomcat cannot be had. It stands in for nothing that Tomcat's parsing decides: paths, parameters, context, session ids in
// addresses. Each handler has records of its own.
func StandIn() http.Handler {
	s := &standIn{
		users: map[string]bool{}, notes: map[string][]standInNote{}, counts: map[string]int{}, status: map[string]string{},
		forms: map[string]string{"1": `<p>Blood pressure <input name="bp"></p><script>document.title = 'form ready';</script>`},
	}
	s.routes = map[string]http.HandlerFunc{
		"/": s.index, "/index.jsp": s.index, "/login.do": s.login, "/logout.do": s.logout, "/logout.jsp": s.signedOut,
		"/provider/providercontrol.jsp": s.daySheet, "/provider/tabAlertsRefresh.jsp": s.alerts, "/provider/provideraddstatus.jsp": s.addStatus,
		"/demographic/demographiccontrol.jsp": s.patient, "/casemgmt/forward.jsp": s.chart, "/CaseManagementEntry.do": s.note,
		"/eform/efmshowform_data.jsp": s.showForm, "/eform/addEForm.do": s.addForm,
		"/documentManager/addDocument.jsp": s.uploadPage, "/documentManager/documentUpload.do": s.upload,
		"/servlet/BackupDownload": download, "/report/slowReport.do": slowReport,
		"/LabViewForPdfGenerationServlet": s.localOnly, "/html2pdf": s.localOnly, "/monitoring": s.localOnly,
		"/wire/redirect": redirect, "/wire/cookies": setCookies, "/wire/gzip": packed, "/wire/trailers": trailers, "/wire/hints": hints,
		"/wire/broken": broken, "/wire/status": status, "/wire/counts": s.showCounts,
		"/css/oscar.css": asset("webapps/oscar/css/oscar.css"), "/js/chart.js": asset("webapps/oscar/js/chart.js"), "/js/alerts.js": asset("webapps/oscar/js/alerts.js"),
		"/socket/echo": echoSocket,
	}
	return s
}

const standInContext = "/oscar"

type standIn struct {
	routes map[string]http.HandlerFunc

	mu     sync.Mutex // guards what follows
	users  map[string]bool
	notes  map[string][]standInNote
	counts map[string]int
	status map[string]string
	forms  map[string]string
}

type standInNote struct {
	ID        int
	Text, How string
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, standInContext)
	switch {
	case !ok:
		http.NotFound(w, r)
	case path == "":
		w.Header().Set("Location", standInContext+"/")
		w.WriteHeader(http.StatusFound)
	case strings.HasPrefix(path, "/echo"), strings.HasPrefix(path, "/ws/"):
		echo(w, r)
	default:
		if handle := s.routes[path]; handle != nil {
			handle(w, r)
			return
		}
		http.NotFound(w, r)
	}
}

func (s *standIn) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
	return s.counts[what]
}

func (s *standIn) showCounts(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]int{}
	for _, what := range []string{"writes", "notes", "logins", "uploadsBegun", "uploads", "localOnly", "polls"} {
		counts[what] = s.counts[what]
	}
	writeJSON(w, counts)
}

func (s *standIn) signedIn(r *http.Request) bool {
	c, err := r.Cookie("JSESSIONID")
	s.mu.Lock()
	defer s.mu.Unlock()
	return err == nil && s.users[c.Value]
}

// gate sends whoever has not signed in to the login page.
func (s *standIn) gate(w http.ResponseWriter, r *http.Request) bool {
	if s.signedIn(r) {
		return true
	}
	found(w, "/index.jsp")
	return false
}

func (s *standIn) login(w http.ResponseWriter, r *http.Request) {
	good := r.Method == http.MethodPost && r.FormValue("username") == "oscardoc" && r.FormValue("password") == "mac2002" && r.FormValue("pin") == "1117"
	if good {
		s.count("logins")
		session := rand.Text()
		s.mu.Lock()
		s.users[session] = true
		s.mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: session, Path: standInContext, HttpOnly: true, Secure: r.TLS != nil})
	}
	switch {
	case r.FormValue("ajaxResponse") == "true":
		w.Header().Set("Content-Type", "text/x-json;charset=UTF-8")
		fmt.Fprintf(w, `{"success":%t}`, good)
	case good:
		found(w, "/provider/providercontrol.jsp?displaymode=day")
	default:
		found(w, "/index.jsp?login=failed")
	}
}

func (s *standIn) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie("JSESSIONID"); err == nil {
		s.mu.Lock()
		delete(s.users, c.Value)
		s.mu.Unlock()
	}
	for _, c := range r.Cookies() {
		http.SetCookie(w, &http.Cookie{Name: c.Name, Path: "/", MaxAge: -1})
	}
	found(w, "/logout.jsp")
}

func (s *standIn) note(w http.ResponseWriter, r *http.Request) {
	if !s.signedIn(r) {
		found(w, "/logout.jsp")
		return
	}
	no, how := r.FormValue("demographicNo"), r.FormValue("method")
	if patients[no] == "" {
		http.Error(w, "no such patient", http.StatusBadRequest)
		return
	}
	switch how {
	case "save", "saveAndExit":
		how = "saved"
		if r.FormValue("sign") == "on" {
			how = "signed"
		}
		s.save(no, r.FormValue("caseNote_note"), how)
		found(w, "/casemgmt/forward.jsp?demographicNo="+no)
	case "autosave", "ajaxsave":
		writeJSON(w, map[string]int{"saved": s.save(no, r.FormValue("caseNote_note"), "autosave")})
	case "displayNotes":
		found(w, "/casemgmt/forward.jsp?demographicNo="+no)
	default:
		http.Error(w, "no such method", http.StatusBadRequest)
	}
}

func (s *standIn) save(no, text, how string) int {
	id := s.count("notes")
	s.mu.Lock()
	defer s.mu.Unlock()
	notes := s.notes[no]
	if n := len(notes); how == "autosave" && n > 0 && notes[n-1].How == "autosave" {
		notes = notes[:n-1]
	}
	s.notes[no] = append(notes, standInNote{id, text, how})
	return id
}

func (s *standIn) addStatus(w http.ResponseWriter, r *http.Request) {
	s.setStatus(r)
	fmt.Fprintln(w, "status", strconv.Quote(r.FormValue("status")))
}

func (s *standIn) setStatus(r *http.Request) {
	s.count("writes")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[r.FormValue("appointment_no")] = r.FormValue("status")
}

func (s *standIn) alerts(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "%d alerts\n", s.count("polls"))
}

func (s *standIn) localOnly(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") && !strings.HasPrefix(r.RemoteAddr, "[::1]:") {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	s.count("localOnly")
	fmt.Fprintln(w, "local only: everything about everybody")
}

// found redirects to a page of the application, with a relative reference as Tomcat sends it.
func found(w http.ResponseWriter, page string) {
	w.Header().Set("Location", standInContext+page)
	w.WriteHeader(http.StatusFound)
}
