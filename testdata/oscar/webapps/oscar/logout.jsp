<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>Signed out</title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body class="login">
<main>
<h1>Signed out</h1>
<p>You have left the record system. <a href="index.jsp">Sign in again</a></p>
</main>
</body>
</html>
