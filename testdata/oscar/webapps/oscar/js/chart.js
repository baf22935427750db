// Saves what is being typed, as a draft, two seconds after the last key.
(function () {
  var form = document.getElementById('note');
  var text = form.elements.caseNote_note;
  var saved = document.getElementById('saved');
  var timer;
  text.addEventListener('input', function () {
    clearTimeout(timer);
    timer = setTimeout(function () {
      var x = new XMLHttpRequest();
      x.open('POST', 'CaseManagementEntry.do');
      x.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
      x.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
      x.onload = function () { saved.textContent = x.status === 200 ? 'draft saved' : 'draft not saved (' + x.status + ')'; };
      x.onerror = function () { saved.textContent = 'draft not saved'; };
      x.send('method=autosave&demographicNo=' + form.elements.demographicNo.value + '&caseNote_note=' + encodeURIComponent(text.value));
    }, 2000);
  });
})();
