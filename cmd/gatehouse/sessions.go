package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
)

func sessionsCommand() *cobra.Command {
	sessions := &cobra.Command{
		Use:   "sessions",
		Short: "List and end the sessions of a user, through the admin API of a running Gatehouse",
	}
	sessions.AddCommand(sessionsListCommand(), sessionsRevokeCommand())
	return sessions
}

const sessionsExits = "Exit codes: 0 done, 1 failure, 2 wrong flags or something the admin API refuses to do."

func sessionsListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list (--config FILE | --address ADDRESS) --provider NAME --subject SUB",
		Short: "List the live sessions of a user",
		Long:  "List the live sessions of a user, the one seen last first.\n" + sessionsExits,
		Args:  cobra.NoArgs,
	}
	call := newAdminCall(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return call.do(c.Context(), func(ctx context.Context, client adminv1.SessionsClient) error {
			resp, err := client.List(ctx, &adminv1.ListRequest{User: call.user()})
			if err != nil {
				return call.refused("cannot list", err)
			}
			warnOfIssuer(c.ErrOrStderr(), resp.GetIssuerUnknown(), resp.GetIssuer())
			return call.writeList(c.OutOrStdout(), resp)
		})
	}
	return c
}

func sessionsRevokeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke (--config FILE | --address ADDRESS) --provider NAME --subject SUB [--session NAME]",
		Short: "End all sessions of a user, or one of them",
		Long: "End all sessions of a user and his logins under way, or one session, on every replica.\n" +
			"After exit code 1 the user may still be signed in.\n" + sessionsExits,
		Args: cobra.NoArgs,
	}
	call := newAdminCall(c)
	name := c.Flags().String("session", "", "name of the one session to end, from the list; all when left out")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if c.Flags().Changed("session") && *name == "" { // an empty variable in a script must not mean all
			return errors.New("--session is empty: name one session, or leave the flag out to end all")
		}
		return call.do(c.Context(), func(ctx context.Context, client adminv1.SessionsClient) error {
			resp, err := client.Revoke(ctx, &adminv1.RevokeRequest{User: call.user(), Session: *name})
			if err != nil {
				return call.notRevoked(c.OutOrStdout(), err)
			}
			warnOfIssuer(c.ErrOrStderr(), resp.GetIssuerUnknown(), resp.GetIssuer())
			return call.writeRevoked(c.OutOrStdout(), resp, nil)
		})
	}
	return c
}

// refused is a call that did not work out. What the API refuses is a mistake of the
// user's; whatever else is a failure.
func (a *adminCall) refused(what string, err error) error {
	st := status.Convert(err)
	message := fmt.Errorf("%s: %s", what, printable(st.Message()))
	switch st.Code() {
	case codes.InvalidArgument:
		return message
	case codes.Unimplemented:
		return failure{fmt.Errorf("%w: is %s the admin listener?", message, *a.address)}
	case codes.Unavailable, codes.DeadlineExceeded:
		return failure{fmt.Errorf("%w (asked %s)", message, *a.address)}
	default:
		return failure{message}
	}
}

// notRevoked says what was ended all the same, if that is known.
func (a *adminCall) notRevoked(w io.Writer, err error) error {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if resp, ok := d.(*adminv1.RevokeResponse); ok {
			refused := a.refused("not ended", err)
			if *a.asJSON {
				return errors.Join(refused, a.writeRevoked(w, resp, refused))
			}
			return refused
		}
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.Unauthenticated, codes.FailedPrecondition:
		return a.refused("not ended", err)
	default: // the answer may have been lost, and not the call
		return a.refused("not known to be ended, the user may still be signed in", err)
	}
}

func warnOfIssuer(w io.Writer, unknown bool, issuer string) {
	if unknown {
		fmt.Fprintf(w, "warning: no provider in Gatehouse's configuration has the issuer %s: is it spelled right?\n", printable(issuer))
	}
}

// listedSession is a session in JSON.
type listedSession struct {
	Name    string     `json:"name"`
	Device  string     `json:"device"`
	Address string     `json:"address"`
	Created *time.Time `json:"created,omitempty"` // absent: the record is damaged
	Seen    time.Time  `json:"seen"`
}

func (a *adminCall) writeList(w io.Writer, resp *adminv1.ListResponse) error {
	all := make([]listedSession, 0, len(resp.GetSessions()))
	for _, s := range resp.GetSessions() {
		l := listedSession{Name: printable(s.GetName()), Device: printable(s.GetDevice()), Address: printable(s.GetAddress()), Seen: s.GetSeen().AsTime()}
		if s.GetCreated() != nil {
			l.Created = known(s.GetCreated().AsTime())
		}
		all = append(all, l)
	}
	if *a.asJSON {
		return writeJSON(w, map[string]any{"issuer": resp.GetIssuer(), "issuer_unknown": resp.GetIssuerUnknown(), "total": resp.GetTotal(), "sessions": all})
	}
	if len(all) == 0 {
		fmt.Fprintf(w, "%s has no live session\n", a.who())
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SESSION\tLAST SEEN\tSINCE\tADDRESS\tDEVICE")
	for _, s := range all {
		since := "cannot be read"
		if s.Created != nil {
			since = local(*s.Created)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Name, local(s.Seen), since, s.Address, s.Device)
	}
	if more := int(resp.GetTotal()) - len(all); more > 0 {
		fmt.Fprintf(t, "and %d more\n", more)
	}
	return t.Flush()
}

func (a *adminCall) writeRevoked(w io.Writer, resp *adminv1.RevokeResponse, failed error) error {
	if *a.asJSON {
		answer := map[string]any{"issuer": resp.GetIssuer(), "issuer_unknown": resp.GetIssuerUnknown(), "ended": resp.GetEnded(), "complete": failed == nil}
		if failed != nil {
			answer["error"] = failed.Error()
		}
		return writeJSON(w, answer)
	}
	switch n := resp.GetEnded(); n {
	case 0:
		fmt.Fprintf(w, "%s had no live session; nothing to end\n", a.who())
	case 1:
		fmt.Fprintf(w, "1 session of %s has ended\n", a.who())
	default:
		fmt.Fprintf(w, "%d sessions of %s have ended\n", n, a.who())
	}
	return nil
}

// who is the user as the flags named him.
func (a *adminCall) who() string {
	if *a.provider != "" {
		return printable(*a.subject + " at " + *a.provider)
	}
	return printable(*a.subject + " at " + *a.issuer)
}
