package logout

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
)

// maxRows bounds the page; what is not shown is counted.
const maxRows = 100

var (
	//go:embed sessions.html
	listText     string
	listTemplate = template.Must(template.New("sessions").Parse(listText))
)

// accountView is an account as the page shows it.
type accountView struct {
	ID                     int // of the heading, unique on the page
	Name, Email, Provider  string
	Rows                   []row
	More                   int // sign-ins that are not shown
	Others                 int // sign-ins on other devices
	EndOthers, Data, Erase string
}

type row struct {
	Device, Address string
	Created, Seen   time.Time
	Here            bool
	End             string // address of the button
}

// When shows a time to a person. The page has no script that could know the zone.
func (r row) When(t time.Time) string { return t.Format("2 Jan 2006, 15:04 UTC") }

// Machine is the same for the datetime attribute.
func (r row) Machine(t time.Time) string { return t.Format(time.RFC3339) }

// page shows everything that is signed in as the browser's users.
func (l *Logout) page(ctx context.Context, r *authz.Request, accounts []*account) authz.Response {
	if !login.ByPerson(r) {
		return l.download(ctx, r, accounts)
	}
	var views []accountView
	for i, a := range accounts {
		views = append(views, l.view(i, a))
		l.note(ctx, r, slog.LevelInfo, "sessions_shown", a, slog.Int("sign_ins", len(a.listed)))
	}
	var body bytes.Buffer
	if err := listTemplate.Execute(&body, views); err != nil { // the template is ours and fixed: only a test can see this
		return l.cannotTell(ctx, r, fmt.Errorf("page: %w", err))
	}
	return login.Page{
		Status: http.StatusOK, Title: "My sign-ins", Wide: true, Referrer: "same-origin", FormTargets: l.targets(l.cfg.Login.Carried(r)),
		Body: template.HTML(body.String()), //nolint:gosec // html/template made it
	}.Response(r)
}

func (l *Logout) view(i int, a *account) accountView {
	id := a.identity()
	v := accountView{
		ID: i, Name: a.name(), Email: id.Email, Provider: id.Provider,
		EndOthers: at(l.address("sessions/end_others"), "provider", id.Provider),
		Data:      l.address("sessions/data"),
		Erase:     at(l.address("sessions/erase"), "provider", id.Provider),
	}
	if v.Email == v.Name {
		v.Email = ""
	}
	for _, s := range a.listed {
		own := a.own(s.Handle)
		if own == nil {
			v.Others++
		}
		if len(v.Rows) == maxRows {
			v.More++
			continue
		}
		end := at(l.address("sessions/end"), "session", s.Handle.String())
		if own != nil {
			end = at(l.address("sign_out"), "provider", own.Provider.Name())
		}
		v.Rows = append(v.Rows, row{device(s.Summary.Device), s.Summary.Address, s.Created.UTC(), s.Seen.UTC(), own != nil, end})
	}
	return v
}
