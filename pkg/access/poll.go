package access

import "strings"

// isPoll recognises what OSCAR's pages fetch by themselves while nobody is there (facts: LoginFilter's own list of URLs
// that do not extend its time-out). Taking a person's request for a poll only ends a session sooner.
func isPoll(path, rawQuery string) bool {
	for _, suffix := range []string{"/provider/tabAlertsRefresh.jsp", "/SystemMessage.do", "/FacilityMessage.do"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	if !strings.Contains(rawQuery, "autoRefresh=true") {
		return false
	}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair == "autoRefresh=true" {
			return true
		}
	}
	return false
}
