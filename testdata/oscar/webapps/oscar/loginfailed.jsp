<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>Sign-in failed</title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body class="login">
<main>
<h1>Sign-in failed</h1>
<p>The record system did not let you in. <a href="index.jsp">Sign in again</a></p>
</main>
</body>
</html>
