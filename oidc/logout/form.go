package logout

import (
	"errors"
	"net/url"
	"strings"
)

// maxParams bounds the parameters of a query or form before any is decoded.
const maxParams = 64

var (
	errForm   = errors.New("malformed parameters")
	errAbsent = errors.New("parameter is missing")
	errTwice  = errors.New("parameter is there more than once")
)

// only returns the value of the one parameter of this name in form-encoded text. What
// else is there is ignored (OpenID Connect Back-Channel Logout 1.0 section 2.5), but
// must be well-formed: two readers could disagree about the rest otherwise.
func only(text, name string) (string, error) {
	if strings.Count(text, "&") >= maxParams {
		return "", errForm
	}
	value, err := "", errAbsent
	for pair := range strings.SplitSeq(text, "&") {
		key, v, _ := strings.Cut(pair, "=")
		key, errKey := url.QueryUnescape(key)
		v, errValue := url.QueryUnescape(v)
		switch {
		case errKey != nil || errValue != nil:
			return "", errForm
		case key != name:
		case err == nil:
			return "", errTwice
		default:
			value, err = v, nil
		}
	}
	return value, err
}
