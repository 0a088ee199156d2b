package login

import (
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Render shows problems to people and programs: a navigation gets a redirect or
// a page, a program problem+json with its challenge, a gRPC client one line and
// never a cookie or an address. It fits authz.Config.Render and needs no Login.
func Render(r *authz.Request, p authz.Problem) authz.Response {
	if p.Status == http.StatusFound {
		if r.Caller == authz.Navigation && p.Challenge.Location != "" {
			return Redirect(http.StatusFound, p.Challenge.Location, p.Challenge.Clear...)
		}
		p.Status = http.StatusUnauthorized
	}
	page := problemPage(p)
	if r.Caller == authz.Navigation || r.Caller == authz.Fetch {
		page.Header = append(page.Header, p.Challenge.Clear...)
	}
	if (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) && p.Challenge.WWWAuthenticate != "" {
		page.Header = append(page.Header, authz.Field{Name: "www-authenticate", Value: p.Challenge.WWWAuthenticate})
	}
	if p.RetryAfter > 0 {
		page.Header = append(page.Header, retryAfter(p.RetryAfter))
	}
	return page.Response(r)
}

func retryAfter(d time.Duration) authz.Field {
	return authz.Field{Name: "retry-after", Value: strconv.Itoa(int(max(1, (d+time.Second-1)/time.Second)))}
}

func problemPage(p authz.Problem) Page {
	switch p.Status {
	case http.StatusBadRequest:
		return badRequestPage(p.Reason)
	case http.StatusUnauthorized:
		page := Page{Title: "Sign in to go on", Text: []string{"This address needs a sign-in, and the request came without a valid one."}, Status: p.Status}
		if p.Challenge.Location != "" {
			page.Text = append(page.Text, "What you sent was not delivered. Sign in, then send it again.")
			page.Actions = []Action{{Label: "Sign in", Address: p.Challenge.Location}}
		}
		return page
	case http.StatusForbidden:
		return forbiddenPage(p)
	case http.StatusNotFound:
		return Page{Status: p.Status, Title: "There is nothing here", Text: []string{"The address is not known. Check it for a typing error."}}
	case http.StatusMethodNotAllowed:
		return Page{Status: p.Status, Title: "This cannot be done here", Text: []string{"The address exists, but does not take this kind of request."}}
	case http.StatusTooManyRequests:
		return Page{Status: p.Status, Title: "Too many requests", Text: []string{"Wait a moment, then try again."}}
	case http.StatusServiceUnavailable:
		return Page{Status: p.Status, Title: "Not available just now", Text: []string{
			"Whether you may pass could not be found out, so the request was not let through.",
			"You have not been signed out. Try again in a moment.",
		}}
	default:
		return Page{Status: p.Status, Title: "Something went wrong", Text: []string{
			"The request was not let through. Try again; when it happens again, give the number below to whoever runs this site.",
		}}
	}
}

func badRequestPage(reason string) Page {
	page := Page{Status: http.StatusBadRequest, Title: "The request could not be understood"}
	if reason == "ambiguous_path" {
		page.Text = []string{"The address can be read in more than one way, so it was refused. Write it without encoded slashes, dots or semicolons."}
		return page
	}
	page.Text = []string{"The address or a header is malformed. Check the address for a typing error."}
	return page
}

func forbiddenPage(p authz.Problem) Page {
	page := Page{Status: p.Status, Title: "You may not go there"}
	switch p.Reason {
	case "no_rule":
		page.Text = []string{"Nobody has been given access to this address."}
	case "headers_too_large":
		page.Text = []string{"You are in so many groups that the list cannot be passed on. Ask whoever runs this site to have it shortened."}
	default:
		page.Text = []string{"You are signed in, but your account has no access to this address. Ask whoever runs this site for access, or sign in as somebody else."}
		if p.Challenge.Location != "" {
			page.Actions = []Action{{Label: "Sign in as somebody else", Address: p.Challenge.Location + "&prompt=login"}}
		}
	}
	return page
}
