package authz

// CookiePrefix begins the name of every cookie that Gatehouse sets. All of them
// are cut from what the application receives.
const CookiePrefix = "__Host-gh_"

// Cookies returns the values of every cookie called name, in order of
// appearance, at most max. Pairs are separated by ";" only; names are compared
// exactly; a malformed pair spoils nothing but itself.
func (h Header) Cookies(name string, max int) []string { panic("contract") }

// CookieNames returns the distinct names beginning with prefix, at most max.
func (h Header) CookieNames(prefix string, max int) []string { panic("contract") }
