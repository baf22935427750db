package wire

// visible reports whether s holds only visible ASCII and has at most limit bytes.
func visible(s string, limit int) bool {
	if len(s) > limit {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i]-'!' > '~'-'!' { // one comparison: assertions are long
			return false
		}
	}
	return true
}

// without reports whether s has at most limit bytes, no control character, no blank and none of the bytes in forbidden;
// bytes from 0x80 up are allowed.
func without(s string, limit int, forbidden string) bool {
	if len(s) > limit {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
		for j := 0; j < len(forbidden); j++ {
			if s[i] == forbidden[j] {
				return false
			}
		}
	}
	return true
}
