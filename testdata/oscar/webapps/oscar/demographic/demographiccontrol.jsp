<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<% if (session.getAttribute("user") == null) { response.sendRedirect(response.encodeRedirectURL(request.getContextPath() + "/index.jsp")); return; } %>
<%
  String mode = request.getParameter("displaymode");
  Clinic.Patient chosen = Clinic.patient(request.getParameter("demographic_no"));
  if (mode == null) { response.sendError(404); return; }
%>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>Patients</title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body>
<nav><b>Maple Family Clinic</b> <a href="provider/providercontrol.jsp?displaymode=day">Schedule</a></nav>
<main>
<% if (mode.equals("Search")) { %>
<h1>Search results</h1>
<ul>
<% for (Clinic.Patient p : Clinic.PATIENTS.values()) {
     if (request.getParameter("keyword") == null || p.name().startsWith(request.getParameter("keyword"))) { %>
<li><a href="demographic/demographiccontrol.jsp?demographic_no=<%= p.no() %>&amp;displaymode=edit"><%= Text.html(p.name()) %></a></li>
<% } } %>
</ul>
<% } else if (mode.equals("Search ")) { %>
<h1>Search for an appointment</h1>
<% } else if (mode.equals("edit") && chosen != null) { %>
<h1><%= Text.html(chosen.name()) %></h1>
<dl><dt>Born</dt><dd><%= chosen.born() %></dd><dt>Phone</dt><dd><%= chosen.phone() %></dd></dl>
<form method="post" action="demographic/demographiccontrol.jsp">
<input type="hidden" name="demographic_no" value="<%= chosen.no() %>">
<button name="displaymode" value="Update Record">Update record</button>
</form>
<p><a href="casemgmt/forward.jsp?demographicNo=<%= chosen.no() %>">E-chart</a></p>
<% } else if (mode.equals("Update Record") && chosen != null) { Clinic.count("writes"); %>
<h1>Record updated</h1>
<% } else { response.setStatus(404); %>
<h1>No such page</h1>
<% } %>
</main>
</body>
</html>
