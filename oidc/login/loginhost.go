package login

// LoginHost returns the host that signs in for all others, if there is one.
func (l *Login) LoginHost() (Host, bool) {
	if l.loginSite == nil {
		return Host{}, false
	}
	return l.loginSite.Host, true
}
