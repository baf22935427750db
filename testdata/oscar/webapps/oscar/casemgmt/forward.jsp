<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<% if (session.getAttribute("user") == null) { response.sendRedirect(response.encodeRedirectURL(request.getContextPath() + "/index.jsp")); return; } %>
<%
  Clinic.Patient p = Clinic.patient(request.getParameter("demographicNo"));
  if (p == null) { response.sendError(404); return; }
%>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>E-chart: <%= Text.html(p.name()) %></title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body>
<nav><b>Maple Family Clinic</b> <a href="provider/providercontrol.jsp?displaymode=day">Schedule</a>
<a href="eform/efmshowform_data.jsp?fid=1&amp;demographic_no=<%= p.no() %>">Forms</a> <a href="logout.do">Log out</a></nav>
<main>
<h1 id="patient"><%= Text.html(p.name()) %></h1>
<p class="lead">Born <%= p.born() %></p>
<section id="notes">
<% for (Clinic.Note n : Clinic.notes(p)) { %>
<article class="note" data-id="<%= n.id() %>"><pre><%= Text.html(n.text()) %></pre><footer><%= Text.html(n.how()) %> by <%= Text.html(n.by()) %></footer></article>
<% } %>
</section>
<form id="note" method="post" action="CaseManagementEntry.do">
<input type="hidden" name="demographicNo" value="<%= p.no() %>">
<label>Note <textarea name="caseNote_note" rows="6" cols="70"></textarea></label>
<button name="method" value="save">Save</button>
<button name="method" value="saveAndExit">Save and exit</button>
<span id="saved" role="status"></span>
</form>
</main>
<script src="js/chart.js"></script>
</body>
</html>
