package doctor

import "crypto/tls"

// unjudged completes TLS with whoever answers, so that what is wrong with the certificate can be said in words: verify judges
// it afterwards. Nothing that matters is sent on such a connection, and nothing from it is believed but the time, for advice.
func unjudged(conf *tls.Config) *tls.Config {
	conf = conf.Clone()
	conf.InsecureSkipVerify, conf.VerifyConnection = true, nil
	return conf
}
