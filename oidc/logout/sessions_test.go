package logout_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/logout"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// element is one element of a page with all its text.
type element struct {
	name string
	attr map[string]string
	text string
}

// parse reads a page as HTML and returns its elements in the order of their beginnings.
func parse(t *testing.T, page []byte) []*element {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(page)))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var all, open []*element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			if len(open) != 0 {
				t.Errorf("%d elements are not closed", len(open))
			}
			return all
		}
		if err != nil {
			t.Fatalf("the page does not parse: %v\n%s", err, page)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attr: map[string]string{}}
			for _, a := range token.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			all, open = append(all, e), append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, e := range open {
				e.text += string(token)
			}
		}
	}
}

func find(all []*element, name string) (found []*element) {
	for _, e := range all {
		if e.name == name {
			found = append(found, e)
		}
	}
	return found
}

// list loads the page of sign-ins.
func (b *browser) list() ([]*element, string) {
	b.w.t.Helper()
	out := b.send("GET", mine, navigate)
	if out.Status != http.StatusOK {
		b.w.t.Fatalf("GET sessions = %d\n%s", out.Status, out.Body)
	}
	return parse(b.w.t, out.Body), string(out.Body)
}

// button returns where the form sends whose button holds text.
func button(all []*element, text string) string {
	for i, e := range all {
		if e.name == "form" && strings.Contains(e.text, text) && all[i].attr["method"] == "post" {
			return e.attr["action"]
		}
	}
	return ""
}

func TestSessionsPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	phone := w.browser()
	phone.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 Version/18.0 Mobile/15E148 Safari/604.1"
	phone.open(mine)
	b := w.signedIn(mine)
	page, text := b.list()
	w.clean(text)
	rows := find(page, "tr")[1:]
	if len(rows) != 2 || !strings.Contains(rows[0].text, "Firefox on Linux") || !strings.Contains(rows[0].text, "This one") ||
		!strings.Contains(rows[1].text, "Safari on iPhone") || strings.Contains(rows[1].text, "This one") || !strings.Contains(rows[1].text, "192.0.2.7") {
		t.Errorf("rows %+v\n%s", rows, text)
	}
	// Accessible: one heading of the page, a named table, scopes, named buttons.
	if len(find(page, "h1")) != 1 || len(find(page, "h2")) != 1 || len(find(page, "caption")) != 1 || find(page, "html")[0].attr["lang"] == "" {
		t.Errorf("headings or caption are missing:\n%s", text)
	}
	for _, th := range find(page, "th") {
		if th.attr["scope"] == "" || strings.TrimSpace(th.text) == "" {
			t.Errorf("th without scope or text: %+v", th)
		}
	}
	seen := map[string]bool{}
	for _, e := range find(page, "button") {
		if name := strings.Join(strings.Fields(e.text), " "); seen[name] || name == "" {
			t.Errorf("two buttons are called %q", name)
		} else {
			seen[name] = true
		}
	}
	for _, e := range find(page, "time") {
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`).MatchString(e.attr["datetime"]) || !strings.HasSuffix(e.text, "UTC") {
			t.Errorf("time %+v", e)
		}
	}
	if !w.logged("sessions_shown", `"subject":"alice"`, `"sign_ins":2`, `"client":"192.0.2.7"`) {
		t.Errorf("not in the log:\n%s", w.log)
	}
}

func TestSessionsPageIsOnTheLoginHostOnly(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		w := newWorld(t, own)
		b := w.signedIn(appHost + "/x")
		for _, path := range []string{"sessions", "sessions/data", "sessions/end", "sessions/end_others", "sessions/erase"} {
			if out := b.send("GET", appHost+"/oauth2/"+path, navigate); out.Status != http.StatusNotFound {
				t.Errorf("%s on an application's host = %d, want 404 (login host %v)", path, out.Status, own)
			}
		}
	}
}

// Who is not signed in is led through the login and back to the page.
func TestSessionsPageSignsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.browser()
	out := b.send("GET", mine, navigate)
	if out.Status != http.StatusFound || !strings.HasPrefix(field(*out, "location"), "/oauth2/start?") {
		t.Fatalf("not signed in = %d %q", out.Status, field(*out, "location"))
	}
	if last, page := b.open(mine); last != mine || page == nil || page.Status != 200 {
		t.Errorf("the login ends at %s", last)
	}
	program := w.browser().send("GET", mine, []authz.Field{{Name: "accept", Value: "application/json"}})
	if program.Status != http.StatusUnauthorized || field(*program, "www-authenticate") == "" {
		t.Errorf("a program = %d %v", program.Status, program.Header)
	}
	for _, rd := range []string{"/oauth2/sign_out", "/oauth2/sessions/erase", "/oauth2/sessions?x", "/oauth2/sessions/", "//evil.test"} {
		c := w.browser()
		if last, _ := c.open(ownHost + "/oauth2/start?rd=" + url.QueryEscape(rd)); strings.HasSuffix(last, rd) {
			t.Errorf("start?rd=%s ends at %s", rd, last) // O6
		}
	}
	if last, _ := w.browser().open(appHost + "/oauth2/start?rd=/oauth2/sessions"); last != appHost+"/" {
		t.Errorf("an application's start leads to %s, want /", last)
	}
}

func TestEndOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	other, b := w.signedIn(mine), w.signedIn(mine)
	page, _ := b.list()
	end := button(page, "End the sign-in on")
	if end == "" {
		t.Fatal("no button ends the other one")
	}
	out := b.send("POST", ownHost+end, submit(ownHost))
	if out.Status != 303 || field(*out, "location") != "/oauth2/sessions" || field(*out, "set-cookie") != "" || other.alive(mine) || !b.alive(mine) {
		t.Errorf("end = %d; other alive %v, own %v", out.Status, other.alive(mine), b.alive(mine))
	}
	if !w.logged("session_ended", `"subject":"alice"`, `"target":`, `"ended":1`, `"client":"192.0.2.7"`, "req-1") {
		t.Errorf("not in the log:\n%s", w.log)
	}
	if again := b.send("POST", ownHost+end, submit(ownHost)); again.Status != 303 || !b.alive(mine) { // pressed twice
		t.Errorf("the second time = %d", again.Status)
	}
	if b.signOut(ownHost + button(page, "Sign out")); b.alive(mine) {
		t.Error("signed out here, and still alive")
	}
}

// A handle is no permission: nobody ends what is not his.
func TestEndOneOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	alice := w.signedIn(mine)
	victim := w.store.made[len(w.store.made)-1]
	w.as("bob")
	bob := w.signedIn(mine)
	for session, want := range map[string]int{
		victim.String(): 303, strings.Repeat("A", 43): 303, "": 400, "junk": 400, victim.Name(): 400, victim.String() + "&session=" + victim.String(): 400, "%zz": 400,
	} {
		if out := bob.send("POST", ownHost+"/oauth2/sessions/end?session="+session, submit(ownHost)); out.Status != want {
			t.Errorf("session=%s: %d, want %d", session, out.Status, want)
		}
	}
	if !alice.alive(mine) || !bob.alive(mine) {
		t.Errorf("alive: alice %v, bob %v", alice.alive(mine), bob.alive(mine))
	}
	if !w.logged("session_not_listed", `"subject":"bob"`, victim.Name()) {
		t.Errorf("not in the log:\n%s", w.log)
	}
}

func TestEndOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	one, two, b := w.signedIn(mine), w.signedIn(mine), w.signedIn(mine)
	w.as("bob")
	bob := w.signedIn(mine)
	page, _ := b.list()
	out := b.send("POST", ownHost+button(page, "End all 2 others"), submit(ownHost))
	if out.Status != 303 || one.alive(mine) || two.alive(mine) || !b.alive(mine) || !bob.alive(mine) {
		t.Errorf("end others = %d; others alive %v %v, own %v, bob %v", out.Status, one.alive(mine), two.alive(mine), b.alive(mine), bob.alive(mine))
	}
	if !w.logged("other_sessions_ended", `"ended":2`) {
		t.Errorf("not in the log:\n%s", w.log)
	}
	page, _ = b.list()
	if button(page, "other") != "" {
		t.Error("there is a button for others where there are none")
	}
}

// B6, ASVS 7.4.2: what was stored is gone, records and index, and others' stays.
func TestErase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	other, b := w.signedIn(mine), w.signedIn(mine)
	app := w.signedIn(appHost + "/x")
	made, index := w.store.made, w.store.index
	w.as("bob")
	bob := w.signedIn(mine)
	page, _ := b.list()
	var erase string
	for _, a := range find(page, "a") {
		if strings.Contains(a.text, "Erase") {
			erase = a.attr["href"]
		}
	}
	out := b.send("GET", ownHost+erase, navigate)
	if out.Status != 200 || !b.alive(mine) {
		t.Fatalf("asking = %d, alive %v", out.Status, b.alive(mine))
	}
	out = b.send("POST", ownHost+button(parse(t, out.Body), "Erase and sign out everywhere"), submit(ownHost))
	if out.Status != 200 || !strings.Contains(string(out.Body), "All 3 sign-ins of alice ended") || b.session("auth.localhost") != "" {
		t.Errorf("erase = %d, cookie kept %v\n%s", out.Status, b.session("auth.localhost") != "", out.Body)
	}
	if other.alive(mine) || app.alive(appHost+"/x") || !bob.alive(mine) {
		t.Errorf("alive: other %v, application %v, bob %v", other.alive(mine), app.alive(appHost+"/x"), bob.alive(mine))
	}
	for _, h := range made {
		if _, _, err := w.store.Load(t.Context(), h, session.FieldSummary); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("record %s: %v", h.Name(), err)
		}
	}
	if left, err := w.store.List(t.Context(), index); len(left) != 0 || err != nil {
		t.Errorf("%d index entries are left, %v", len(left), err)
	}
	if !w.logged("data_erased", `"subject":"alice"`, `"ended":3`) {
		t.Errorf("not in the log:\n%s", w.log)
	}
}

// An erasing that stopped half way can be tried again: who asked for it is signed in.
func TestEraseTornInTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	other, b := w.signedIn(mine), w.signedIn(mine)
	w.store.ends.Store(1)
	erase := mine + "/erase?provider=corp"
	if out := b.send("POST", erase, submit(ownHost)); out.Status != 503 || !w.logged("erase_failed", `"ended":1`) {
		t.Errorf("erase = %d, want 503\n%s", out.Status, w.log)
	}
	if other.alive(mine) || !b.alive(mine) {
		t.Errorf("alive: other %v, own %v", other.alive(mine), b.alive(mine))
	}
	w.store.endsFail.Store(false)
	if out := b.send("POST", erase, submit(ownHost)); out.Status != 200 || b.alive(mine) {
		t.Errorf("again = %d, alive %v", out.Status, b.alive(mine))
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.signedIn(mine)
	b := w.signedIn(mine)
	out := b.send("GET", mine+"/data", navigate)
	var data struct {
		Accounts []struct {
			Issuer, Subject string
			ThisBrowser     []struct {
				Email  string
				Groups []string
				Claims map[string]any
			} `json:"this_browser"`
			SignIns []struct {
				Device, Address string
				ThisBrowser     bool `json:"this_browser"`
			} `json:"sign_ins"`
		}
	}
	if err := json.Unmarshal(out.Body, &data); err != nil || len(data.Accounts) != 1 {
		t.Fatalf("data: %v\n%s", err, out.Body)
	}
	a := data.Accounts[0]
	if a.Issuer != w.idp.Issuer() || a.Subject != "alice" || len(a.SignIns) != 2 || !a.SignIns[0].ThisBrowser || a.SignIns[1].ThisBrowser || a.SignIns[0].Device != firefox ||
		len(a.ThisBrowser) != 1 || a.ThisBrowser[0].Email != "alice@example.com" || a.ThisBrowser[0].Claims["name"] != "Alice Archer" {
		t.Errorf("data %+v", a)
	}
	if !strings.HasPrefix(field(*out, "content-disposition"), "attachment") || field(*out, "cross-origin-resource-policy") != "same-origin" || field(*out, "content-type") != "application/json" {
		t.Errorf("header %v", out.Header)
	}
	w.clean(string(out.Body))
	if !w.logged("data_downloaded", `"subject":"alice"`) {
		t.Error("not in the log")
	}
}

// C12 for everything on the page that changes something.
func TestC12SessionActions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	other, b := w.signedIn(mine), w.signedIn(mine)
	victim := w.store.made[0]
	fields := func(pairs ...string) []authz.Field {
		h := append([]authz.Field{}, navigate...)
		for i := 0; i < len(pairs); i += 2 {
			h = append(h, authz.Field{Name: pairs[i], Value: pairs[i+1]})
		}
		return h
	}
	for _, action := range []string{"end?session=" + victim.String(), "end_others?provider=corp", "erase?provider=corp"} {
		for name, header := range map[string][]authz.Field{
			"no witness":  fields(),
			"cross-site":  fields("sec-fetch-site", "cross-site", "origin", "https://evil.test"),
			"same-site":   fields("sec-fetch-site", "same-site"),
			"other app":   fields("origin", appHost),
			"null":        fields("origin", "null"),
			"disagreeing": fields("sec-fetch-site", "same-origin", "origin", "https://evil.test"),
			"two sites":   fields("sec-fetch-site", "same-origin", "sec-fetch-site", "same-origin"),
			"two origins": fields("origin", ownHost, "origin", ownHost),
			"port":        fields("origin", "http://auth.localhost"),
			"typed":       fields("sec-fetch-site", "none"),
		} {
			if out := b.send("POST", mine+"/"+action, header); out.Status != http.StatusForbidden {
				t.Errorf("%s, %s: %d, want 403", action, name, out.Status)
			}
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			out := b.send(method, mine+"/"+action, submit(ownHost))
			if asks := strings.HasPrefix(action, "erase") && method == "GET"; !asks && (out.Status != 405 || field(*out, "allow") == "") {
				t.Errorf("%s %s: %d, want 405", method, action, out.Status)
			}
		}
	}
	if !b.alive(mine) || !other.alive(mine) {
		t.Errorf("alive: own %v, other %v", b.alive(mine), other.alive(mine))
	}
	if !w.logged("session_action_refused", `"reason":"cross_origin"`) {
		t.Error("the refusals are not in the log")
	}
	if out := b.send("POST", mine+"/end_others?provider=other", submit(ownHost)); out.Status != 400 || !other.alive(mine) {
		t.Errorf("an account that is not there: %d", out.Status)
	}
	if out := w.browser().send("POST", mine+"/erase?provider=corp", submit(ownHost)); out.Status != 401 {
		t.Errorf("nobody: %d, want 401", out.Status)
	}
	// A browser that keeps the origin to itself is believed about the site.
	if out := b.send("POST", mine+"/end_others?provider=corp", fields("sec-fetch-site", "same-origin", "origin", "null")); out.Status != 303 || other.alive(mine) {
		t.Errorf("same-origin without an origin: %d, other alive %v", out.Status, other.alive(mine))
	}
}

// Promise 7: an outage changes nothing and says so.
func TestSessionsPageStoreDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	other, b := w.signedIn(mine), w.signedIn(mine)
	victim := w.store.made[0]
	try := func(outage func(bool), method, path string) {
		t.Helper()
		outage(true)
		out := b.send(method, mine+path, submit(ownHost))
		outage(false)
		if out.Status != 503 || field(*out, "retry-after") == "" || field(*out, "set-cookie") != "" {
			t.Errorf("%s %s = %d %v", method, path, out.Status, out.Header)
		}
	}
	try(w.store.down.Store, "GET", "")
	try(w.store.down.Store, "GET", "/data")
	for _, path := range []string{"/end?session=" + victim.String(), "/end_others?provider=corp", "/erase?provider=corp"} {
		try(w.store.down.Store, "POST", path)
		try(w.store.endsFail.Store, "POST", path)
	}
	if !b.alive(mine) || !other.alive(mine) {
		t.Errorf("alive: own %v, other %v", b.alive(mine), other.alive(mine))
	}
	for _, event := range []string{"sessions_unavailable", "session_end_failed", "sessions_end_failed", "erase_failed"} {
		if !w.logged(event, "store is down") {
			t.Errorf("%s is not in the log", event)
		}
	}
}

// W1: what a browser or a provider calls itself is text.
func TestW1SessionsPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	const evil = `"><script>alert(1)</script>`
	w.idp.Always(oidctest.Token, func(a *oidctest.Answer) {
		oidctest.Claim("preferred_username", evil)(a)
		oidctest.Claim("email", evil+"@example.com")(a)
	})
	b := w.browser()
	b.agent = evil + " Firefox/1"
	b.open(mine)
	page, text := b.list()
	if len(find(page, "script")) != 0 || !strings.Contains(find(page, "h2")[0].text, evil) {
		t.Errorf("not escaped:\n%s", text)
	}
	b.agent = evil + "/1"
	b.open(ownHost + "/oauth2/start?rd=/oauth2/sessions&prompt=login")
	if page, text = b.list(); len(find(page, "script")) != 0 {
		t.Errorf("not escaped:\n%s", text)
	}
}

func TestSessionsPageIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(mine)
	id := authz.Identity{Provider: "corp", Issuer: w.idp.Issuer(), Subject: "alice", User: "alice"}
	for i := range logout.MaxRows + 20 {
		s := session.Session{Identity: &id, Summary: session.Summary{Device: firefox, Address: fmt.Sprint("192.0.2.", i)}}
		if _, _, err := w.sessions.Create(t.Context(), fmt.Sprintf("attempt-number-%04d", i), s); err != nil {
			t.Fatal(err)
		}
	}
	page, text := b.list()
	if rows := find(page, "tr"); len(rows) != logout.MaxRows+1 || !strings.Contains(rows[1].text, "This one") || !strings.Contains(text, "21 more are not shown") {
		t.Errorf("%d rows, the first %q\n%.300s", len(rows), rows[1].text, text)
	}
	if out := b.send("GET", mine+"/data", navigate); strings.Count(string(out.Body), `"device"`) != logout.MaxRows+21 {
		t.Error("the download does not have all")
	}
}

// Two accounts in one browser: each is shown, and signed out of, by itself.
func TestTwoAccounts(t *testing.T) {
	t.Parallel()
	w := newWorldAt(t, true, func(w *world, lc *login.Config) {
		lc.Providers = append(lc.Providers, w.newProvider("other", "mesh", w.idp.Issuer()))
		lc.LoginHost.Providers = []string{"corp", "other"}
	})
	b := w.browser()
	b.open(ownHost + "/oauth2/start?provider=corp&rd=/oauth2/sessions")
	w.as("bob")
	b.open(ownHost + "/oauth2/start?provider=other&rd=/oauth2/sessions")
	page, text := b.list()
	if h := find(page, "h2"); len(h) != 2 || h[0].text != "alice" || h[1].text != "bob" || len(find(page, "tr")) != 4 {
		t.Fatalf("accounts %+v\n%s", h, text)
	}
	asks := b.send("GET", ownHost+"/oauth2/sign_out?provider=corp", navigate)
	if got := button(parse(t, asks.Body), "Sign out"); got != "/oauth2/sign_out?provider=corp" {
		t.Errorf("the page that asks leads to %s", got)
	}
	out := b.send("POST", ownHost+button(page, "Sign out"), submit(ownHost))
	_, last := b.open(field(*out, "location"))
	if last == nil || !strings.Contains(string(last.Body), "You are signed out") {
		t.Errorf("signed out = %s", last.Body)
	}
	if page, text = b.list(); len(find(page, "h2")) != 1 || find(page, "h2")[0].text != "bob" {
		t.Errorf("afterwards:\n%s", text)
	}
	_, last = b.open(ownHost+"/oauth2/sign_out?provider=junk", click)
	if last == nil || !strings.Contains(string(last.Body), "still signed in") || !b.alive(mine) {
		t.Errorf("a provider that is not there:\n%s", last.Body)
	}
}

// The same subject at two issuers is two people, also in one browser.
func TestSameSubjectAtTwoIssuers(t *testing.T) {
	t.Parallel()
	other := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	w := newWorldAt(t, true, func(w *world, lc *login.Config) {
		lc.Providers = append(lc.Providers, w.newProvider("other", "mesh", other.Issuer()))
		lc.LoginHost.Providers = []string{"corp", "other"}
	})
	b := w.browser()
	b.open(ownHost + "/oauth2/start?provider=corp&rd=/oauth2/sessions")
	at := ownHost + "/oauth2/start?provider=other&rd=/oauth2/sessions"
	for !strings.HasPrefix(at, other.Issuer()) {
		at = field(*b.send("GET", at, navigate), "location")
	}
	b.open(b.atProvider(at))
	if page, text := b.list(); len(find(page, "h2")) != 2 || len(find(page, "tr")) != 4 {
		t.Fatalf("want two accounts:\n%s", text)
	}
	if out := b.send("POST", mine+"/erase?provider=other", submit(ownHost)); out.Status != 200 || b.session("auth.localhost") == "" || !b.alive(mine) {
		t.Errorf("erase of one = %d, the other one alive %v", out.Status, b.alive(mine))
	}
}
