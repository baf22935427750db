// Asks for alerts every few seconds, whether or not anybody is there.
(function poll() {
  var x = new XMLHttpRequest();
  x.open('GET', 'provider/tabAlertsRefresh.jsp?autoRefresh=true');
  x.onload = function () { document.getElementById('alerts').textContent = x.status === 200 ? x.responseText : ''; };
  x.send();
  setTimeout(poll, 5000);
})();
