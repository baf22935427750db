<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>OSCAR-like EMR</title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body class="login">
<main>
<h1>Maple Family Clinic</h1>
<p class="lead">Electronic medical record</p>
<% if ("failed".equals(request.getParameter("login"))) { %><p class="fault" role="alert">User name, password or PIN is wrong, or this address is locked.</p><% } %>
<form method="post" action="<%= response.encodeURL("login.do") %>">
<label>User name <input name="username" autocomplete="username" autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<label>PIN <input name="pin" inputmode="numeric" autocomplete="off"></label>
<button type="submit" name="submit" value="Login">Sign in</button>
</form>
<p class="hint">Test system, no real patients. User <b>oscardoc</b>, password <b>mac2002</b>, PIN <b>1117</b>.
<a href="<%= response.encodeURL("index.jsp?help=1") %>">Help</a></p>
</main>
</body>
</html>
