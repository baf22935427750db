package edgetest

import (
	"fmt"
	"html/template"
	"net/http"
	"path/filepath"
	"strings"
)

var patients = map[string]string{"1": "Test, Alder", "2": "Test, Birch", "3": "Test, Cedar"}

var standInPages = template.Must(template.New("pages").Parse(`
{{define "top"}}<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><base href="{{.Base}}"><title>{{.Title}}</title><link rel="stylesheet" href="css/oscar.css"></head>
<body{{if .Narrow}} class="login"{{end}}>
{{if not .Narrow}}<nav><b>Maple Family Clinic</b> <a href="provider/providercontrol.jsp?displaymode=day">Schedule</a>
<a href="documentManager/addDocument.jsp">Documents</a> <a href="servlet/BackupDownload">Backup</a> <span id="alerts"></span> <a href="logout.do">Log out</a></nav>{{end}}
<main>
{{end}}{{define "end"}}</main>
</body>
</html>
{{end}}
{{define "index"}}{{template "top" .}}<h1>Maple Family Clinic</h1>
<p class="lead">Electronic medical record (stand-in)</p>
{{if .Failed}}<p class="fault" role="alert">User name, password or PIN is wrong.</p>{{end}}
<form method="post" action="login.do">
<label>User name <input name="username" autocomplete="username" autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<label>PIN <input name="pin" inputmode="numeric" autocomplete="off"></label>
<button type="submit" name="submit" value="Login">Sign in</button>
</form>
<p class="hint">Test system, no real patients. User <b>oscardoc</b>, password <b>mac2002</b>, PIN <b>1117</b>.</p>
{{template "end"}}{{end}}
{{define "out"}}{{template "top" .}}<h1>Signed out</h1>
<p>You have left the record system. <a href="index.jsp">Sign in again</a></p>
{{template "end"}}{{end}}
{{define "day"}}{{template "top" .}}<h1>Day sheet</h1>
<table><tr><th>Patient</th><th>Status</th><th></th></tr>
{{range $no, $name := .Patients}}<tr><td><a href="demographic/demographiccontrol.jsp?demographic_no={{$no}}&amp;displaymode=edit">{{$name}}</a></td>
<td><a href="provider/providercontrol.jsp?displaymode=addstatus&amp;appointment_no={{$no}}&amp;status=H">{{with index $.Status $no}}{{.}}{{else}}t{{end}}</a></td>
<td><a href="casemgmt/forward.jsp?demographicNo={{$no}}" target="chart{{$no}}">E-chart</a></td></tr>
{{end}}</table>
<script src="js/alerts.js"></script>
{{template "end"}}{{end}}
{{define "patient"}}{{template "top" .}}<h1>{{.Heading}}</h1>
{{range $no, $name := .Patients}}<p><a href="demographic/demographiccontrol.jsp?demographic_no={{$no}}&amp;displaymode=edit">{{$name}}</a></p>
{{end}}{{with .No}}<form method="post" action="demographic/demographiccontrol.jsp"><input type="hidden" name="demographic_no" value="{{.}}">
<button name="displaymode" value="Update Record">Update record</button></form>
<p><a href="casemgmt/forward.jsp?demographicNo={{.}}">E-chart</a></p>{{end}}
{{template "end"}}{{end}}
{{define "chart"}}{{template "top" .}}<h1 id="patient">{{.Heading}}</h1>
<section id="notes">
{{range .Notes}}<article class="note" data-id="{{.ID}}"><pre>{{.Text}}</pre><footer>{{.How}} by oscardoc</footer></article>
{{end}}</section>
<form id="note" method="post" action="CaseManagementEntry.do">
<input type="hidden" name="demographicNo" value="{{.No}}">
<label>Note <textarea name="caseNote_note" rows="6" cols="70"></textarea></label>
<button name="method" value="save">Save</button> <button name="method" value="saveAndExit">Save and exit</button>
<span id="saved" role="status"></span>
</form>
<script src="js/chart.js"></script>
{{template "end"}}{{end}}
{{define "form"}}{{template "top" .}}<div id="form">{{.Form}}</div>
{{template "end"}}{{end}}
{{define "upload"}}{{template "top" .}}<h1>Add a document</h1>
<form method="post" enctype="multipart/form-data" action="documentManager/documentUpload.do">
<label>Description <input name="docDesc"></label> <label>File <input type="file" name="docFile"></label>
<button type="submit">Upload</button></form>
{{template "end"}}{{end}}`))

// standInPage is what the templates show.
type standInPage struct {
	Base, Title, Heading, No string
	Narrow, Failed           bool
	Patients, Status         map[string]string
	Notes                    []standInNote
	Form                     template.HTML
}

func show(w http.ResponseWriter, r *http.Request, name string, p standInPage) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	p.Base = fmt.Sprintf("%s://%s%s/", scheme, r.Host, standInContext)
	w.Header().Set("Content-Type", "text/html;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-cache, no-store")
	_ = standInPages.ExecuteTemplate(w, name, p)
}

func (s *standIn) index(w http.ResponseWriter, r *http.Request) {
	show(w, r, "index", standInPage{Title: "OSCAR-like EMR", Narrow: true, Failed: r.FormValue("login") == "failed"})
}

func (s *standIn) signedOut(w http.ResponseWriter, r *http.Request) {
	show(w, r, "out", standInPage{Title: "Signed out", Narrow: true})
}

func (s *standIn) daySheet(w http.ResponseWriter, r *http.Request) {
	if !s.gate(w, r) {
		return
	}
	switch r.FormValue("displaymode") {
	case "addstatus":
		s.setStatus(r)
	case "", "day", "month":
	default:
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	show(w, r, "day", standInPage{Title: "Day sheet", Patients: patients, Status: s.status})
}

func (s *standIn) patient(w http.ResponseWriter, r *http.Request) {
	if !s.gate(w, r) {
		return
	}
	no := r.FormValue("demographic_no")
	page := standInPage{Title: "Patients", Heading: patients[no]}
	switch mode := r.FormValue("displaymode"); {
	case mode == "Search":
		page.Heading, page.Patients = "Search results", map[string]string{}
		for no, name := range patients {
			if strings.HasPrefix(name, r.FormValue("keyword")) {
				page.Patients[no] = name
			}
		}
	case mode == "Search ":
		page.Heading = "Search for an appointment"
	case mode == "edit" && page.Heading != "":
		page.No = no
	case mode == "Update Record" && page.Heading != "":
		s.count("writes")
		page.Heading = "Record updated"
	default:
		http.NotFound(w, r)
		return
	}
	show(w, r, "patient", page)
}

func (s *standIn) chart(w http.ResponseWriter, r *http.Request) {
	if !s.gate(w, r) {
		return
	}
	no := r.FormValue("demographicNo")
	if patients[no] == "" {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	notes := append([]standInNote(nil), s.notes[no]...)
	s.mu.Unlock()
	show(w, r, "chart", standInPage{Title: "E-chart: " + patients[no], Heading: patients[no], No: no, Notes: notes})
}

func (s *standIn) showForm(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	form, ok := s.forms[r.FormValue("fid")]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	show(w, r, "form", standInPage{Title: "Form", Form: template.HTML(form)}) // verbatim: what users write runs
}

func (s *standIn) addForm(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("fid")
	if id == "" || !r.Form.Has("formHtml") {
		http.Error(w, "fid and formHtml are wanted", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.forms[id] = r.FormValue("formHtml")
	s.mu.Unlock()
	found(w, "/eform/efmshowform_data.jsp?fid="+template.URLQueryEscaper(id))
}

func (s *standIn) uploadPage(w http.ResponseWriter, r *http.Request) {
	show(w, r, "upload", standInPage{Title: "Documents"})
}

// asset serves a file that the application on Tomcat has as well.
func asset(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(repository(), "testdata", "oscar", name))
	}
}
