<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<%
  String form = Clinic.form(request.getParameter("fid"));
  if (form == null) { response.sendError(404); return; }
%>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>Form</title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body>
<main>
<%-- Forms are HTML that users write, script included. --%>
<div id="form"><%= form %></div>
</main>
</body>
</html>
