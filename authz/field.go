package authz

import "unicode/utf8"

// Valid reports whether f may leave in a header list of ours: a lower-case
// token for a name (RFC 9110 section 5.6.2) that is neither a pseudo header nor
// one that frames or routes a message, and a value that is UTF-8 without
// control characters (section 5.5; tab is allowed). Both edges ask it of every
// line: a CR LF in a value would become a header, or a response, of its own.
func (f Field) Valid() bool {
	return ValidName(f.Name) && validValue(f.Value)
}

// ValidName reports whether a header called name may be set or removed by us.
func ValidName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if !fieldNameByte[name[i]] {
			return false
		}
	}
	switch name {
	case "host", "content-length", "transfer-encoding", "connection", "keep-alive",
		"proxy-connection", "te", "trailer", "upgrade":
		return false
	}
	return true
}

func validValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(value)
}

// fieldNameByte holds the bytes of a lower-case token.
var fieldNameByte = func() (set [256]bool) {
	const token = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
	for i := range len(token) {
		set[token[i]] = true
	}
	return set
}()
