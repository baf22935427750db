<%@ page contentType="text/plain; charset=UTF-8" import="oscar.*" session="false" %><%
  // Runs, and writes, for HEAD as for GET.
  Clinic.setStatus(Integer.parseInt(request.getParameter("appointment_no")), request.getParameter("status"));
%>status <%= Text.html(request.getParameter("status")) %>
