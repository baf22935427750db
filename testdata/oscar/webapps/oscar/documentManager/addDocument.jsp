<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" %>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="<%= Text.base(request) %>">
<title>Documents</title>
<link rel="stylesheet" href="css/oscar.css">
</head>
<body>
<nav><b>Maple Family Clinic</b> <a href="provider/providercontrol.jsp?displaymode=day">Schedule</a></nav>
<main>
<h1>Add a document</h1>
<form method="post" enctype="multipart/form-data" action="documentManager/documentUpload.do">
<label>Description <input name="docDesc"></label>
<label>File <input type="file" name="docFile"></label>
<button type="submit">Upload</button>
</form>
</main>
</body>
</html>
