package whatif

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Asked is a request that is put to two configurations.
type Asked struct {
	Request Request
	Who     *Credential // nil: nobody
	Label   string      // how people call it
}

// Change is a decision that differs between two configurations.
type Change struct {
	Asked  string `json:"request"`
	Before Told   `json:"before"`
	After  Told   `json:"after"`
	Opens  bool   `json:"opens"` // it was no allow, and is one now
}

// Told is a decision in short.
type Told struct {
	Decision string `json:"decision"`
	Rule     string `json:"rule,omitempty"`
	Reason   string `json:"reason"`
	Headers  string `json:"headers,omitempty"` // that the application receives
}

// Diff puts every request to both, and returns what changes: openings first, then what
// closes, then what is decided by another rule or with other headers.
func Diff(before, after *Model, asked []Asked) []Change {
	var changes []Change
	for _, a := range asked {
		was, is := told(before.Decide(a.Request, a.Who)), told(after.Decide(a.Request, a.Who))
		if was != is {
			changes = append(changes, Change{Asked: a.Label, Before: was, After: is, Opens: was.Decision != "allow" && is.Decision == "allow"})
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.weight(), b.weight()) })
	return changes
}

func (c Change) weight() int {
	switch {
	case c.Opens:
		return 0
	case c.Before.Decision != c.After.Decision:
		return 1
	}
	return 2
}

func told(d authz.Decision) Told {
	t := Told{Decision: Outcome(&d), Rule: d.Rule, Reason: d.Reason}
	var set []string
	for _, f := range d.Set {
		set = append(set, f.Name+": "+f.Value)
	}
	slices.Sort(set)
	t.Headers = strings.Join(set, "; ")
	return t
}

// Limits of a file of requests.
const (
	maxLine  = 1 << 20
	maxAsked = 1_000_000
)

// loggedRequest is a line of requests: of our access log, or written by hand.
type loggedRequest struct {
	Message  string            `json:"msg"`
	URL      string            `json:"url"`
	Method   string            `json:"method"`
	Host     string            `json:"host"`
	Path     string            `json:"path"`
	Headers  map[string]string `json:"headers"`
	Peer     string            `json:"principal"`
	Caller   string            `json:"caller"`
	Provider string            `json:"provider"`
	Bearer   bool              `json:"bearer"`
	Claims   json.RawMessage   `json:"claims"`
}

// ReadRequests reads JSON lines: {"url": …} with method, headers, provider, bearer and
// claims where they matter, or the lines of Gatehouse's own access log, which say
// method, host and path and are asked as by nobody. Lines of the log about anything else
// are skipped; the same request is asked once.
func ReadRequests(in io.Reader) ([]Asked, error) {
	var all []Asked
	seen := map[string]bool{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || seen[text] {
			continue
		}
		seen[text] = true
		a, ok, err := readRequest([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if !ok || seen["\x00"+a.Label] {
			continue
		}
		seen["\x00"+a.Label] = true
		if all = append(all, a); len(all) > maxAsked {
			return nil, fmt.Errorf("line %d: more than %d different requests", n, maxAsked)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read requests: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no request: write JSON lines such as {\"url\": \"https://app.example.com/\"}, or take an access log")
	}
	return all, nil
}

func readRequest(text []byte) (Asked, bool, error) {
	var l loggedRequest
	if err := json.Unmarshal(text, &l); err != nil {
		return Asked{}, false, errors.New("not a JSON object with a request")
	}
	if l.URL == "" {
		if l.Message != "" && l.Message != "check" || l.Host == "" && l.Message != "" {
			return Asked{}, false, nil // another line of the log
		}
		l.URL = "https://" + l.Host + l.Path
	}
	a := Asked{Request: Request{Method: l.Method, URL: l.URL, Peer: l.Peer}}
	if err := a.Request.Check(); err != nil {
		return Asked{}, false, err
	}
	for name, value := range l.Headers {
		a.Request.Header = append(a.Request.Header, authz.Field{Name: strings.ToLower(name), Value: value})
	}
	if l.Caller != "" && l.Caller != "navigation" && len(a.Request.Header) == 0 {
		a.Request.Header = authz.Header{{Name: "accept", Value: "*/*"}}
	}
	if len(l.Claims) > 0 {
		claims, err := authz.ParseClaims(l.Claims)
		if err != nil {
			return Asked{}, false, err
		}
		if l.Provider == "" {
			return Asked{}, false, errors.New("claims without provider: say which one issued them")
		}
		a.Who = &Credential{Provider: l.Provider, Bearer: l.Bearer, Claims: claims}
	}
	a.Label = label(&a, string(l.Claims))
	return a, true, nil
}

func label(a *Asked, claims string) string {
	method := a.Request.Method
	if method == "" {
		method = "GET"
	}
	text := method + " " + a.Request.URL
	if a.Who != nil {
		text += " as " + a.Who.Provider + " " + claims
	}
	if a.Request.Peer != "" {
		text += " from " + a.Request.Peer
	}
	return strings.Map(func(r rune) rune { // it goes to a terminal
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}
