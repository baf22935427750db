<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<% if (session.getAttribute("user") == null) { response.sendRedirect(response.encodeRedirectURL(request.getContextPath() + "/index.jsp")); return; } %>
<%
  String mode = request.getParameter("displaymode");
  // Writes come as GET as well: a link in the day sheet changes the status.
  if ("addstatus".equals(mode) && request.getParameter("appointment_no") != null) {
    Clinic.setStatus(Integer.parseInt(request.getParameter("appointment_no")), request.getParameter("status"));
  } else if (mode != null && !mode.equals("day") && !mode.equals("month")) {
    response.sendError(404);
    return;
  }
%>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>Day sheet</title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body>
<nav><b>Maple Family Clinic</b> <a href="provider/providercontrol.jsp?displaymode=day">Schedule</a>
<a href="demographic/demographiccontrol.jsp?displaymode=Search&amp;search_mode=search_name&amp;keyword=Test">Search</a>
<a href="documentManager/addDocument.jsp">Documents</a> <a href="servlet/BackupDownload">Backup</a>
<span id="alerts"></span> <a href="logout.do">Log out</a></nav>
<main>
<h1>Day sheet</h1>
<table>
<tr><th>Time</th><th>Patient</th><th>Status</th><th></th></tr>
<% int slot = 0; for (Clinic.Patient p : Clinic.PATIENTS.values()) { slot++; %>
<tr><td><%= 8 + slot %>:00</td>
<td><a href="demographic/demographiccontrol.jsp?demographic_no=<%= p.no() %>&amp;displaymode=edit&amp;dboperation=search_detail"><%= Text.html(p.name()) %></a></td>
<td><a href="provider/providercontrol.jsp?displaymode=addstatus&amp;appointment_no=<%= slot %>&amp;status=H" title="here"><%= Text.html(Clinic.status(slot)) %></a></td>
<td><a href="casemgmt/forward.jsp?demographicNo=<%= p.no() %>&amp;appointmentNo=<%= slot %>" target="chart<%= p.no() %>">E-chart</a></td></tr>
<% } %>
</table>
</main>
<script src="js/alerts.js"></script>
</body>
</html>
